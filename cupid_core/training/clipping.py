"""Adaptive clipping: how long a gradient may be, learnt from those before it. Knows norms, not weights."""

from __future__ import annotations

import torch
from torch import Tensor


class AdaptiveClip:
    """The bound on the norm of a gradient.

    It is `max_norm` until `history` norms were seen, then the smaller of `max_norm` and their percentile.
    Norms are remembered as they were before clipping.

    Args:
        max_norm: never longer than this.
        history: how many norms are remembered.
        percentile: in percent.

    Source: the released training of TRELLIS and CUPID (percentile 95 of 1000 norms).
    """

    def __init__(self, max_norm: float, history: int, percentile: float) -> None:
        self.max_norm, self.percentile = max_norm, percentile
        self._norms = torch.zeros(history, dtype=torch.float64)
        self._count = 0

    @property
    def bound(self) -> float:
        """Longest norm that passes unchanged."""
        if self._count < len(self._norms):
            return self.max_norm
        return min(self.max_norm, float(torch.quantile(self._norms, self.percentile / 100)))

    def remember(self, norm: float) -> None:
        """Take the norm of a gradient into the history, in place of the oldest."""
        self._norms[self._count % len(self._norms)] = norm
        self._count += 1

    def state_dict(self) -> dict[str, Tensor | int]:
        """What `load_state_dict` wants."""
        return {"norms": self._norms.clone(), "count": self._count}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Continue as the saved one; a history of another length starts anew."""
        norms = torch.as_tensor(state["norms"])
        if norms.shape == self._norms.shape:
            self._norms, self._count = norms.to(torch.float64).clone(), int(state["count"])
