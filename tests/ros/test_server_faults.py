"""The server and its worker process under every fault, without ROS: it lives on and shows nothing old.

Each fault must reach the record that diagnostics are made of, under a code of its own. Waits end when something
has happened, never after a time that a busy machine could exceed.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from acting_job import make_actor
from test_server import SECOND, found, frame, messages

from cupid_core import config as settings_of
from cupid_core.config import CupidConfig, RosConfig
from cupid_core.config.ros import RosWorkerConfig
from cupid_core.errors import CupidError
from cupid_ros.convert.detections import Detection, make_detections
from cupid_ros.convert.header import Stamped
from cupid_ros.convert.image import make_image
from cupid_ros.diagnostics import ProblemWatch
from cupid_ros.intake import FrameMessages, read_frame
from cupid_ros.messages import BagMessageTypes
from cupid_ros.results import Observation
from cupid_ros.server import Failed, Order, Server
from cupid_ros.worker import Worker

if TYPE_CHECKING:
    from conftest import Tell

QUICK = RosWorkerConfig(deadline_s=300.0, grace_s=0.2, restart_pause_s=0.0, startup_s=300.0)
NOW = Stamped(100 * SECOND, "camera")
PATIENCE_S = 240.0


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker(make_actor, QUICK) as worker:
        yield worker


@pytest.fixture
def server(worker: Worker) -> Iterator[Server]:
    """A server of a worker that other tests have hurt; afterwards it still works and gives what is new."""
    it = Server(worker, RosConfig(worker=QUICK))
    yield it
    after = it.offer(frame(found("after", 5), at_s=50.0))
    assert after is not None
    (seen,) = (result for result in results_of(it, after) if isinstance(result, Observation))
    assert [item.id for item in seen.objects] == ["after"] and seen.stamp_ns == 150 * SECOND


def wait_for(what: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def results_of(server: Server, order: Order) -> list[Observation | Failed]:
    wait_for(lambda: order.ticket.done)
    return server.collect()


def at_work(server: Server, word: str, deadline_s: float | None = None) -> Order:
    """An order that the process works on; `word` says what it does there."""
    server.config = server.config.model_copy(update={"mode": "on_request"})
    server.offer(frame(Detection("1", word, 0.5, (5.0, 10.0, 15.0, 20.0))))
    order = server.request(deadline_s=deadline_s)
    wait_for(lambda: order.ticket.started is not None)
    server.config = server.config.model_copy(update={"mode": "continuous"})
    return order


def told(server: Server, code: str) -> str:
    """What diagnostics say, after checking that the code is among it."""
    status = ProblemWatch(server.stats).status("active")
    assert int(status.values[f"count of {code}"]) >= 1 and status.level > 0
    return f"{status.message} {status.values['last error']}"


def failed(server: Server, order: Order, code: str) -> None:
    """The order gave nothing but an error with this code, which diagnostics tell."""
    (result,) = results_of(server, order)
    assert isinstance(result, Failed) and result.error.code == code and result.error.hint
    assert f"[{code}]" in told(server, code)
    with pytest.raises(CupidError):
        server.latest("1")


def test_worker_killed_in_the_middle_of_a_goal(server: Server, worker: Worker) -> None:
    order = at_work(server, "slow")
    pid = worker.stats().pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    failed(server, order, "worker_died")
    wait_for(lambda: worker.stats().pid not in (None, pid))


def test_worker_hung_past_its_deadline(server: Server, worker: Worker) -> None:
    answer(worker)
    restarts = worker.stats().restarts
    failed(server, at_work(server, "hang", deadline_s=1.0), "deadline_exceeded")
    wait_for(lambda: worker.stats().restarts == restarts + 1)


def answer(worker: Worker) -> None:
    """Wait until the process is ready, so that a short deadline is about the work and not about its start."""
    wait_for(lambda: worker.stats().ready)


def test_a_worker_that_exits(server: Server) -> None:
    failed(server, at_work(server, "die"), "worker_died")


def test_an_object_that_ends_the_worker_is_tried_once(server: Server, worker: Worker) -> None:
    answer(worker)
    restarts = worker.stats().restarts
    deadly = (found("beside", 30), Detection("1", "die", 0.5, (5.0, 10.0, 15.0, 20.0)))
    order = server.offer(frame(*deadly))
    assert order is not None
    wait_for(lambda: order.ticket.done)
    assert server.offer(frame(*deadly, at_s=0.1)) is None, "also before anybody has collected"
    failed(server, order, "worker_died")
    for number in range(2, 20):
        assert server.offer(frame(*deadly, at_s=0.1 * number)) is None
    new = server.offer(frame(*deadly, found("new", 45), at_s=2.0))
    assert new is not None and [target.id for target in new.targets.values()] == ["new"]
    results_of(server, new)
    (seen,) = results_of(server, server.request(ids=["beside"]))
    assert isinstance(seen, Observation) and [item.id for item in seen.objects] == ["beside"]
    assert server.stats.codes["worker_died"] == 1 and worker.stats().restarts == restarts + 1
    server.clear()
    again = server.offer(frame(*deadly, at_s=3.0))
    assert again is not None and len(again.targets) == 2
    failed(server, again, "worker_died")


def test_an_order_that_waits_is_superseded_and_nobody_is_alarmed(server: Server, worker: Worker) -> None:
    busy = at_work(server, "slow")
    orders = [server.offer(frame(found(f"new_{number}", 30), at_s=1.0 + number)) for number in range(3)]
    assert worker.stats().waiting == 1
    worker.cancel(busy.ticket)
    last = orders[-1]
    assert last is not None
    results = results_of(server, last)
    codes = [result.error.code for result in results if isinstance(result, Failed)]
    assert sorted(codes) == ["cancelled", "superseded", "superseded"]
    (seen,) = (result for result in results if isinstance(result, Observation))
    assert [item.id for item in seen.objects] == ["new_2"] and seen.stamp_ns == 103 * SECOND
    status = ProblemWatch(server.stats).status("active")
    assert status.level == 0 and status.values["count of superseded"] == "2"


def spoiled(types: BagMessageTypes, what: str) -> FrameMessages:
    """One moment with something wrong in it."""
    given = messages(types)
    image, info, boxes = given.image, given.camera_info, given.detections
    assert info is not None and boxes is not None
    changes: dict[str, Any] = {}
    if what == "wrong step":
        image.step = 3
    elif what == "too few bytes":
        image.data = image.data[:-1]
    elif what == "no height":
        image.height = 0
    elif what == "unknown encoding":
        image.encoding = "yuv999"
    elif what == "camera of zeros":
        for field in ("k", "d", "r", "p"):
            setattr(info, field, np.zeros_like(getattr(info, field)))
    elif what == "camera of another size":
        info.width += 1
    elif what == "detections of another stamp":
        boxes.header.stamp.sec += 1
    elif what == "labels of another size":
        changes["labels"] = make_image(types, np.ones((24, 32), np.uint8), "mono8", NOW)
    elif what == "box of NaN alone":
        boxes.detections[0].bbox.size_x = math.nan
        changes["labels"] = None
    elif what == "impossible stamp":
        boxes.header.stamp.nanosec = 2**32 - 1
    return FrameMessages(**{**vars(given), **changes})


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ("wrong step", "image_size"),
        ("too few bytes", "image_size"),
        ("no height", "image_size"),
        ("unknown encoding", "unsupported_encoding"),
        ("camera of zeros", "invalid_camera"),
        ("camera of another size", "invalid_camera"),
        ("detections of another stamp", "stamp_mismatch"),
        ("labels of another size", "image_size"),
        ("box of NaN alone", "no_objects"),
        ("impossible stamp", "invalid_message"),
    ],
)
def test_messages_that_cannot_be_used(server: Server, types: BagMessageTypes, what: str, code: str) -> None:
    with pytest.raises(CupidError) as caught:
        read_frame(spoiled(types, what))
    assert caught.value.code == code and caught.value.hint
    server.note_problem(caught.value)
    assert f"[{code}]" in told(server, code)


@pytest.mark.parametrize(
    ("shape", "stamp_s", "code"), [((24, 32), 0, "image_size"), ((48, 64), 1, "stamp_mismatch")]
)
def test_depth_that_does_not_belong_to_the_image(
    server: Server, types: BagMessageTypes, shape: tuple[int, int], stamp_s: int, code: str
) -> None:
    stamped = Stamped(NOW.stamp_ns + stamp_s * SECOND, NOW.frame_id)
    depth = make_image(types, np.full(shape, 700, np.uint16), "16UC1", stamped)
    order = server.offer(read_frame(messages(types, depth=depth)))
    assert order is not None
    (seen,) = results_of(server, order)
    assert isinstance(seen, Observation) and [item.is_metric for item in seen.objects] == [False]
    told(server, code)


def test_a_box_of_nan_beside_a_good_one(server: Server, types: BagMessageTypes) -> None:
    boxes = make_detections(types, [found("bad", 5), found("good", 30)], NOW)
    boxes.detections[0].bbox.center.position.x = math.nan
    order = server.offer(read_frame(messages(types, detections=boxes, labels=None)))
    assert order is not None
    (seen,) = results_of(server, order)
    assert isinstance(seen, Observation) and [item.id for item in seen.objects] == ["good"]
    told(server, "invalid_detection")


@pytest.mark.parametrize(
    ("name", "value"), [("worker.deadline_s", 0.0), ("worker.grace_s", -1.0), ("mode", "sometimes"), ("seed", 0.5)]
)
def test_a_parameter_out_of_range(server: Server, name: str, value: object) -> None:
    values: Any = value
    for key in reversed(f"ros.{name}".split(".")):
        values = {key: values}
    with pytest.raises(CupidError) as caught:
        settings_of.from_mapping(CupidConfig, values)
    assert caught.value.code == "invalid_config" and name.rsplit(".")[-1] in str(caught.value)
    server.note_problem(caught.value)
    told(server, "invalid_config")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"preset": "superb"}, "invalid_message"), ({"deadline_s": math.nan}, "invalid_message"),
     ({"deadline_s": -1.0}, "invalid_message"), ({"ids": ["9"]}, "no_objects")],
)  # fmt: skip
def test_a_request_that_makes_no_sense_is_refused(server: Server, wrong: dict[str, Any], code: str) -> None:
    server.config = server.config.model_copy(update={"mode": "on_request"})
    server.offer(frame(found("1", 5)))
    with pytest.raises(CupidError) as caught:
        server.request(**wrong)
    assert caught.value.code == code and caught.value.hint
    server.config = server.config.model_copy(update={"mode": "continuous"})


def resident_kb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_thousand_images_with_a_busy_worker(
    server: Server, worker: Worker, types: BagMessageTypes, tell: Tell
) -> None:
    """As fast as they are read, which is no slower than 30 Hz where a camera would drop them otherwise."""
    busy = at_work(server, "hang")
    sizes: list[int] = []
    last: Order | None = None
    for number in range(1000):
        boxes = make_detections(types, [found(f"track{number}x", 5)], NOW)
        last = server.offer(read_frame(messages(types, detections=boxes, labels=None))) or last
        assert worker.stats().waiting <= 1
        server.collect()
        if number % 50 == 49:
            sizes.append(resident_kb())
    assert not busy.ticket.done and last is not None
    slope_kb = float(np.polyfit(range(10, len(sizes)), sizes[10:], 1)[0]) / 50
    tell(f"{slope_kb:.2f} kB for each image; {server.stats.codes['superseded']} of 1000 superseded")
    assert server.stats.codes["superseded"] == 999 and slope_kb < 5.0, sizes
    worker.cancel(busy.ticket)
    newest = [result for result in results_of(server, last) if isinstance(result, Observation)]
    assert [item.id for result in newest for item in result.objects] == ["track999x"]


SHUTDOWN = """
import os, sys, time
sys.path[:0] = sys.argv[1:]
from acting_job import make_actor
from test_server_faults import QUICK, at_work
from cupid_core.config import RosConfig
from cupid_ros.server import Server
from cupid_ros.worker import Worker

if __name__ == "__main__":
    server = Server(Worker(make_actor, QUICK), RosConfig())
    order = at_work(server, "hang")
    print(server.engine.stats().pid, flush=True)
    server.close()
    assert order.ticket.outcome().code == "worker_closed"
    (result,) = server.collect()
    assert result.error.code == "worker_closed" and server.stats.codes["worker_closed"] == 1
"""


def test_shutdown_in_the_middle_of_a_goal(tmp_path: Path) -> None:
    script = tmp_path / "shutdown.py"
    script.write_text(SHUTDOWN)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, str(script), *paths], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not Path(f"/proc/{int(done.stdout)}").exists(), "its process is gone"
