"""The worker under everything that can happen to it: it answers every ticket, and never blocks the caller."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from multiprocessing import get_all_start_methods
from pathlib import Path

import numpy as np
import pytest
from serving_stubs import resident_kb, wait_for
from worker_jobs import MakeBroken, MakeSlow, make_player

from cupid_core.config.ros import RosWorkerConfig
from cupid_core.errors import CupidError
from cupid_core.reconstruct.progress import Progress
from cupid_core.serving.engine import InProcessEngine, Ticket
from cupid_core.serving.errors import ImageSizeError, WorkerClosedError
from cupid_core.serving.worker import Worker
from cupid_core.serving.worker_process import FORK_SERVER, ForkServer, WorkerProcess

QUICK = RosWorkerConfig(deadline_s=60.0, grace_s=0.2, restart_pause_s=0.0, startup_s=60.0)
NONE: dict[str, np.ndarray] = {}


def answer(ticket: Ticket, seconds: float = 60.0) -> object:
    wait_for(lambda: ticket.done, seconds)
    return ticket.outcome()


def code(ticket: Ticket, seconds: float = 60.0) -> str:
    outcome = answer(ticket, seconds)
    assert isinstance(outcome, CupidError), outcome
    assert outcome.hint
    return outcome.code


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(make_player, QUICK) as worker:
        yield worker


def start(worker: Worker, **request: object) -> Ticket:
    """Hand in a request and wait until the process works on it."""
    ticket = worker.submit(request, NONE)
    wait_for(lambda: ticket.started is not None)
    return ticket


@pytest.mark.skipif("forkserver" not in get_all_start_methods(), reason="there is no forkserver on this system")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="parents of processes are read from /proc")
def test_processes_are_forked_from_a_server_that_has_imported_torch_once_it_is_there() -> None:
    server = ForkServer()
    assert server.context().get_start_method() == "spawn", "nobody waits for it"
    FORK_SERVER.begin()
    wait_for(FORK_SERVER.ready.is_set)
    parents = []
    for _ in range(2):
        process = WorkerProcess.start(make_player)
        assert process.connection.recv() == ("ready", None)
        stat = Path(f"/proc/{process.handle.pid}/stat").read_text()
        parents.append(int(stat.rsplit(")", 1)[1].split()[1]))
        process.kill()
        assert process.handle.exitcode == -signal.SIGKILL
    assert parents[0] == parents[1] != os.getpid()
    assert "libtorch" in Path(f"/proc/{parents[0]}/maps").read_text()


def test_images_arrive_unchanged(worker: Worker) -> None:
    rng = np.random.default_rng(0)
    for height, width in ((480, 640), (7, 5), (720, 1280), (1, 1)):
        pixels = {
            "image": rng.integers(0, 255, (height, width, 3), dtype=np.uint8),
            "depth": rng.integers(0, 9, (height, width)).astype(np.float32),
            "slice": rng.integers(0, 9, (height, 2 * width), dtype=np.int32)[:, ::2],
        }
        expected = {name: (int(image.astype(np.int64).sum()), image.shape) for name, image in pixels.items()}
        assert answer(worker.submit({"do": "sum"}, pixels)) == expected


def test_progress_reaches_the_caller(worker: Worker) -> None:
    received: list[Progress] = []
    answer(worker.submit({"do": "pid"}, NONE, on_progress=received.append))
    assert received == [Progress("structure", 0.0)]


def test_every_pose_reaches_the_caller(worker: Worker) -> None:
    received: list[Progress] = []
    answer(worker.submit({"do": "poses"}, NONE, on_progress=received.append))
    assert [pose.id for progress in received for pose in progress.poses] == list(range(20))


def test_an_error_of_the_listener_does_not_end_the_process(worker: Worker) -> None:
    def broken(progress: Progress) -> None:
        raise RuntimeError("the listener is broken")

    pid = answer(worker.submit({"do": "pid"}, NONE))
    assert answer(worker.submit({"do": "pid"}, NONE, on_progress=broken)) == pid


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("ours", "checkpoint_invalid"),
        ("theirs", "job_failed"),
        ("unpicklable", "job_failed"),
        ("memory", "out_of_memory"),
        ("write", "job_failed"),
    ],
)
def test_errors_of_the_job_have_codes_and_leave_the_process_alive(
    worker: Worker, word: str, expected: str
) -> None:
    before = answer(worker.submit({"do": "pid"}, NONE))
    assert code(worker.submit({"do": word}, {"image": np.zeros((2, 2), np.uint8)})) == expected
    assert answer(worker.submit({"do": "pid"}, NONE)) == before


def test_a_killed_process_is_replaced_and_its_request_answered(worker: Worker) -> None:
    ticket = start(worker, do="hang")
    pid = worker.stats().pid
    assert pid is not None
    waiting = worker.submit({"do": "pid"}, NONE)
    os.kill(pid, signal.SIGKILL)
    assert code(ticket, 10.0) == "worker_died"
    assert f"signal {int(signal.SIGKILL)}" in str(ticket.outcome())
    assert answer(waiting) != pid, "the request that waited is carried out by the new process"


def test_a_process_that_exits_is_replaced(worker: Worker) -> None:
    assert code(worker.submit({"do": "die"}, NONE)) == "worker_died"
    assert isinstance(answer(worker.submit({"do": "pid"}, NONE)), int)


def test_a_hanging_job_is_answered_at_its_deadline_and_killed(worker: Worker) -> None:
    answer(worker.submit({"do": "pid"}, NONE))
    restarts, begun = worker.stats().restarts, time.monotonic()
    late = worker.submit({"do": "hang"}, NONE, deadline_s=0.3)
    assert code(late, 5.0) == "deadline_exceeded"
    assert time.monotonic() - begun < 4.0
    assert isinstance(answer(worker.submit({"do": "pid"}, NONE)), int)
    assert worker.stats().restarts == restarts + 1


def test_a_job_that_checks_for_cancellation_stops_at_its_deadline_without_a_restart(worker: Worker) -> None:
    pid = answer(worker.submit({"do": "pid"}, NONE))
    assert code(worker.submit({"do": "sleep", "s": 30.0}, NONE, deadline_s=0.2), 5.0) == "deadline_exceeded"
    assert answer(worker.submit({"do": "pid"}, NONE)) == pid


def test_a_waiting_request_has_a_deadline_too(worker: Worker) -> None:
    busy = start(worker, do="sleep", s=1.0)
    assert code(worker.submit({"do": "pid"}, NONE, deadline_s=0.1), 0.9) == "deadline_exceeded"
    assert answer(busy) == "slept"


def test_cancel_answers_at_once_and_frees_the_process(worker: Worker) -> None:
    pid = answer(worker.submit({"do": "pid"}, NONE))
    running = start(worker, do="sleep", s=30.0)
    waiting = worker.submit({"do": "pid"}, NONE)
    worker.cancel(waiting)
    worker.cancel(running)
    assert (code(waiting, 0.1), code(running, 0.1)) == ("cancelled", "cancelled")
    worker.cancel(running)  # a second time changes nothing
    assert answer(worker.submit({"do": "pid"}, NONE)) == pid


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_thousand_images_while_busy_keep_one_waiting_and_no_memory(worker: Worker) -> None:
    busy = start(worker, do="sleep", s=30.0)
    submitted = worker.stats().superseded
    image = np.zeros((480, 640, 3), np.uint8)
    sizes, slowest, tickets = [], 0.0, []
    for number in range(1000):
        begun = time.perf_counter()
        tickets.append(worker.submit({"do": "sum"}, {"image": image.copy()}))
        slowest = max(slowest, time.perf_counter() - begun)
        assert worker.stats().waiting <= 1
        tickets = tickets[-2:]
        if number % 100 == 99:
            sizes.append(resident_kb())
    assert worker.stats().superseded == submitted + 999
    assert code(tickets[0]) == "superseded"
    slope_kb = (sizes[-1] - sizes[1]) / 800
    assert slope_kb < 5.0, f"{slope_kb:.1f} kB per image of 900 kB; {sizes}"
    assert slowest < 0.5, "the caller does not wait for the process"
    worker.cancel(busy)
    assert answer(tickets[1])["image"] == (0, (480, 640, 3))  # type: ignore[index]


def test_a_request_larger_than_the_limit_is_refused() -> None:
    small = QUICK.model_copy(update={"max_request_mb": 1})
    with Worker(make_player, small) as worker, pytest.raises(ImageSizeError, match="allowed are 1"):
        worker.submit({"do": "sum"}, {"image": np.zeros((1000, 2000), np.uint8)})


def test_close_answers_all_tickets_and_leaves_no_process() -> None:
    worker = Worker(make_player, QUICK)
    running = start(worker, do="hang")
    waiting = worker.submit({"do": "pid"}, NONE)
    pid = worker.stats().pid
    assert pid is not None
    begun = time.monotonic()
    worker.close()
    worker.close()
    assert time.monotonic() - begun < 5.0
    assert (code(running), code(waiting)) == ("worker_closed", "worker_closed")
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(WorkerClosedError):
        worker.submit({"do": "pid"}, NONE)


def test_a_job_that_fails_to_load_is_reported_and_tried_again(tmp_path: Path) -> None:
    with Worker(MakeBroken(tmp_path / "there"), QUICK) as worker:
        assert code(worker.submit({"do": "pid"}, NONE)) == "checkpoint_invalid"
        restarts = worker.stats().restarts
        time.sleep(0.3)
        assert worker.stats().restarts <= restarts + 1, "without a request it does not try forever"
        (tmp_path / "there").touch()
        assert isinstance(answer(worker.submit({"do": "pid"}, NONE)), int)


def test_a_job_that_hangs_while_loading_is_killed() -> None:
    with Worker(MakeSlow(600.0), QUICK.model_copy(update={"startup_s": 0.5})) as worker:
        assert code(worker.submit({"do": "pid"}, NONE), 30.0) == "worker_start"


def test_the_in_process_engine_gives_the_same_answers() -> None:
    engine = InProcessEngine(make_player)
    image = np.ones((3, 4), np.uint8)
    assert engine.submit({"do": "sum"}, {"image": image}).outcome() == {"image": (12, (3, 4))}
    assert code(engine.submit({"do": "ours"}, NONE)) == "checkpoint_invalid"
    assert code(engine.submit({"do": "sleep", "s": 30.0}, NONE, deadline_s=0.05)) == "cancelled"
