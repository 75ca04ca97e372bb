"""Diagnostics from counters: what is new warns for a while, what is harmless does not, and figures are right."""

from __future__ import annotations

from collections import deque

from cupid_core.errors import CheckpointError
from cupid_core.serving.errors import ImageSizeError, SupersededError
from cupid_core.serving.server import ServerStats
from cupid_core.serving.worker import WorkerStats
from cupid_ros.diagnostics import (
    ERROR,
    OK,
    WARN,
    ProblemWatch,
    Rates,
    inputs_status,
    make_diagnostics,
    worker_status,
)
from cupid_ros.messages import BagMessageTypes


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_problem_warns_for_ten_seconds() -> None:
    stats, clock = ServerStats(), Hand()
    watch = ProblemWatch(stats, clock)
    assert watch.status("active").level == OK and watch.status("active").message == "active"
    stats.note(ImageSizeError("It is too wide.", hint="Cut it."))
    first = watch.status("active")
    assert (first.level, first.message) == (WARN, "[image_size] It is too wide. Cut it.")
    assert first.values["count of image_size"] == "1" and first.values["state"] == "active"
    clock.now += 9.0
    assert watch.status("active").level == WARN
    clock.now += 2.0
    gone = watch.status("active")
    assert gone.level == OK and gone.values["count of image_size"] == "1"
    assert "[image_size]" in gone.values["last error"]


def test_requests_that_newer_ones_replaced_do_not_warn() -> None:
    stats = ServerStats()
    watch = ProblemWatch(stats, Hand())
    stats.note(SupersededError("A newer one came.", hint="Send fewer."))
    assert watch.status("active").level == OK
    assert watch.status("active").values["count of superseded"] == "1"


def test_rates_are_those_since_the_last_reading() -> None:
    clock = Hand()
    rates = Rates(clock)
    clock.now += 2.0
    assert rates.of({"image": 60, "frames": 10}) == {"image": 30.0, "frames": 5.0}
    clock.now += 1.0
    assert rates.of({"image": 75, "frames": 10}) == {"image": 15.0, "frames": 0.0}
    clock.now += 1.0
    assert rates.of({"image": 3})["image"] == 0.0, "another subscription counts from its own start"


def test_the_status_of_the_worker() -> None:
    assert (worker_status(WorkerStats()).level, worker_status(WorkerStats()).message) == (WARN, "starting")
    broken = WorkerStats(start_error=CheckpointError("It is gone.", hint="Bring it back."))
    assert worker_status(broken).level == ERROR and "[checkpoint_invalid]" in worker_status(broken).message
    ready = worker_status(WorkerStats(ready=True, pid=7, done=3, latencies_s=deque([1.0, 2.0, 3.0])), 512.4)
    assert (ready.level, ready.values["latency p50 [s]"], ready.values["GPU memory [MB]"]) == (OK, "2.000", "512")
    assert worker_status(WorkerStats()).values["latency p50 [s]"] == "nan"


def test_images_that_are_lost_on_the_way_are_said_with_what_to_do() -> None:
    assert inputs_status({}, {}, {}).message == "receiving"
    lost = inputs_status({}, {}, {"image": "3 of 20"})
    assert lost.level == WARN and "image 3 of 20" in lost.message and "fastdds.xml" in lost.message
    both = inputs_status({}, {"image": "/camera/image"}, {"image": "0 of 20"})
    assert both.message.startswith("waiting for image on /camera/image; images are lost")


def test_diagnostics_round_trip(types: BagMessageTypes) -> None:
    statuses = [worker_status(WorkerStats()), inputs_status({"image": 29.97}, {"depth": "/depth"})]
    message = make_diagnostics(types, statuses, 1_500_000_000, node="robot/recon_node")
    again = types.decode(types.encode(message), message.__msgtype__)
    assert [item.name for item in again.status] == ["robot/recon_node: worker", "robot/recon_node: inputs"]
    assert [item.level for item in again.status] == [WARN, WARN]
    assert again.status[1].message == "waiting for depth on /depth"
    assert (again.status[1].values[0].key, again.status[1].values[0].value) == ("image [Hz]", "30.0")
