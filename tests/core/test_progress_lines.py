"""Progress of long commands without a terminal: lines with share and time, neither silence nor a flood."""

import io

from rich.console import Console

from cupid_core.cli.progress import ProgressLines, StageBars
from cupid_core.reconstruct.progress import Progress


def console() -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=False, width=40), stream


def test_lines_show_share_time_and_figure() -> None:
    to, stream = console()
    lines = ProgressLines(to, every_s=0.0)
    for share in (0.0, 0.25, 1.0):
        lines.show("decode the meshes", share, "3 [of] 4")
    first, middle, last = stream.getvalue().splitlines()
    assert first == "decode the meshes"
    assert middle.startswith("decode the meshes: 25 %, 0 s, about 0 s left, 3 [of] 4")
    assert last == "decode the meshes: 100 %, 0 s, 3 [of] 4"


def test_lines_are_rare_and_each_thing_is_named_once() -> None:
    to, stream = console()
    lines = ProgressLines(to, every_s=3600.0)
    for what in ("encode", "decode"):
        for number in range(50):
            lines.show(what, number / 49)
    assert stream.getvalue().splitlines() == ["encode", "decode"]


def test_every_stage_is_named_where_there_is_no_terminal() -> None:
    to, stream = console()
    with StageBars(to) as bars:
        for stage in ("structure", "decode"):
            for fraction in (0.0, 0.5, 1.0):
                bars(Progress(stage, fraction))
    assert stream.getvalue().splitlines() == ["sample the structure", "decode the meshes"]
