"""Camera and node as processes of their own: raw images arrive with the profile that we ship."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from loopback_dds import loopback
from patience import patient

if TYPE_CHECKING:
    from conftest import ReportFigure

HERE = Path(__file__).resolve().parent
PROFILE = HERE.parents[1] / "config" / "fastdds.xml"
COUNT, PERIOD_S = 20, 0.1


def arrived(size: tuple[int, int], domain: int, profile: Path | None) -> int:
    """How many of `COUNT` raw images come through Fast DDS."""
    environment = {**os.environ, **loopback(os.getpid() + domain), "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}
    environment.pop("FASTRTPS_DEFAULT_PROFILES_FILE", None)
    if profile is not None:
        environment["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(profile)
    command = [sys.executable, str(HERE / "image_traffic.py")]
    words = [str(value) for value in (*size, COUNT, patient(PERIOD_S))]
    with subprocess.Popen([*command, "receive"], env=environment, stdout=subprocess.PIPE, text=True) as listener:
        try:
            subprocess.run([*command, "send", *words], env=environment, check=True, timeout=patient(150.0))
            output, _ = listener.communicate(timeout=patient(30.0))
        finally:
            listener.kill()
    return int(output)


@pytest.mark.parametrize("size", [(640, 480), (1280, 720)])
def test_raw_images_arrive_with_the_profile(ros: None, size: tuple[int, int], report_figure: ReportFigure) -> None:
    without, with_profile = arrived(size, 11, None), arrived(size, 12, PROFILE)
    report_figure(f"{with_profile} of {COUNT} raw images {size[0]}x{size[1]}; without the profile {without}")
    assert with_profile >= COUNT - 2
