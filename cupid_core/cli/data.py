"""`cupid data prepare`: an asset data set from meshes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cupid_core import config as settings_of
from cupid_core.cli.arguments import OptionalFile
from cupid_core.cli.progress import ProgressLines
from cupid_core.data.assets.prepare import AssetFailure, PreparationSummary, prepare_assets
from cupid_core.data.assets.prepare_asset import AssetReport, LatentRecipe
from cupid_core.errors import ConfigError
from cupid_core.training.asset_latents import latent_recipes
from cupid_core.training.settings import TrainConfig


def prepare(
    meshes: tyro.conf.Positional[tuple[Path, ...]],
    *,
    out: Path,
    processes: int = 0,
    encoders: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    train_config: OptionalFile = None,
    settings: Annotated[
        settings_of.AssetPreparationConfig, tyro.conf.arg(name="")
    ] = settings_of.AssetPreparationConfig(),  # noqa: B008
) -> int:
    """Make a data set from meshes: voxels, views and surfaces of each, and latents where there are encoders.

    Run again, it skips finished assets, makes damaged ones and those of other settings again, and replaces assets
    whose mesh has changed. A mesh that cannot be used is reported and left out.

    Args:
        meshes: .glb, .gltf, .obj, .ply and .stl files, or folders with such files.
        out: folder of the data set.
        processes: meshes worked on at a time; 0 takes one per core.
        encoders: the --out of a training; latents of every autoencoder trained there are written.
        train_config: the --config of that training.
        settings: how objects are prepared.

    Returns:
        0; 1 when a mesh was left out or the preparation was interrupted; 2 when nothing can be prepared.
    """
    console = Console()
    recipes = _recipes(encoders, train_config)
    bar = Progress(
        TextColumn("[bold]prepare"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[last]}"),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task, lines = bar.add_task("prepare", total=None, last=""), ProgressLines(console)

        def show(finished: int, total: int, news: AssetReport | AssetFailure) -> None:
            bar.update(task, completed=finished, total=total, last=news.source.name)
            if not console.is_terminal:
                lines.show("prepare", finished / total, f"{finished} of {total} meshes")
            if isinstance(news, AssetFailure):
                _print(console, f"left out: {news.source}\n  {news.code}: {news.reason}", style="yellow")

        summary = prepare_assets(
            meshes,
            out,
            settings,
            recipes=recipes,
            processes=processes or os.cpu_count() or 1,
            on_progress=show,
        )
    _print_summary(console, summary, out, recipes)
    return int(bool(summary.failures) or summary.stopped)


def _recipes(encoders: Path | None, train_config: Path | None) -> list[LatentRecipe]:
    if encoders is None:
        return []
    if train_config is None:
        raise ConfigError("--encoders needs --train-config.", hint="Name the settings of that training.")
    return latent_recipes(encoders, settings_of.load(TrainConfig, train_config))


def _print_summary(console: Console, summary: PreparationSummary, out: Path, recipes: list[LatentRecipe]) -> None:
    again = sum(bool(report.again) for report in summary.reports)
    kept = sum(not report.made for report in summary.reports)
    made = len(summary.reports) - kept - again
    _print(console, f"made {made}, made again {again}, passed over {kept}, left out {len(summary.failures)}")
    if summary.replaced:
        _print(console, f"taken out because their mesh changed: {len(summary.replaced)}")
    if summary.same:
        _print(console, f"same content as another file: {len(summary.same)}")
    if recipes:
        _print(console, f"latents: {', '.join(recipe.folder for recipe in recipes)}")
    if summary.stopped:
        _print(console, "interrupted; run the same command again to go on", style="yellow")
    _print(console, f"{out} holds {summary.assets} assets")


def _print(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
