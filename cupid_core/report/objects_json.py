"""`objects.json`: the numbers of a reconstruction for other programs.

docs/objects_json.md explains every field, and `assets/objects.schema.json` is the same as a JSON schema.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cupid_core.errors import CupidError, EmptyMeshError, OpenMeshError
from cupid_core.mesh.physical import physical_properties
from cupid_core.reconstruct.results import Hypothesis, Scene, SceneObject
from cupid_core.scene.agreement import Agreement
from cupid_core.scene.evidence import Evidence
from cupid_core.scene.refine import Refinement
from cupid_core.scene.shape_fit import ShapeFit
from cupid_core.scene.shape_symmetry import NO_SYMMETRY, TOLERANCE, ShapeSymmetry
from cupid_core.types import Quality, ScaleSource

SCHEMA = "cupid.objects"
# Raised when a field changes its meaning or goes; new fields alone do not raise it.
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class RunRecord:
    """Inputs and settings of a reconstruction.

    Attributes:
        image: name of the image file.
        version: of this package.
        checkpoint: what the caller named.
        checkpoint_sha256: content hash of its files.
        seed: of the noise.
        samples: hypotheses sampled per object.
        settings: every setting, nested, as in the settings file.
        inputs: other inputs by name (mask, depth, camera, ...), as the caller named them.
        device: where the networks ran.
    """

    image: str
    version: str
    checkpoint: str
    checkpoint_sha256: str
    seed: int
    samples: int
    settings: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"


def scene_record(
    scene: Scene,
    run: RunRecord,
    *,
    names: Mapping[int, str],
    object_files: Mapping[int, Mapping[str, str]],
    files: Mapping[str, str],
) -> dict[str, Any]:
    """The content of `objects.json`.

    Args:
        scene: what was reconstructed.
        run: inputs and settings.
        names: labels by id; objects that failed are in it as well.
        object_files: file names of each object by kind ("ply", "glb"), by id.
        files: file names of the scene by kind ("scene", "overlay", "report").
    """
    camera = scene.camera
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "generator": {"package": "cupid_ros", "version": run.version},
        "image": {"file": run.image, "width": int(scene.image.shape[1]), "height": int(scene.image.shape[0])},
        "camera": {
            "source": scene.camera_source.value,
            "K": _rows(camera.K),
            "width": camera.width,
            "height": camera.height,
        },
        "objects": [_object(item, dict(object_files.get(item.id, {}))) for item in scene.objects],
        "failures": [_failure(id_, names.get(id_, ""), error) for id_, error in sorted(scene.failures.items())],
        "files": dict(files),
        "run": {
            "checkpoint": {"name": run.checkpoint, "sha256": run.checkpoint_sha256},
            "device": run.device,
            "seed": run.seed,
            "samples": run.samples,
            "inputs": dict(run.inputs),
            "timings_s": {name: _number(value) for name, value in scene.timings_s.items()},
            "settings": dict(run.settings),
        },
    }


def to_json(record: Mapping[str, Any]) -> str:
    """A record as text: strict JSON (no NaN), short lists of numbers on one line."""
    return _text(record, "") + "\n"


def _object(item: SceneObject, files: dict[str, str]) -> dict[str, Any]:
    metric = item.model.scale_source is not ScaleSource.UNKNOWN
    vertices = item.mesh.vertices
    return {
        "id": item.id,
        "label": item.label,
        "T_camera_object": _rows(item.pose.matrix()),
        "unit": "metre" if metric else "canonical",
        "scale": _number(item.model.scale),
        "scale_source": item.model.scale_source.value,
        "scale_std": _number(item.model.scale_std),
        "covariance": _rows(item.state.covariance),
        "position_std": _number(item.state.position_std()),
        "rotation_std_deg": _number(math.degrees(item.state.rotation_std(item.model.symmetry))),
        "calibrated": item.state.calibrated,
        "symmetry": _symmetry(item.model.symmetry),
        "dimensions": _rows(vertices.amax(dim=0) - vertices.amin(dim=0)),
        "truncated": item.truncated,
        "quality": _quality(item.quality),
        "evidence": None if item.evidence is None else _evidence(item.evidence),
        "refinement": None if item.refinement is None else _refinement(item.refinement),
        "mesh": {
            "vertices": int(vertices.shape[0]),
            "triangles": int(item.mesh.faces.shape[0]),
            "watertight": item.model.watertight,
        },
        "physical": _physical(item),
        "hypotheses": [_hypothesis(hypothesis) for hypothesis in item.hypotheses],
        "failed_hypotheses": [_failure(number, "", error) for number, error in sorted(item.failures.items())],
        "files": files,
    }


def _physical(item: SceneObject) -> dict[str, Any] | None:
    """At density 1, in powers of the mesh's unit; None where the mesh encloses no volume."""
    try:
        found = physical_properties(item.mesh)
    except (OpenMeshError, EmptyMeshError):
        return None
    return {
        "volume": _number(found.volume_m3),
        "area": _number(found.area_m2),
        "center_of_mass": _rows(found.center_of_mass),
        "inertia": _rows(found.inertia),
    }


