"""Cost of the ROS layer without the networks: message in -> worker -> message out, with a job that takes no time.

    python benchmarks/ros_overhead.py [--quick] [--moments N] [--json FILE] [--mode messages|plain|ros|all]

*messages* compares ways to write and read messages with meshes. For the others raw RGB8, 16UC1 depth, mono8 labels
and detections come in, at 640x480 and 1280x720, with 1 and 5 objects of 5,120 triangles; everything that is
published by default goes out. *plain* needs no ROS: messages come and go as CDR bytes, as in `cupid bag`, through
the conversions, the server and the worker process. *ros* runs the real node in a process of its own and measures
from the first `publish` to the arrival of the answer through DDS on loopback; it needs a ROS 2 with this package.

Times of *plain* and *ros* are wall-clock times, because another process takes part; "processor" is what this
process computes for a moment, which other work on the machine disturbs least. The cells alternate, so that other
load affects all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import wait
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from overhead_frames import Cell, MakeIdentity, Moments, Tick
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from ros_message_cost import measure_messages

from cupid_core.config import RosConfig
from cupid_core.serving.frames import Stamped
from cupid_core.serving.records import Observation
from cupid_core.serving.server import Server
from cupid_core.serving.worker import Worker
from cupid_ros.cdr import CdrMessageTypes
from cupid_ros.convert.image import make_image
from cupid_ros.convert.markers import make_markers
from cupid_ros.convert.objects import make_detections_3d, make_object_array
from cupid_ros.convert.transforms import make_transforms
from cupid_ros.frame_messages import FrameMessages, read_frame
from cupid_ros.messages import BagMessageTypes

CELLS = [Cell(width, height, objects) for width, height in ((640, 480), (1280, 720)) for objects in (1, 5)]
MODES = ("messages", "plain", "ros")
WARM_UP = 5
Times = dict[Cell, dict[str, list[float]]]
"""Seconds of each step of each moment."""


def main() -> None:
    """Measure, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=(*MODES, "all"), default="all")
    parser.add_argument("--moments", type=int, default=200, help="of each cell; p99 needs 100 or more")
    parser.add_argument("--quick", action="store_true", help="20 moments")
    parser.add_argument("--json", type=Path, help="write all figures there")
    given = parser.parse_args()
    moments = 20 if given.quick else given.moments
    torch.set_num_threads(1)  # as the node does
    console = Console()
    there = find_spec("rclpy") is not None
    if given.mode == "ros" and not there:
        sys.exit("rclpy is not there: source a ROS 2 workspace with this package (docs/ros.md).")
    modes = [mode for mode in MODES if given.mode in (mode, "all") and (mode != "ros" or there)]
    if given.mode == "all" and not there:
        console.print("rclpy is not there: the node itself is not measured.")
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        for mode in modes:
            # All modes have as many cells.
            task = progress.add_task(mode, total=(moments + WARM_UP) * len(CELLS))
            times = measure(mode, moments, partial(progress.advance, task))
            found[mode] = {str(cell): summarize(steps) for cell, steps in times.items()}
    for mode, cells in found.items():
        show(mode, cells, moments, console)
    if given.json:
        given.json.write_text(json.dumps({"moments": moments, "milliseconds": found}, indent=1) + "\n")


def measure(mode: str, moments: int, tick: Tick) -> Mapping[Any, dict[str, list[float]]]:
    """Seconds of all steps; the first moments warm up and do not count."""
    if mode == "messages":
        return measure_messages(moments, WARM_UP, tick)
    if mode == "plain":
        return measure_plain(moments, tick)
    from ros_loopback import measure_node

    return measure_node(CELLS, moments, WARM_UP, tick)


def measure_plain(moments: int, tick: Tick) -> Times:
    """All cells in turns, each with a worker of its own."""
    times: Times = {cell: {} for cell in CELLS}
    with ExitStack() as stack:
        paths = {cell: PlainPath(stack.enter_context(Worker(MakeIdentity())), cell) for cell in CELLS}
        for number in range(WARM_UP + moments):
            for cell, path in paths.items():
                for name, seconds in path.moment(number).items():
                    if number >= WARM_UP:
                        times[cell].setdefault(name, []).append(seconds)
                tick()
    return times


class PlainPath:
    """From CDR bytes to CDR bytes.

    Args:
        worker: runs `MakeIdentity`.
        cell: what is sent.
    """

    def __init__(self, worker: Worker, cell: Cell) -> None:
        self._types = BagMessageTypes.of("jazzy")
        self._wire = CdrMessageTypes(self._types.store)
        self._moments = Moments(cell, self._types)
        self._config = RosConfig(update_poses=True)
        self._server = Server(worker, self._config)

    def moment(self, number: int) -> dict[str, float]:
        """Seconds of every step, and of all together."""
        types, sent = self._types, self._moments.messages(10**18 + number * 33_000_000)
        raw = {role: (types.encode(message), message.__msgtype__) for role, message in sent.items()}
        busy = time.process_time()
        marks = [time.perf_counter()]
        messages = {role: types.decode(data, kind) for role, (data, kind) in raw.items()}
        marks.append(time.perf_counter())
        frame = read_frame(FrameMessages(**messages), self._config.input)
        marks.append(time.perf_counter())
        order = self._server.offer(frame)
        assert order is not None
        wait([order.ticket.future])
        (seen,) = self._server.collect()
        assert isinstance(seen, Observation) and not seen.failures
        marks.append(time.perf_counter())
        published = list(self._published(seen))
        marks.append(time.perf_counter())
        for message in published:
            self._wire.encode(message)
        marks.append(time.perf_counter())
        names = ("decode", "convert in", "worker", "convert out", "encode")
        steps = {name: after - before for name, before, after in zip(names, marks, marks[1:], strict=False)}
        busy = time.process_time() - busy
        return {**steps, "together": marks[-1] - marks[0], "processor": busy}

    def _published(self, seen: Observation) -> Iterator[Any]:
        """As `cupid_ros.bag.Output.publish` and the node do by default."""
        types, output = self._wire, self._config.output
        yield make_object_array(types, seen)
        yield make_transforms(types, seen, prefix=output.tf_prefix)
        yield make_markers(types, seen, lifetime_s=output.marker_lifetime_s)
        yield make_detections_3d(types, seen)
        assert seen.overlay is not None
        yield make_image(types, seen.overlay, "rgb8", Stamped(seen.stamp_ns, seen.frame_id))


def summarize(steps: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """p50 and p99 of each step, milliseconds."""
    return {
        name: {f"p{share}": 1e3 * float(np.percentile(values, share)) for share in (50, 99)}
        for name, values in steps.items()
    }


def show(mode: str, cells: dict[str, dict[str, dict[str, float]]], moments: int, console: Console) -> None:
    """A row for each cell."""
    words = {
        "messages": "processor time of messages with meshes",
        "plain": "without ROS, CDR to CDR",
        "ros": "the node, through DDS on loopback",
    }
    names = list(next(iter(cells.values())))
    table = Table(title=f"{words[mode]}: p50 / p99 of {moments} moments, ms", box=None)
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    for cell, steps in cells.items():
        table.add_row(cell, *(_pair(steps.get(name, {})) for name in names))
    console.print(table)


def _pair(figures: dict[str, float]) -> str:
    return f"{figures.get('p50', math.nan):.1f} / {figures.get('p99', math.nan):.1f}"


if __name__ == "__main__":  # the worker processes read this file again
    main()
