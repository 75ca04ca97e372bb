"""Muon: momentum whose matrices are made orthogonal before they are added. Knows matrices, not networks.

Source: Jordan et al. (2024), "Muon: an optimizer for hidden layers"; coefficients of the iteration from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalized(matrices: Tensor) -> Tensor:
    """Push all singular values towards 1.

    Args:
        matrices: (N, n, n).

    Returns:
        (N, n, n) in the type of the input; singular values between about 0.7 and 1.2, those of exact zeros stay 0.
    """
    a, b, c = _COEFFICIENTS
    x: Tensor = matrices.bfloat16() if multiplies_bfloat16(matrices.device) else matrices.float()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = torch.bmm(x, x.mT)
        x = a * x + torch.bmm(torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x)
    return x.to(matrices.dtype)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device has units for bfloat16; a CPU without them is several times slower than in float32."""
    if device.type != "cpu":
        return True
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))


def orthogonalized_kernel(kernel: Tensor) -> Tensor:
    """The same for the kernel of a convolution, as a map from all it sees to its outputs.

    The iterations are polynomials of one Gram matrix, as small as the narrower side, so they are made there and
    the kernel is multiplied once; in float32, which squaring needs.

    Args:
        kernel: (out, in, h, w).
    """
    matrix = kernel.flatten(1)
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).float()
    x = x / (x.norm() + 1e-7)
    a, b, c = _COEFFICIENTS
    gram, one = x @ x.T, torch.eye(len(x), device=x.device)
    turned = one
    for _ in range(_ITERATIONS):
        step = a * one + b * gram + c * (gram @ gram)
        turned = step @ turned
        gram = step @ gram @ step
    x = turned @ x
    made: Tensor = (x if wide else x.T).reshape(kernel.shape).to(kernel.dtype)
    return made


def squares(matrix: Tensor) -> Tensor | None:
    """Cut a matrix whose longer edge is a multiple of the shorter into squares (N, n, n); None where it is not.

    Stacked projections (queries, keys, values) are several maps in one matrix; each is made orthogonal by itself.
    """
    rows, columns = matrix.shape
    edge = min(rows, columns)
    if max(rows, columns) % edge:
        return None
    if rows >= columns:
        return matrix.reshape(-1, edge, edge)
    return matrix.reshape(edge, -1, edge).transpose(0, 1)


def _joined(parts: Tensor, rows: int, columns: int) -> Tensor:
    """Undo `squares`."""
    if rows >= columns:
        return parts.reshape(rows, columns)
    return parts.transpose(0, 1).reshape(rows, columns)


def _move(parameter: Tensor, update: Tensor, group: Mapping[str, Any]) -> None:
    parameter.mul_(1 - group["lr"] * group["weight_decay"])
    parameter.sub_(update, alpha=group["lr"])


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized in squares; all squares of one size go through one batched call.

    Args:
        parameters: matrices that `squares` can cut, and kernels of convolutions.
        lr: root mean square of the entries of an update.
        momentum: memory of the gradient.
        weight_decay: decoupled, times the learning rate.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure here
        """Move the matrices that have a gradient."""
        for group in self.param_groups:
            by_edge: dict[int, list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.dim() == 4:
                    update = orthogonalized_kernel(self._momentum(parameter, group["momentum"]))
                    # Entries of root mean square (longer edge)^-1/2.
                    _move(parameter, update * max(len(parameter), parameter[0].numel()) ** 0.5, group)
                elif parameter.grad is not None:
                    parts = squares(self._momentum(parameter, group["momentum"]))
                    assert parts is not None, "the optimizer hands over only matrices that can be cut"
                    by_edge.setdefault(min(parameter.shape), []).append((parameter, parts))
            for edge, members in by_edge.items():
                # Orthogonal matrices have entries of root mean square edge^-1/2.
                turned = orthogonalized(torch.cat([parts for _, parts in members])) * edge**0.5
                for (parameter, _), update in zip(
                    members, turned.split([len(parts) for _, parts in members]), strict=True
                ):
                    _move(parameter, _joined(update, *parameter.shape), group)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient = parameter.grad
        assert gradient is not None
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)
