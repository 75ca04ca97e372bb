"""Where networks run and in which precision, when nobody says."""

from __future__ import annotations

import torch

from cupid_core.errors import InputError


def resolve_device(device: torch.device | str = "auto") -> torch.device:
    """The device of this name; "auto" is a CUDA GPU where there is one, else the CPU.

    Raises:
        InputError: no such device on this machine.
    """
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"'{device}' is not a device.", hint="Use auto, cpu, cuda or cuda:1.") from error
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"'{device}' was asked for, this machine has {torch.cuda.device_count()} CUDA devices.",
            hint="Use --device cpu, or install a torch with CUDA.",
        )
    return place


def default_dtype(device: torch.device) -> torch.dtype:
    """Precision of the deep stacks: float32 on a CPU, bfloat16 on a GPU."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16
