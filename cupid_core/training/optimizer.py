"""Optimizer steps on float32 master weights with AdamW or Muon, gradient clipping, and the average of the weights.

Networks compute in the precision of the run; what is optimized, averaged and saved are float32 copies (of
parameters that are float32 themselves: the parameters). A gradient that is not finite skips the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cupid_core.training.muon import Muon, split_into_squares
from cupid_core.training.run_settings import OptimizerSettings

_SMALLEST_MUON_EDGE = 16
_SCALE_START, _SCALE_GROWTH = 20.0, 1e-3


@dataclass(frozen=True)
class StepReport:
    """Report of a step.

    Attributes:
        norm: of the gradient before clipping.
        bound: of the clipping.
        skipped: the gradient was not finite, so no weight has changed.
    """

    norm: float
    bound: float
    skipped: bool


class AdaptiveClip:
    """Bound on the norm of a gradient from the norms before it.

    It is `max_norm` until `history` norms are known, then the smaller of `max_norm` and their percentile. The
    norms are those before clipping.

    Args:
        max_norm: upper limit of the bound.
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
        """Largest norm that is not clipped."""
        if self._count < len(self._norms):
            return self.max_norm
        return min(self.max_norm, float(torch.quantile(self._norms, self.percentile / 100)))

    def remember(self, norm: float) -> None:
        """Add the norm of a gradient to the history, in place of the oldest."""
        self._norms[self._count % len(self._norms)] = norm
        self._count += 1

    def state_dict(self) -> dict[str, Tensor | int]:
        """State for `load_state_dict`."""
        return {"norms": self._norms.clone(), "count": self._count}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Restore a saved state; a history of another length is not restored."""
        norms = torch.as_tensor(state["norms"])
        if norms.shape == self._norms.shape:
            self._norms, self._count = norms.to(torch.float64).clone(), int(state["count"])


class MasterOptimizer:
    """Optimizer over the float32 masters of a dictionary of networks.

    Args:
        networks: already in the precision of the run.
        settings: rule, rates and clipping.
        half: the blocks are float16, whose gradients need a loss scale.
    """

    def __init__(self, networks: nn.ModuleDict, settings: OptimizerSettings, *, half: bool = False) -> None:
        self.settings = settings
        self.parameters = {name: p for name, p in networks.named_parameters() if p.requires_grad}
        self.masters = {
            name: p.data if p.dtype == torch.float32 else p.detach().float().clone()
            for name, p in self.parameters.items()
        }
        self.clip = AdaptiveClip(settings.max_grad_norm, settings.clip_history, settings.clip_percentile)
        self._log2_scale: float | None = _SCALE_START if half else None
        muon_names = [
            name
            for name in self.masters
            if settings.kind == "muon"
            and (
                _is_block_matrix(name, self.masters)
                or (settings.muon_convolutions and _is_inner_convolution(self.masters[name]))
            )
        ]
        rest = [name for name in self.masters if name not in muon_names]
        groups = [
            {
                "params": [self.masters[name] for name in rest if (self.masters[name].dim() > 1) == decays],
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for decays in (True, False)
        ]
        self._adamw = torch.optim.AdamW(groups, lr=0.0, betas=(settings.beta1, settings.beta2))
        self._muon = (
            Muon([self.masters[name] for name in muon_names], lr=0.0, weight_decay=settings.weight_decay)
            if muon_names
            else None
        )

    @property
    def loss_scale(self) -> float:
        """Factor of the loss before it is differentiated."""
        return 1.0 if self._log2_scale is None else 2.0**self._log2_scale

    def step(self, rate_share: float) -> StepReport:
        """Update the masters with the gradients of the networks, then refresh the networks.

        Args:
            rate_share: share of the full learning rates.
        """
        for name, parameter in self.parameters.items():
            gradient = parameter.grad
            self.masters[name].grad = None if gradient is None else gradient.float() / self.loss_scale
            parameter.grad = None
        gradients = [master.grad for master in self.masters.values() if master.grad is not None]
        norm = float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients]))) if gradients else 0.0
        bound = self.clip.bound
        finite = norm < float("inf")  # false for NaN as well
        if self._log2_scale is not None:
            self._log2_scale += _SCALE_GROWTH if finite else -1.0
        if finite:
            if norm > bound:
                torch._foreach_mul_(gradients, bound / norm)
            self.clip.remember(norm)
            self._update(rate_share)
        for master in self.masters.values():
            master.grad = None
        return StepReport(norm, bound, skipped=not finite)

    def _update(self, rate_share: float) -> None:
        for group in self._adamw.param_groups:
            group["lr"] = self.settings.learning_rate * rate_share
        self._adamw.step()
        if self._muon is not None:
            for group in self._muon.param_groups:
                group["lr"] = self.settings.muon_learning_rate * rate_share
            self._muon.step()
        self.refresh()

    @torch.no_grad()
    def refresh(self, values: Mapping[str, Tensor] | None = None) -> None:
        """Copy the masters, or other values of their names and shapes, into the networks."""
        source = self.masters if values is None else values
        for name, parameter in self.parameters.items():
            if source[name].data_ptr() != parameter.data_ptr():
                parameter.copy_(source[name])

    def state_dict(self) -> dict[str, Any]:
        """State that a resumed run needs beside the masters."""
        return {
            "adamw": self._adamw.state_dict(),
            "muon": None if self._muon is None else self._muon.state_dict(),
            "clip": self.clip.state_dict(),
            "log2_scale": self._log2_scale,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state.

        Raises:
            ValueError: the saved optimizer has other parameters.
        """
        if (state["muon"] is None) != (self._muon is None):
            raise ValueError("one of them uses muon, the other does not")
        self._adamw.load_state_dict(state["adamw"])
        if self._muon is not None:
            self._muon.load_state_dict(state["muon"])
        # The saved groups contain hyperparameters, but those of the present settings apply.
        for group, decay in zip(self._adamw.param_groups, (self.settings.weight_decay, 0.0), strict=True):
            group.update(weight_decay=decay, betas=(self.settings.beta1, self.settings.beta2))
        for group in () if self._muon is None else self._muon.param_groups:
            group["weight_decay"] = self.settings.weight_decay
        self.clip.load_state_dict(state["clip"])
        if self._log2_scale is not None and state["log2_scale"] is not None:
            self._log2_scale = float(state["log2_scale"])


