"""Which device networks run on, and in which precision there."""

from __future__ import annotations

import torch

from cupid_core.errors import ConfigError


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name.

    Args:
        name: "cpu", "cuda" or "cuda:1"; "auto" takes cuda where there is a GPU, else the CPU.

    Raises:
        ConfigError: not such a name, or this machine has no such GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise _unknown(name) from error
    if device.type not in ("cpu", "cuda"):
        raise _unknown(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"There is no device '{name}': torch finds {torch.cuda.device_count()} GPUs.",
            hint="Use auto or cpu; `cupid doctor` says why a GPU is not found.",
        )
    return device


def inference_dtype(device: torch.device) -> torch.dtype:
    """Precision of the deep stacks for inference: float32 on a CPU; on a GPU bfloat16, float16 on older ones."""
    if device.type != "cuda":
        return torch.float32
    # Units for bfloat16 came with compute capability 8 (Ampere); torch emulates it below, slowly.
    major, _ = torch.cuda.get_device_capability(device)
    return torch.bfloat16 if major >= 8 else torch.float16


def _unknown(name: str) -> ConfigError:
    return ConfigError(f"'{name}' is not a device.", hint="Use auto, cpu, cuda or cuda:1.")
