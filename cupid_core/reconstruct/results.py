"""What a reconstruction hands out, from one hypothesis to a whole scene."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupid_core.errors import CupidError, EmptyMeshError, InputError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.se3 import SE3
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.decode_gaussians import Gaussians
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.reconstruct.stages import Appearance, Structure, decode_gaussians
from cupid_core.scene.evidence import Evidence
from cupid_core.scene.refine import Refinement
from cupid_core.scene.shape_fit import ShapeFit
from cupid_core.scene.shape_symmetry import ShapeSymmetry
from cupid_core.types import CameraSource, Quality, ScaleSource, TriangleMesh

if TYPE_CHECKING:
    from cupid_core.config import CupidConfig


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """One sample of an object: a shape and where the camera stands. The unit is the edge of the canonical cube.

    Attributes:
        structure: voxels and their image positions, as stage 1 sampled them.
        pose: of the object; its camera is that of the whole image without lens distortion.
        quality: agreement with the image.
        score: what hypotheses are ranked by; more is better.
        appearance: latent of stage 2; None where it was not sampled (`reconstruct.rank_by: voxels`, not the best).
        shape: mesh in the canonical frame, cleaned, with colors; None without an appearance.
        watertight: `shape` is closed.
        networks: of the checkpoint; they decode what was not decoded yet.
    """

    structure: Structure
    pose: PoseEstimate
    quality: Quality
    score: float
    appearance: Appearance | None = None
    shape: TriangleMesh | None = None
    watertight: bool = False
    networks: NetworkBundle | None = None

    @property
    def number(self) -> int:
        """Which sample of the object, from 0."""
        return self.structure.number

    def mesh(self) -> TriangleMesh:
        """The mesh in the canonical frame.

        Raises:
            EmptyMeshError: its appearance was not sampled.
        """
        if self.shape is None:
            raise EmptyMeshError(
                f"Hypothesis {self.number} has no mesh: only the best one was decoded.",
                hint="Set reconstruct.rank_by: mesh to decode all of them.",
            )
        return self.shape

    def gaussians(self) -> Gaussians:
        """The Gaussian splats in the canonical frame, decoded now.

        Raises:
            EmptyMeshError: its appearance was not sampled.
            CheckpointError: the checkpoint has no decoder of Gaussians.
        """
        if self.appearance is None or self.networks is None:
            raise EmptyMeshError(
                f"Hypothesis {self.number} has no appearance to decode.",
                hint="Set reconstruct.rank_by: mesh to sample that of all of them.",
            )
        return decode_gaussians(self.networks, self.appearance)


@dataclass(frozen=True, eq=False)
class ObjectModel:
    """What an object is, wherever it stands.

    Attributes:
        label: its name.
        mesh: object frame, z up, cleaned; in metres unless `scale_source` is UNKNOWN, then in canonical units.
        watertight: the mesh is closed.
        scale: metres per canonical unit (1 where the source is UNKNOWN).
        scale_source: where the scale comes from.
        scale_std: its standard deviation, same unit; NaN where the source is UNKNOWN.
        appearance: latent that the mesh was decoded from.
        symmetry: rotations and mirror planes that leave the mesh as it is, in its frame.
    """

    label: str
    mesh: TriangleMesh
    watertight: bool
    scale: float
    scale_source: ScaleSource
    scale_std: float
    appearance: Appearance | None = None
    symmetry: ShapeSymmetry = field(default_factory=ShapeSymmetry.none)


@dataclass(frozen=True, eq=False)
class ObjectState:
    """Where an object stands.

    Attributes:
        T_camera_object: rigid; the scale is in the mesh.
        covariance: (6, 6) of x, y, z, rx, ry, rz in the camera frame, perturbation t + dt, Exp(dr) R, in the unit
            of the mesh and radians.
        calibrated: covariance, deviation of the scale and verdict were measured on objects with truth; else the
            deviations are wide guesses.
    """

    T_camera_object: SE3
    covariance: Tensor
    calibrated: bool = False

    def position_std(self) -> float:
        """Root of the summed variances of the position, in the unit of the mesh."""
        return float(self.covariance[:3, :3].trace().sqrt())

    def rotation_std(self, symmetry: ShapeSymmetry) -> float:
        """Root of the summed variances of the rotation, radians; without that about an axis of free rotation."""
        variance = self.covariance[3:, 3:].double()
        total = float(variance.trace())
        if symmetry.is_continuous:
            axis = self.T_camera_object.rotation().double() @ torch.from_numpy(symmetry.axis)
            total -= float(axis @ variance @ axis)
        return math.sqrt(max(total, 0.0))


@dataclass(frozen=True, eq=False)
class SceneObject:
    """One object of a scene, ready for use.

    Attributes:
        id: its number in the label image or among the masks.
        model: shape and scale.
        state: pose.
        quality: of the mesh as it is here, at this place.
        hypotheses: all that gave a pose, up to scale, best first; at least one.
        failures: why samples that are not among the hypotheses gave nothing, by number.
        truncated: the object touches the border of the image.
        refinement: what fitting place or shape changed, or why nothing; None where it was not asked for.
        evidence: what its certainty was computed from; None for an object that was not reconstructed.
    """

    id: int
    model: ObjectModel
    state: ObjectState
    quality: Quality
    hypotheses: tuple[Hypothesis, ...]
    failures: Mapping[int, CupidError]
    truncated: bool
    refinement: Refinement | ShapeFit | None = None
    evidence: Evidence | None = None

    @property
    def label(self) -> str:
        """Name of the object."""
        return self.model.label

    @property
    def mesh(self) -> TriangleMesh:
        """Mesh in the object frame; metres unless the scale is unknown."""
        return self.model.mesh

    @property
    def pose(self) -> SE3:
        """T_camera_object."""
        return self.state.T_camera_object

    @property
    def best(self) -> Hypothesis:
        """The hypothesis that this object was made of."""
        return self.hypotheses[0]

    def gaussians(self) -> Gaussians:
        """Gaussian splats in the canonical frame; see `Hypothesis.gaussians`."""
        return self.best.gaussians()

    def __repr__(self) -> str:
        """One line."""
        size = (self.mesh.vertices.amax(dim=0) - self.mesh.vertices.amin(dim=0)).tolist()
        unit = "" if self.model.scale_source is ScaleSource.UNKNOWN else " m"
        box = " x ".join(f"{edge:.3g}" for edge in size)
        return f"SceneObject({self.id} {self.label!r}, {box}{unit}, {self.quality.verdict.value})"


@dataclass(frozen=True)
class Provenance:
    """What a scene was made with.

    Attributes:
        checkpoint: name, folder or hub id; empty where the networks were given as they are.
        device: where the networks ran.
        seed: of the noise.
        samples: hypotheses per object.
        settings: every setting, nested, as in the settings file.
        runtimes: what ran each stage of the networks that torch did not run.
    """

    checkpoint: str = ""
    device: str = ""
    seed: int = 0
    samples: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)
    runtimes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Scene:
    """All objects of one image.

    A sequence of its objects: `scene[0]` is the first one, `scene["mug"]` that of this name.

    Attributes:
        objects: in the order of their ids.
        failures: why the others are missing, by id.
        camera: of `image`; without lens distortion.
        camera_source: where it comes from.
        image: (H, W, 3) uint8 without lens distortion.
        labels: (H, W) int32, the id of the object at each pixel of `image`, 0 for none.
        timings_s: seconds of each step.
        provenance: checkpoint, seed and settings.
    """

    objects: tuple[SceneObject, ...]
    failures: Mapping[int, CupidError]
    camera: Camera
    camera_source: CameraSource
    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    timings_s: Mapping[str, float]
    provenance: Provenance = field(default_factory=Provenance)

    def __len__(self) -> int:
        """Number of objects that were reconstructed."""
        return len(self.objects)

    def __iter__(self) -> Iterator[SceneObject]:
        """The objects in order."""
        return iter(self.objects)

    def __getitem__(self, key: int | str) -> SceneObject:
        """An object by its place in the order, or by its name.

        Raises:
            CupidError: there is none; where reconstructing it failed, that error.
        """
        if isinstance(key, str):
            for item in self.objects:
                if item.label == key:
                    return item
            raise InputError(
                f"No object is named {key!r}.",
                hint=f"There are {', '.join(repr(item.label) for item in self.objects) or 'no objects'}.",
            )
        if isinstance(key, bool) or not isinstance(key, int | np.integer):
            raise InputError(f"{key!r} is no name or number of an object.", hint="Use scene[0] or scene['mug'].")
        if -len(self.objects) <= key < len(self.objects):
            return self.objects[key]
        if not self.objects and self.failures:
            raise next(iter(self.failures.values()))
        raise InputError(f"The scene has {len(self.objects)} objects, not one at {key}.", hint="Count from 0.")

    def by_id(self, id_: int) -> SceneObject:
        """The object of an id.

        Raises:
            CupidError: there is none; where reconstructing it failed, that error.
        """
        for item in self.objects:
            if item.id == id_:
                return item
        if id_ in self.failures:
            raise self.failures[id_]
        raise InputError(f"No object has the id {id_}.", hint=f"There are {[item.id for item in self.objects]}.")

    def save(self, out: str | Path, config: CupidConfig | None = None) -> dict[str, Any]:
        """Write meshes, objects.json, pictures and report.html into a folder (docs/reconstruct.md).

        Args:
            out: the folder; made where it is missing, earlier results in it are replaced.
            config: sizes of the pictures; defaults where None.

        Returns:
            The content of `objects.json`.

        Raises:
            OutputError: the folder cannot be written to; it is as it was before.
        """
        from cupid_core.report.save import save_scene  # the report knows scenes, not the other way round

        return save_scene(self, Path(out), config)

    def show(self) -> None:
        """Open the report in a browser, from a temporary folder."""
        from cupid_core.report.save import show_scene

        show_scene(self)

    def __repr__(self) -> str:
        """One line."""
        found = ", ".join(f"{item.id} {item.label!r} {item.quality.verdict.value}" for item in self.objects)
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"Scene({len(self.objects)} objects: {found or 'none'}{failed})"