def _is_block_matrix(name: str, masters: Mapping[str, Tensor]) -> bool:
    """Weights of linear layers inside blocks; embeddings, input and output layers stay with AdamW."""
    value = masters[name]
    return (
        ".blocks." in name
        and value.dim() == 2
        and min(value.shape) >= _SMALLEST_MUON_EDGE
        and split_into_squares(value) is not None
    )


def _is_inner_convolution(value: Tensor) -> bool:
    """Kernels of 2-D convolutions between wide layers; those that read an image stay with AdamW."""
    return value.dim() == 4 and min(value.shape[:2]) >= _SMALLEST_MUON_EDGE


class WeightAverage:
    """Exponential moving average of float32 weights.

    The memory grows with the steps, min(decay, n / (9 + n)) at step n, so that the first random weights are
    forgotten quickly.

    Args:
        weights: by name; the average starts at their values.
        decay: memory per step.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in weights.items()}

    def memory(self, step: int) -> float:
        """Weight of the old average at this step; the first step is 1."""
        return min(self.decay, step / (9.0 + step))

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Average in the weights after this step."""
        names = list(self.values)
        torch._foreach_lerp_(
            [self.values[name] for name in names], [weights[name] for name in names], 1.0 - self.memory(step)
        )

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Restore saved values of the same names and shapes."""
        for name, value in self.values.items():
            value.copy_(values[name])
