"""Several processes: a task that fails, or ends its process, affects no other."""

import os

from cupid_core.data.assets.workers import do_all
from cupid_core.errors import DatasetError


def work(task):
    if task == "end":
        os._exit(3)
    if task == "refuse":
        raise DatasetError("It is damaged.", hint="Leave it out.")
    if task == "stumble":
        raise RuntimeError("unforeseen")
    return task.upper()


TASKS = ["a", "end", "refuse", "stumble", "b", "c"]


def test_failures_cost_only_themselves():
    found = {outcome.task: outcome for outcome in do_all(work, TASKS, processes=2)}
    assert set(found) == set(TASKS)
    assert [found[task].result for task in "abc"] == ["A", "B", "C"]
    assert found["end"].code == "process_ended" and "3" in found["end"].reason
    assert found["refuse"].code == "dataset_invalid" and found["stumble"].code == "unexpected"


def test_one_process_answers_as_several():
    tasks = [task for task in TASKS if task != "end"]
    outcomes = list(do_all(work, tasks, processes=1))
    assert [outcome.task for outcome in outcomes] == tasks
    assert [outcome.code for outcome in outcomes] == ["", "dataset_invalid", "unexpected", "", ""]
