"""The Muon optimizer: momentum whose matrices are made orthogonal before they move the weights.

Why not `torch.optim.Muon`. It has the same momentum and the same iteration, but
- it takes matrices only, and here the kernels of the image encoder learn by Muon as well;
- it makes a stacked projection (queries, keys and values in one matrix) orthogonal as a whole, so that the three
  maps share one spectrum; here each square of the stack is one map and is made orthogonal by itself;
- it handles one matrix after the other and always in bfloat16. Here all squares of one size go through one batched
  product, in float32 on a CPU without bfloat16 units, where bfloat16 is several times slower;
- it needs torch 2.9, and this package runs on 2.2.
On a single square matrix both make the same update, up to rounding and the scale of the rate; a test compares
them.

Source: Jordan et al. (2024), "Muon: an optimizer for hidden layers"; coefficients of the iteration from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

# Of the quintic Newton-Schulz iteration: the slope at 0 is steep, so few iterations do; in return the singular
# values end near 1 and not at it.
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
    x: Tensor = matrices.bfloat16() if has_fast_bfloat16(matrices.device) else matrices.float()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        # A quintic of the singular values, computed from the Gram matrix alone.
        gram = torch.bmm(x, x.mT)
        x = a * x + torch.bmm(torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x)
    return x.to(matrices.dtype)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether a device has units for bfloat16; a CPU without them is several times slower than in float32."""
    if device.type != "cpu":
        return True
    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))


def orthogonalized_kernel(kernel: Tensor) -> Tensor:
    """`orthogonalized` for the kernel of a convolution, as a matrix from its receptive field to its outputs.

    Every iteration is a polynomial of one Gram matrix, which is only as large as the narrower side. So the
    polynomial is computed there and the kernel is multiplied once. In float32, because squaring loses precision.

    Args:
        kernel: (out, in, h, w).
    """
    matrix = kernel.flatten(1)
    wide = matrix.shape[0] <= matrix.shape[1]
    x = (matrix if wide else matrix.T).float()
    x = x / (x.norm() + 1e-7)
    a, b, c = _COEFFICIENTS
    gram, identity = x @ x.T, torch.eye(len(x), device=x.device)
    polynomial = identity
    for _ in range(_ITERATIONS):
        step = a * identity + b * gram + c * (gram @ gram)
        polynomial = step @ polynomial
        gram = step @ gram @ step
    x = polynomial @ x
    result: Tensor = (x if wide else x.T).reshape(kernel.shape).to(kernel.dtype)
    return result


def split_into_squares(matrix: Tensor) -> Tensor | None:
    """Cut a matrix into squares (N, n, n); None where the longer edge is not a multiple of the shorter one.

    Stacked projections (queries, keys, values) are several maps in one matrix; each is made orthogonal by itself.
    """
    rows, columns = matrix.shape
    edge = min(rows, columns)
    if max(rows, columns) % edge:
        return None
    if rows >= columns:
        return matrix.reshape(-1, edge, edge)
    return matrix.reshape(edge, -1, edge).transpose(0, 1)


def _join_squares(parts: Tensor, rows: int, columns: int) -> Tensor:
    """Undo `split_into_squares`."""
    if rows >= columns:
        return parts.reshape(rows, columns)
    return parts.transpose(0, 1).reshape(rows, columns)


def _apply(parameter: Tensor, update: Tensor, group: Mapping[str, Any]) -> None:
    parameter.mul_(1 - group["lr"] * group["weight_decay"])
    parameter.sub_(update, alpha=group["lr"])


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalized in squares; all squares of one size go through one batched call.

    Args:
        parameters: matrices that `split_into_squares` accepts, and kernels of convolutions.
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
        """Update the parameters that have a gradient."""
        for group in self.param_groups:
            by_edge: dict[int, list[tuple[Tensor, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.dim() == 4:
                    update = orthogonalized_kernel(self._momentum(parameter, group["momentum"]))
                    # Here the root mean square is (longer edge)^-1/2; see below.
                    _apply(parameter, update * max(len(parameter), parameter[0].numel()) ** 0.5, group)
                elif parameter.grad is not None:
                    parts = split_into_squares(self._momentum(parameter, group["momentum"]))
                    assert parts is not None, "MasterOptimizer passes only matrices that split into squares"
                    by_edge.setdefault(min(parameter.shape), []).append((parameter, parts))
            for edge, members in by_edge.items():
                # Entries of an orthogonal matrix have root mean square edge^-1/2; scaled to 1, lr is their size.
                updates = orthogonalized(torch.cat([parts for _, parts in members])) * edge**0.5
                for (parameter, _), update in zip(
                    members, updates.split([len(parts) for _, parts in members]), strict=True
                ):
                    _apply(parameter, _join_squares(update, *parameter.shape), group)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        gradient = parameter.grad
        assert gradient is not None
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)
