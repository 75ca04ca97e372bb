"""The state of the node as diagnostic_msgs/DiagnosticArray: problems, rates of the inputs, the worker."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cupid_core.serving.frames import Stamped
from cupid_core.serving.server import ServerStats
from cupid_core.serving.worker import WorkerStats
from cupid_ros.convert.header import make_header
from cupid_ros.messages import MessageTypes

OK, WARN, ERROR = 0, 1, 2
# Normal when images come faster than they are reconstructed.
_HARMLESS = {"superseded", "cancelled"}
_HOLD_S = 10.0


@dataclass(frozen=True)
class Status:
    """One diagnostic_msgs/DiagnosticStatus.

    Attributes:
        name: of the part.
        level: 0 fine, 1 warning, 2 error.
        message: one line.
        values: figures and texts, by name.
    """

    name: str
    level: int
    message: str
    values: Mapping[str, str] = field(default_factory=dict)


def make_diagnostics(types: MessageTypes, statuses: Sequence[Status], stamp_ns: int, *, node: str) -> Any:
    """diagnostic_msgs/DiagnosticArray.

    Args:
        types: makes messages.
        statuses: of the parts of the node.
        stamp_ns: now, of the ROS clock.
        node: name that stands before the parts.
    """
    return types.make(
        "diagnostic_msgs/msg/DiagnosticArray",
        header=make_header(types, Stamped(stamp_ns, "")),
        status=[
            types.make(
                "diagnostic_msgs/msg/DiagnosticStatus",
                level=item.level,
                name=f"{node}: {item.name}",
                message=item.message,
                hardware_id="cupid",
                values=[
                    types.make("diagnostic_msgs/msg/KeyValue", key=key, value=value)
                    for key, value in item.values.items()
                ],
            )
            for item in statuses
        ],
    )


class ProblemWatch:
    """Which problems are new, from counters that only grow.

    Args:
        stats: with the counters.
        clock: seconds.
    """

    def __init__(self, stats: ServerStats, clock: Callable[[], float] = time.monotonic) -> None:
        self._stats, self._clock = stats, clock
        self._counts: Counter[str] = Counter()
        self._last_time: dict[str, float] = {}

    def status(self, state: str, not_in_use: Sequence[str] = ()) -> Status:
        """What went wrong in the last ten seconds, and how often everything did since the start.

        Args:
            state: of the node's life.
            not_in_use: changed parameters that wait until the node is configured again.
        """
        now, counts = self._clock(), Counter(self._stats.codes)
        for code in counts - self._counts:
            self._last_time[code] = now
        self._counts = counts
        recent = [code for code, at in self._last_time.items() if now - at <= _HOLD_S and code not in _HARMLESS]
        texts = dict(self._stats.texts)
        return Status(
            name="problems",
            level=WARN if recent else OK,
            message=f"[{recent[-1]}] {texts.get(recent[-1], '')}" if recent else state,
            values={
                "state": state,
                "frames": str(self._stats.frames),
                "camera changes": str(self._stats.camera_changes),
                "last error": self._stats.last_error,
                "in use when configured again": ", ".join(not_in_use),
                **{f"count of {code}": str(count) for code, count in sorted(counts.items())},
            },
        )


class Rates:
    """How often something happens, from counters that only grow.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: Mapping[str, int] = {}
        self._at = clock()

    def of(self, counts: Mapping[str, int]) -> dict[str, float]:
        """Times per second since the last call, of each counter."""
        now, before = self._clock(), self._before
        seconds = max(now - self._at, 1e-9)
        self._before, self._at = dict(counts), now
        return {name: max(0, count - before.get(name, 0)) / seconds for name, count in counts.items()}


def inputs_status(
    rates_hz: Mapping[str, float], missing: Mapping[str, str], lossy: Mapping[str, str] | None = None
) -> Status:
    """Status of the inputs.

    Args:
        rates_hz: messages per second of each input, and of whole frames.
        missing: inputs that are waited for, with their topics.
        lossy: images of which fewer arrive than of the CameraInfo, with how many; None where that is not known.
    """
    sentences = []
    if missing:
        waiting = ", ".join(f"{role} on {topic}" for role, topic in missing.items())
        sentences.append(f"waiting for {waiting}")
    if lossy:
        counts = ", ".join(f"{role} {count}" for role, count in lossy.items())
        sentences.append(
            f"images are lost on the way (against camera_info: {counts}): give camera and node more buffer, "
            "FASTRTPS_DEFAULT_PROFILES_FILE=config/fastdds.xml for Fast DDS, CYCLONEDDS_URI for Cyclone "
            "(docs/ros.md, 'Images do not arrive')"
        )
    return Status(
        name="inputs",
        level=WARN if sentences else OK,
        message="; ".join(sentences) or "receiving",
        values={f"{name} [Hz]": f"{rate:.1f}" for name, rate in rates_hz.items()},
    )


def worker_status(stats: WorkerStats, gpu_memory_mb: float | None = None) -> Status:
    """Status of the worker process.

    Args:
        stats: its counters.
        gpu_memory_mb: the most it has used for a request; None on a CPU.
    """
    failed = stats.start_error
    level = OK if stats.ready else WARN if failed is None else ERROR
    message = "ready" if stats.ready else "starting" if failed is None else f"[{failed.code}] {failed}"
    counts = ("submitted", "done", "failed", "late", "cancelled", "superseded", "restarts", "waiting")
    return Status(
        name="worker",
        level=level,
        message=message,
        values={
            "pid": str(stats.pid),
            **{name: str(getattr(stats, name)) for name in counts},
            "latency p50 [s]": f"{stats.latency_percentile_s(50):.3f}",
            "latency p99 [s]": f"{stats.latency_percentile_s(99):.3f}",
            "GPU memory [MB]": "none" if gpu_memory_mb is None else f"{gpu_memory_mb:.0f}",
        },
    )