def _quality(quality: Quality) -> dict[str, Any]:
    return {
        "verdict": quality.verdict.value,
        "reasons": list(quality.reasons),
        "silhouette_iou": _number(quality.silhouette_iou),
        "color_psnr_db": _number(quality.color_psnr_db),
        "reprojection_rms_px": _number(quality.reprojection_rms_px),
        "inlier_ratio": _number(quality.inlier_ratio),
        "depth_residual_m": _number(quality.depth_residual_m),
        "p_good": _number(quality.p_good),
    }


def _evidence(evidence: Evidence) -> dict[str, float | None]:
    return {name: _number(value) for name, value in evidence.values().items()}


def _symmetry(symmetry: ShapeSymmetry) -> dict[str, Any]:
    return {
        "fold": symmetry.fold,
        "axis": None if symmetry.fold == NO_SYMMETRY else symmetry.axis.tolist(),
        "center": symmetry.center.tolist(),
        "mirror_normals": symmetry.mirror_normals.tolist(),
        "tolerance": TOLERANCE,
    }


def _refinement(refinement: Refinement | ShapeFit) -> dict[str, Any]:
    if isinstance(refinement, ShapeFit):
        own: dict[str, Any] = {
            "kind": "shape",
            "axis_scales": refinement.axis_scales.tolist(),
            "uses_offsets": refinement.uses_offsets,
        }
    else:
        own = {"kind": "pose", "iterations": refinement.iterations}
    return {
        **own,
        "accepted": refinement.accepted,
        "reason": refinement.reason,
        "before": _agreement(refinement.before),
        "after": _agreement(refinement.after),
    }


def _agreement(agreement: Agreement) -> dict[str, Any]:
    return {
        "silhouette_iou": _number(agreement.silhouette_iou),
        "depth_residual_m": _number(agreement.depth_residual_m),
    }


def _hypothesis(hypothesis: Hypothesis) -> dict[str, Any]:
    return {
        "number": hypothesis.number,
        "score": _number(hypothesis.score),
        "T_camera_canonical": _rows(hypothesis.pose.T_camera_object.matrix()),
        "degeneracy": hypothesis.pose.degeneracy,
        "quality": _quality(hypothesis.quality),
    }


def _failure(id_: int, label: str, error: CupidError) -> dict[str, Any]:
    return {"id": id_, "label": label, "code": error.code, "problem": error.problem, "hint": error.hint}


def _number(value: float | None) -> float | None:
    """JSON has no NaN and no infinity: what is not a number is absent."""
    return None if value is None or not math.isfinite(value) else float(value)


def _rows(tensor: Tensor) -> Any:
    """Nested lists of float; row by row for a matrix."""
    return _absent(tensor.detach().double().cpu().tolist())


def _absent(value: Any) -> Any:
    return [_absent(part) for part in value] if isinstance(value, list) else _number(value)


def _text(value: Any, indent: str) -> str:
    deeper = indent + "  "
    if isinstance(value, Mapping) and value:
        lines = [f"{deeper}{json.dumps(str(key))}: {_text(part, deeper)}" for key, part in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        if not any(isinstance(part, list | tuple | Mapping) for part in value):
            return json.dumps(list(value), allow_nan=False, ensure_ascii=False)
        return "[\n" + ",\n".join(deeper + _text(part, deeper) for part in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False, ensure_ascii=False)
