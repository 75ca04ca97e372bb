"""What the server counts: frames, changes of the camera, and every error by its code. Knows no clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from cupid_core.errors import CupidError


@dataclass
class ServerStats:
    """Counters since the start; they may outlive a server.

    Attributes:
        frames: offered.
        problems: errors of all kinds.
        camera_changes: times that CameraInfo became another one.
        last_error: code and text of the newest error; empty where there was none.
        codes: how often each code came.
        texts: newest text of each code.
    """

    frames: int = 0
    problems: int = 0
    camera_changes: int = 0
    last_error: str = ""
    codes: Counter[str] = field(default_factory=Counter)
    texts: dict[str, str] = field(default_factory=dict)

    def note(self, error: CupidError) -> None:
        """Count an error."""
        self.problems += 1
        self.codes[error.code] += 1
        self.texts[error.code] = str(error)
        self.last_error = f"[{error.code}] {error}"
