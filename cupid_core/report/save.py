"""Writes all results of a reconstruction into one folder, all or nothing.

`objects.json` has all numbers (docs/objects_json.md), `object_<id>.ply` a mesh in its own frame with z up,
`object_<id>.glb` the same for viewers, `scene.glb` all objects in their places, `overlay.png` the photo with
outlines, axes and names, and `report.html` shows it all to people.
"""

from __future__ import annotations

import tempfile
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from cupid_core import __version__
from cupid_core.config import CupidConfig
from cupid_core.mesh.export import export_mesh, write_ply, write_splats
from cupid_core.mesh.glb import SceneItem, write_glb, write_scene_glb
from cupid_core.models.locate import checkpoint_hash
from cupid_core.reconstruct.results import Scene, SceneObject
from cupid_core.report.html import report_html
from cupid_core.report.objects_json import RunRecord, scene_record, to_json
from cupid_core.report.overlay import draw_overlay
from cupid_core.report.pictures import upward, view_scene
from cupid_core.report.write import INDEX, output_folder
from cupid_core.types import ScaleSource

SCENE, OVERLAY, REPORT = "scene.glb", "overlay.png", "report.html"


def save_scene(scene: Scene, out: Path, config: CupidConfig | None = None) -> dict[str, Any]:
    """Write all files of a scene, with what it knows of how it was made; see `save_results`.

    Args:
        scene: what was reconstructed.
        out: the folder.
        config: sizes of the pictures; defaults where None.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full; it is as it was before.
    """
    made_with = scene.provenance
    run = RunRecord(
        image="",
        version=__version__,
        checkpoint=made_with.checkpoint,
        checkpoint_sha256=checkpoint_hash(made_with.checkpoint) if made_with.checkpoint else "",
        seed=made_with.seed,
        samples=made_with.samples,
        settings=made_with.settings,
        device=made_with.device,
    )
    return save_results(scene, run, out, config or CupidConfig())


def show_scene(scene: Scene) -> None:
    """Open the report of a scene in a browser; it lies in a temporary folder that is left for the browser."""
    folder = Path(tempfile.mkdtemp(prefix="cupid-"))
    save_scene(scene, folder)
    webbrowser.open((folder / REPORT).as_uri())


def save_results(
    scene: Scene,
    run: RunRecord,
    out: Path,
    config: CupidConfig,
    *,
    names: Mapping[int, str] | None = None,
    urdf: bool = False,
    gaussians: bool = False,
) -> dict[str, Any]:
    """Write all files of a reconstruction.

    Args:
        scene: what was reconstructed; without objects there is no scene.glb.
        run: inputs and settings.
        out: the folder; made where it is missing, earlier results in it are replaced.
        config: sizes of the pictures.
        names: labels by id, for objects that failed.
        urdf: also write a model for simulators of each object that is closed and in metres.
        gaussians: also write the Gaussian splats of each object, canonical frame and unit.

    Returns:
        The content of `objects.json`.

    Raises:
        OutputError: the folder cannot be written to, or the disk is full; it is as it was before.
        CheckpointError: of `gaussians`: the checkpoint has no decoder of Gaussians.
        MissingPackageError: of `urdf`: the extra `convex` is not installed.
    """
    splats = {item.id: item.gaussians().ply_table() for item in scene.objects} if gaussians else {}
    files = {"overlay": OVERLAY, "report": REPORT} | ({"scene": SCENE} if scene.objects else {})
    own = {item.id: _files_of(item, urdf=urdf, gaussians=gaussians) for item in scene.objects}
    record = scene_record(scene, run, names=names or {}, object_files=own, files=files)
    views = view_scene(scene, config.report.longest_px)
    overlay = draw_overlay(views, scene.objects)
    page = report_html(scene, views, overlay, record, config.report)
    png = cv2.imencode(".png", np.ascontiguousarray(overlay[..., ::-1]))[1].tobytes()
    with output_folder(out) as folder:
        for item in scene.objects:
            write_ply(folder / own[item.id]["ply"], item.mesh)
            write_glb(folder / own[item.id]["glb"], item.mesh, item.label or f"object_{item.id}")
            if "urdf" in own[item.id]:
                export_mesh(item.mesh, folder / own[item.id]["urdf"], config.mesh)
            if "splats" in own[item.id]:
                write_splats(folder / own[item.id]["splats"], splats[item.id])
        if scene.objects:
            items = [SceneItem(f"{i.id} {i.label}".strip(), i.mesh, i.pose) for i in scene.objects]
            write_scene_glb(folder / SCENE, items, up_camera=upward(scene.objects))
        (folder / OVERLAY).write_bytes(png)
        (folder / REPORT).write_text(page, encoding="utf-8")
        (folder / INDEX).write_text(to_json(record), encoding="utf-8")
    return record


def has_urdf(item: SceneObject) -> bool:
    """Whether an object can be a model for simulators: closed, so that it has a mass, and in metres."""
    return item.model.watertight and item.model.scale_source is not ScaleSource.UNKNOWN


def _files_of(item: SceneObject, *, urdf: bool, gaussians: bool) -> dict[str, str]:
    names = {kind: f"object_{item.id}.{kind}" for kind in ("ply", "glb")}
    if urdf and has_urdf(item):
        names["urdf"] = f"object_{item.id}.urdf"
    if gaussians:
        names["splats"] = f"object_{item.id}_splats.ply"
    return names
