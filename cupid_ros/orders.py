"""What the server has asked the engine for, and what came of it under the ids of the detections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cupid_core.errors import CupidError
from cupid_ros.convert.header import Stamped
from cupid_ros.identity import Target
from cupid_ros.results import ObjectRecord, Observation, SceneRecord
from cupid_ros.tickets import Ticket


@dataclass(frozen=True, eq=False)
class Order:
    """A request under way.

    Attributes:
        ticket: of the engine.
        stamped: of the image.
        targets: objects that were asked for, by number.
        refused: why others were not, by id.
        asked: somebody waits for it; no frame that comes later takes its place.
    """

    ticket: Ticket
    stamped: Stamped
    targets: Mapping[int, Target]
    refused: Mapping[str, CupidError] = field(default_factory=dict)
    asked: bool = False

    def outcome(self) -> Observation | CupidError:
        """What came of it, with the ids of the detections; the ticket is done."""
        result = self.ticket.outcome()
        if isinstance(result, CupidError):
            return result
        assert isinstance(result, SceneRecord)
        return Observation(
            stamp_ns=self.stamped.stamp_ns,
            frame_id=self.stamped.frame_id,
            objects=tuple(_named(item, self.targets[item.number]) for item in result.objects),
            failures={
                **self.refused,
                **{self.targets[number].id: error for number, error in result.failures.items()},
            },
            overlay=result.overlay,
            timings_s=result.timings_s,
            gpu_memory_mb=result.gpu_memory_mb,
        )


@dataclass(frozen=True, eq=False)
class Failed:
    """A request that gave nothing.

    Attributes:
        order: what was asked for.
        error: why.
    """

    order: Order
    error: CupidError


def _named(item: ObjectRecord, target: Target) -> ObjectRecord:
    return replace(item, id=target.id, class_id=target.class_id, score=target.score)
