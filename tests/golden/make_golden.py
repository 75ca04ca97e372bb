"""Write `golden.safetensors`, the numbers of our own that `test_golden.py` holds the networks to.

    python tests/golden/make_golden.py

Run it only when a case was added or changed, or when a network changed on purpose, and only after the parity tests
against the reference passed on the same state (`python -m pytest tests/parity`, none skipped): these numbers prove
nothing by themselves, they keep what was proven there where the reference is absent. It says how far every output
moved from the file it replaces; what was not meant to move must read "unchanged" or be near 1e-7.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from cases import CASES
from safetensors.torch import load_file, save_file
from torch import Tensor

FILE = Path(__file__).with_name("golden.safetensors")


def computed() -> dict[str, Tensor]:
    """Outputs of all cases, "case.output" to float32 (int32 where they are indices)."""
    made = {}
    for case in CASES:
        for name, values in case.outputs(case.network()).items():
            if values.is_floating_point() and not (values.isfinite().all() and values.any()):
                raise ValueError(f"{case.name}.{name} is zero or not finite: it would hold nothing")
            stored = values.float() if values.is_floating_point() else values.int()
            made[f"{case.name}.{name}"] = stored.contiguous()
    return made


def change(new: Tensor, old: Tensor | None) -> str:
    """In words, how far an output moved."""
    if old is None:
        return "new"
    if new.shape != old.shape:
        return f"shape {tuple(old.shape)} became {tuple(new.shape)}"
    largest = float((new.double() - old.double()).abs().max())
    return f"moved by up to {largest:.1e}" if largest else "unchanged"


def main() -> None:
    """Compute, compare with the former file, write."""
    torch.set_num_threads(1)
    former, made = load_file(FILE) if FILE.exists() else {}, computed()
    for name, values in made.items():
        sys.stdout.write(f"{name:48s} {tuple(values.shape)!s:20s} {change(values, former.get(name))}\n")
    for name in former.keys() - made.keys():
        sys.stdout.write(f"{name:48s} gone\n")
    save_file(made, FILE, metadata={"made_by": "tests/golden/make_golden.py", "torch": str(torch.__version__)})
    sys.stdout.write(f"{FILE.name}: {FILE.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
