"""`cupid bag`: a bag in, a bag with reconstructed objects out; no ROS needed.

The command line of cupid_core finds it by its entry point (`cupid.commands` in pyproject.toml) and does not import
this package.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from cupid_core import config as settings_of
from cupid_core.config import CupidConfig, PresetName
from cupid_core.serving.engine import InProcessEngine, MakeJob
from cupid_core.serving.jobs import MakeCupidJob
from cupid_core.serving.server import Server
from cupid_ros.bag import OnReplay, Replay, ReplayOptions, replay_bag
from cupid_ros.bag_topics import BagTopics
from cupid_ros.messages import BagMessageTypes

NOTHING_RECONSTRUCTED = 3
SECONDS_PER_LINE = 10.0


@dataclass(frozen=True)
class BagOptions:
    """Options of `cupid bag`; what is not given is taken from the settings.

    Attributes:
        config: YAML file as `cupid config write` makes it.
        assignments: change a setting, e.g. refine.iterations=5; `cupid config describe` lists them all.
        checkpoint: name, folder or hub id of the networks.
        device: cpu, cuda, cuda:1, ...; auto takes cuda if it is there.
        preset: fast, normal or best.
        seed: the same bag and seed give the same objects.
        every_frame: reconstruct objects in every image, not only when they appear for the first time.
        topics: names of topics that are not to be guessed; "-" for one that is not to be used.
        storage: format of the output.
        distribution: whose message definitions to use.
        copy_inputs: put the topics that were used into the output as well.
    """

    config: Path | None = None
    assignments: Annotated[
        tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(name="set", metavar="NAME=VALUE")
    ] = ()
    checkpoint: str | None = None
    device: str | None = None
    preset: PresetName | None = None
    seed: int | None = None
    every_frame: bool = False
    topics: BagTopics = field(default_factory=BagTopics)
    storage: Literal["mcap", "sqlite3"] = "mcap"
    distribution: Literal["humble", "jazzy"] = "jazzy"
    copy_inputs: bool = False


def bag(
    source: tyro.conf.Positional[Path],
    target: tyro.conf.Positional[Path],
    *,
    options: Annotated[BagOptions, tyro.conf.arg(name="")] = BagOptions(),
) -> int:
    """Reconstruct the objects of a ROS 2 bag, without ROS: /cupid/objects, /tf and more in a new bag.

    Args:
        source: bag with images, camera info, and detections or label images; mcap or sqlite3.
        target: folder of the new bag; must not exist yet.
        options: see below.
    """
    return run_bag(source, target, options, Console())


def run_bag(
    source: Path, target: Path, options: BagOptions, console: Console, *, make_job: MakeJob | None = None
) -> int:
    """`bag` with a given console and job.

    Args:
        source: see `bag`.
        target: see `bag`.
        options: see `bag`.
        console: where to show progress and results.
        make_job: the networks where None.

    Returns:
        0, or 3 where no image gave an object.

    Raises:
        CupidError: see `replay_bag` and `settings_of`.
    """
    config = configured(options)
    server = Server(InProcessEngine(make_job or MakeCupidJob.of(config)), config.ros)
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        console=console, disable=not console.is_terminal,
    ) as bars:  # fmt: skip
        replay = replay_bag(
            source,
            target,
            server,
            types=BagMessageTypes.of(options.distribution),
            options=ReplayOptions(options.topics, options.storage, options.copy_inputs),
            on_replay=_progress(bars, source, console),
        )
    show(replay, target, console)
    return 0 if replay.objects else NOTHING_RECONSTRUCTED


def configured(options: BagOptions) -> CupidConfig:
    """The settings of the file, with what the options say in their place.

    Raises:
        ConfigError: the file is none, or a value is out of bounds.
    """
    config = settings_of.load(CupidConfig, options.config, options.assignments)
    given = {
        "checkpoint": options.checkpoint,
        "device": options.device,
        "preset": options.preset,
        "seed": options.seed,
    }
    values = config.model_dump()
    values["ros"].update({name: value for name, value in given.items() if value is not None})
    values["ros"].update(mode="continuous", update_poses=options.every_frame)
    return settings_of.from_mapping(CupidConfig, values, origin="the options")


def show(replay: Replay, target: Path, console: Console) -> None:
    """Print the result of a replay."""
    for warning in replay.warnings:
        console.print(f"[yellow]warning[/yellow]: {escape(warning)}", highlight=False, soft_wrap=True)
    for code, count in replay.problems.most_common():
        console.print(
            f"[red]{code}[/red] ({count}): {escape(replay.texts[code])}", highlight=False, soft_wrap=True
        )
    topics = ", ".join(f"{role} {topic}" for topic, role in replay.topics.roles().items())
    console.print(f"used: {escape(topics)}", highlight=False, soft_wrap=True)
    console.print(
        f"{replay.frames} images, {replay.objects} objects in {replay.observations} of them; {target}",
        highlight=False,
        soft_wrap=True,
    )


def _progress(bars: Progress, source: Path, console: Console) -> OnReplay:
    """A bar on a terminal; elsewhere a line from time to time."""
    task = bars.add_task(f"{source.name}", total=1.0)
    started = printed = time.monotonic()

    def on_replay(share: float, replay: Replay) -> None:
        nonlocal printed
        share = share if share == share else 0.0
        words = f"{source.name}: {replay.frames} images, {replay.objects} objects"
        bars.update(task, completed=share, description=escape(words))
        now = time.monotonic()
        if not console.is_terminal and now - printed >= SECONDS_PER_LINE:
            printed = now
            line = f"{words}, {share:.0%} of the messages after {now - started:.0f} s"
            console.print(escape(line), highlight=False, soft_wrap=True)

    return on_replay
