"""The server and its worker process under every fault: it continues, and gives no old results.

Each fault must reach the counters that diagnostics are made of, under its own code. Waits end when something has
happened, never after a time that a busy machine could exceed.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_stubs import SECOND, detection, frame, make_actor, resident_kb, wait_for

from cupid_core import config as settings_of
from cupid_core.config import CupidConfig, RosConfig
from cupid_core.config.ros import RosWorkerConfig
from cupid_core.errors import CupidError
from cupid_core.serving.records import Observation
from cupid_core.serving.requests import FailedRequest, PendingRequest
from cupid_core.serving.server import Server
from cupid_core.serving.worker import Worker

QUICK = RosWorkerConfig(deadline_s=300.0, grace_s=0.2, restart_pause_s=0.0, startup_s=300.0)
TIMEOUT_S = 240.0


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(make_actor, QUICK) as worker:
        yield worker


@pytest.fixture
def server(worker: Worker) -> Iterator[Server]:
    """A server with a worker that earlier tests have disturbed; after the test it must still give the newest."""
    server = Server(worker, RosConfig(worker=QUICK))
    yield server
    after = server.offer(frame(detection("after", 5), at_s=50.0))
    assert after is not None
    (observation,) = (result for result in results_of(server, after) if isinstance(result, Observation))
    assert [item.id for item in observation.objects] == ["after"] and observation.stamp_ns == 150 * SECOND


def results_of(server: Server, pending: PendingRequest) -> list[Observation | FailedRequest]:
    wait_for(lambda: pending.ticket.done)
    return server.collect()


def start(server: Server, word: str, deadline_s: float | None = None) -> PendingRequest:
    """A request that the process works on; `word` says what it does there."""
    server.config = server.config.model_copy(update={"mode": "on_request"})
    server.offer(frame(detection("1", 5, word=word)))
    pending = server.request(deadline_s=deadline_s)
    wait_for(lambda: pending.ticket.started is not None)
    server.config = server.config.model_copy(update={"mode": "continuous"})
    return pending


def assert_fails(server: Server, pending: PendingRequest, code: str) -> None:
    """The request fails with this code, which the counters hold."""
    (result,) = results_of(server, pending)
    assert isinstance(result, FailedRequest) and result.error.code == code and result.error.hint
    assert server.stats.codes[code] >= 1 and f"[{code}]" in server.stats.last_error
    with pytest.raises(CupidError):
        server.latest("1")


def test_a_worker_killed_in_the_middle_of_a_request(server: Server, worker: Worker) -> None:
    pending = start(server, "slow")
    pid = worker.stats().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert_fails(server, pending, "worker_died")
    wait_for(lambda: worker.stats().pid not in (None, pid))


def test_a_worker_that_hangs_past_the_deadline_is_replaced(server: Server, worker: Worker) -> None:
    wait_until_ready(worker)
    restarts = worker.stats().restarts
    assert_fails(server, start(server, "hang", deadline_s=1.0), "deadline_exceeded")
    wait_for(lambda: worker.stats().restarts == restarts + 1)


def wait_until_ready(worker: Worker) -> None:
    """So that a short deadline covers the work and not the start of the process."""
    wait_for(lambda: worker.stats().ready)


def test_a_worker_that_exits(server: Server) -> None:
    assert_fails(server, start(server, "die"), "worker_died")


def test_an_object_that_ends_the_worker_is_tried_once(server: Server, worker: Worker) -> None:
    wait_until_ready(worker)
    restarts = worker.stats().restarts
    crashing = (detection("beside", 30), detection("1", 5, word="die"))
    pending = server.offer(frame(*crashing))
    assert pending is not None
    wait_for(lambda: pending.ticket.done)
    assert server.offer(frame(*crashing, at_s=0.1)) is None, "also before the result is collected"
    assert_fails(server, pending, "worker_died")
    for number in range(2, 20):
        assert server.offer(frame(*crashing, at_s=0.1 * number)) is None
    new = server.offer(frame(*crashing, detection("new", 45), at_s=2.0))
    assert new is not None and [target.id for target in new.targets.values()] == ["new"]
    results_of(server, new)
    (observation,) = results_of(server, server.request(ids=["beside"]))
    assert isinstance(observation, Observation) and [item.id for item in observation.objects] == ["beside"]
    assert server.stats.codes["worker_died"] == 1 and worker.stats().restarts == restarts + 1
    server.clear()
    again = server.offer(frame(*crashing, at_s=3.0))
    assert again is not None and len(again.targets) == 2
    assert_fails(server, again, "worker_died")


def test_a_waiting_request_is_superseded_by_newer_frames(server: Server, worker: Worker) -> None:
    busy = start(server, "slow")
    pendings = [server.offer(frame(detection(f"new_{number}", 30), at_s=1.0 + number)) for number in range(3)]
    assert worker.stats().waiting == 1
    worker.cancel(busy.ticket)
    last = pendings[-1]
    assert last is not None
    results = results_of(server, last)
    codes = [result.error.code for result in results if isinstance(result, FailedRequest)]
    assert sorted(codes) == ["cancelled", "superseded", "superseded"]
    (observation,) = (result for result in results if isinstance(result, Observation))
    assert [item.id for item in observation.objects] == ["new_2"] and observation.stamp_ns == 103 * SECOND
    assert server.stats.codes["superseded"] == 2


@pytest.mark.parametrize(
    ("name", "value"), [("worker.deadline_s", 0.0), ("worker.grace_s", -1.0), ("mode", "sometimes"), ("seed", 0.5)]
)
def test_a_setting_out_of_range_is_refused_and_counted(server: Server, name: str, value: object) -> None:
    values: Any = value
    for key in reversed(f"ros.{name}".split(".")):
        values = {key: values}
    with pytest.raises(CupidError) as caught:
        settings_of.from_mapping(CupidConfig, values)
    assert caught.value.code == "invalid_config" and name.rsplit(".")[-1] in str(caught.value)
    server.note_problem(caught.value)
    assert server.stats.codes["invalid_config"] == 1 and "[invalid_config]" in server.stats.last_error


@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"preset": "superb"}, "invalid_request"), ({"deadline_s": math.nan}, "invalid_request"),
     ({"deadline_s": -1.0}, "invalid_request"), ({"ids": ["9"]}, "no_objects")],
)  # fmt: skip
def test_an_impossible_request_is_refused(server: Server, wrong: dict[str, Any], code: str) -> None:
    server.config = server.config.model_copy(update={"mode": "on_request"})
    server.offer(frame(detection("1", 5)))
    with pytest.raises(CupidError) as caught:
        server.request(**wrong)
    assert caught.value.code == code and caught.value.hint
    server.config = server.config.model_copy(update={"mode": "continuous"})


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_thousand_frames_with_a_busy_worker_need_no_memory(server: Server, worker: Worker) -> None:
    busy = start(server, "hang")
    sizes: list[int] = []
    last: PendingRequest | None = None
    for number in range(1000):
        last = server.offer(frame(detection(f"track{number}x", 5), at_s=0.03 * number)) or last
        assert worker.stats().waiting <= 1
        server.collect()
        if number % 50 == 49:
            sizes.append(resident_kb())
    assert not busy.ticket.done and last is not None
    slope_kb = float(np.polyfit(range(10, len(sizes)), sizes[10:], 1)[0]) / 50
    assert server.stats.codes["superseded"] == 999 and slope_kb < 5.0, sizes
    worker.cancel(busy.ticket)
    newest = [result for result in results_of(server, last) if isinstance(result, Observation)]
    assert [item.id for result in newest for item in result.objects] == ["track999x"]


SHUTDOWN = """
import os, sys, time
sys.path[:0] = sys.argv[1:]
from serving_stubs import make_actor
from test_server_faults import QUICK, start
from cupid_core.config import RosConfig
from cupid_core.serving.server import Server
from cupid_core.serving.worker import Worker

if __name__ == "__main__":
    server = Server(Worker(make_actor, QUICK), RosConfig())
    pending = start(server, "hang")
    print(server.engine.stats().pid, flush=True)
    server.close()
    assert pending.ticket.outcome().code == "worker_closed"
    (result,) = server.collect()
    assert result.error.code == "worker_closed" and server.stats.codes["worker_closed"] == 1
"""


def test_shutdown_in_the_middle_of_a_request(tmp_path: Path) -> None:
    script = tmp_path / "shutdown.py"
    script.write_text(SHUTDOWN)
    # This folder, that of serving_stubs, and the packages that are tested.
    paths = [str(Path(__file__).parents[up]) for up in (0, 2, 3)]
    done = subprocess.run(
        [sys.executable, str(script), *paths], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not Path(f"/proc/{int(done.stdout)}").exists(), "its process has ended"
