"""The kernel of the pose solver compiles for GPUs, without one. It has not been run on a GPU."""

from pathlib import Path

import pytest

pytest.importorskip("warp", reason="NVIDIA Warp is not installed (extra `warp`)")

from cupid_core.pose.warp_solve import kernel, warp

ORIN = 87


def test_the_kernel_compiles_for_the_gpu_of_a_jetson_orin(tmp_path: Path) -> None:
    """To PTX; takes half a minute of processor time."""
    import cupid_core.pose.warp_kernel as module

    assert kernel() is module.solve_kernel
    warp().compile_aot_module(module, device=None, arch=[ORIN], module_dir=str(tmp_path), use_ptx=True)
    (made,) = tmp_path.glob("*.ptx")
    text = made.read_text(encoding="utf-8", errors="replace")
    assert f".target sm_{ORIN}" in text
    assert ".entry" in text and "solve_kernel" in text
