"""Whole scenes: with networks that know the truth of a generated frame, everything else must find it again."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_pipeline import CAMERA, disc, picture, settings

from cupid_core.config import CupidConfig, ReconstructConfig
from cupid_core.data.tabletop.scene import SceneObject, SceneSettings, TabletopScene, draw_scene
from cupid_core.errors import CupidError, EmptyMaskError, InputError, StructureEmptyError
from cupid_core.geometry import depth_to_metres
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.se3 import SE3
from cupid_core.mesh.voxel_boxes import voxel_boxes
from cupid_core.models.bundle import NetworkBundle
from cupid_core.reconstruct import inputs, pipeline
from cupid_core.reconstruct.inputs import Frame, ObjectCrop
from cupid_core.reconstruct.pipeline import Cupid
from cupid_core.reconstruct.progress import OnShare
from cupid_core.reconstruct.results import Scene
from cupid_core.reconstruct.stages import Structure, StructureOrError
from cupid_core.render.raycast import render_mesh
from cupid_core.types import CameraSource, DepthMap, ScaleSource, TriangleMesh

NOISE_UV = 0.003


@pytest.fixture(scope="module")
def scene() -> TabletopScene:
    return draw_scene(
        3, SceneSettings(width=160, height=128, least=3, most=3, resolution=16, degradation=0.0), seed=11
    )


def camera_of(scene: TabletopScene) -> Camera:
    return Camera(scene.K.double(), scene.labels.shape[1], scene.labels.shape[0])


def depth_of(scene: TabletopScene) -> DepthMap:
    depth_m, _ = depth_to_metres(scene.depth)
    return DepthMap(depth_m, ScaleSource.SENSOR, scale_std=0.01)


class Crops:
    """Stands for the encoded crops: the crops themselves."""

    def __init__(self, crops: Sequence[ObjectCrop]) -> None:
        self.tokens = list(crops)

    def rows(self, rows: Sequence[int]) -> "Crops":
        return Crops([self.tokens[row] for row in rows])


class Oracle:
    """Stands for the networks: structure from the truth with noise on every pixel, boxes for a mesh."""

    def __init__(self, scene: TabletopScene, missing: Sequence[int] = ()) -> None:
        self.scene, self.missing = scene, missing

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pipeline, "encode_images", lambda networks, crops: Crops(crops))
        monkeypatch.setattr(pipeline, "sample_structures", self.structures)
        monkeypatch.setattr(pipeline, "sample_appearances", lambda networks, condition, items, *rest: items)
        monkeypatch.setattr(pipeline, "decode_mesh", self.mesh)
        monkeypatch.setattr(pipeline, "samplers_of", lambda networks, config: (None, None))

    def structures(
        self, networks: NetworkBundle, crops: Crops, sampler: None, seeds: Sequence[int], step: object
    ) -> list[StructureOrError]:
        items: list[StructureOrError] = []
        for row, crop in enumerate(crops.tokens):
            truth = self.object_in(crop)
            for number, seed in enumerate(seeds):
                if truth.label in self.missing:
                    items.append(StructureEmptyError("Nothing.", hint="None."))
                    continue
                coords = truth.shell.nonzero()
                generator = torch.Generator().manual_seed(seed)
                points = ((coords + 0.5) / truth.shell.shape[0] - 0.5).double() * truth.scale_m
                px = camera_of(self.scene).project(SE3.from_matrix(truth.T_camera_object.double()).apply(points))
                square = crop.crop
                uv = (px + 0.5 - torch.tensor([square.left, square.top])) / square.side
                uv += NOISE_UV * torch.randn(uv.shape, generator=generator, dtype=uv.dtype)
                items.append(Structure(row, number, coords, uv.float(), truth.shell.shape[0]))
        return items

    def object_in(self, crop: ObjectCrop) -> SceneObject:
        labels = self.scene.labels.numpy()[crop.mask]
        return next(item for item in self.scene.objects if item.label == np.bincount(labels).argmax())

    def mesh(self, networks: NetworkBundle, structure: Structure, on_share: OnShare) -> TriangleMesh:
        return voxel_boxes(structure.coords, structure.resolution)


def reconstruct(scene: TabletopScene, **given: object) -> Scene:
    # The oracle asks no network.
    networks = SimpleNamespace(
        device="cpu", completion=None, runtimes={}, published=SimpleNamespace(color="generated", calibration=None)
    )
    cupid = Cupid(networks, CupidConfig())  # type: ignore[arg-type]
    return cupid(scene.color.numpy(), masks=scene.labels.numpy(), **given)  # type: ignore[arg-type]


def center(item: SceneObject) -> torch.Tensor:
    return item.T_camera_object[:3, 3].double()


def test_poses_and_metres_come_back(scene: TabletopScene, monkeypatch: pytest.MonkeyPatch) -> None:
    Oracle(scene).install(monkeypatch)
    names = {item.label: item.family for item in scene.objects}
    result = reconstruct(scene, camera=camera_of(scene), depth=depth_of(scene), names=names)
    assert not result.failures and result.camera_source is CameraSource.GIVEN
    assert [placed.id for placed in result.objects] == [item.label for item in scene.objects]
    for placed, item in zip(result.objects, scene.objects, strict=True):
        assert placed.model.scale_source is ScaleSource.SENSOR and placed.label == item.family
        # Corners of boxes stand out by up to a voxel, a sixteenth of the cube: depth takes it for being nearer.
        assert placed.model.scale == pytest.approx(item.scale_m, rel=0.07)
        distance = float(center(item).norm())
        assert float((placed.pose.translation - center(item)).norm()) < 0.07 * distance
        turned = placed.pose.rotation().T @ item.T_camera_object[:3, :3].double()
        assert float(torch.arccos(((turned.trace() - 1) / 2).clamp(-1, 1))) < np.radians(1.5)
        extent = placed.mesh.vertices.amax(dim=0) - placed.mesh.vertices.amin(dim=0)
        assert float(extent.max()) == pytest.approx(0.96 * item.scale_m, rel=0.1)
        assert placed.quality.silhouette_iou > 0.65  # boxes make the stem of a goblet thick
        assert placed.quality.depth_residual_m is not None and placed.quality.depth_residual_m < 0.02


def test_only_what_is_wanted_is_reconstructed_and_the_rest_still_hides_it(
    scene: TabletopScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    occluded: dict[int, int] = {}
    crop_object = inputs.crop_object

    def crop(image: object, mask: np.ndarray, *rest: object, **given: object) -> ObjectCrop:
        occlusion = given["occlusion"]
        label = int(np.bincount(scene.labels.numpy()[mask]).argmax())
        occluded[label] = 0 if occlusion is None else int(np.sum(occlusion))  # type: ignore[arg-type]
        return crop_object(image, mask, *rest, **given)  # type: ignore[arg-type]

    Oracle(scene).install(monkeypatch)
    monkeypatch.setattr(inputs, "crop_object", crop)
    given = {"camera": camera_of(scene), "depth": depth_of(scene)}
    reconstruct(scene, **given)
    whole, wanted = dict(occluded), max(occluded, key=lambda label: occluded[label])
    assert whole[wanted] > 0
    occluded.clear()
    found = reconstruct(scene, only=[wanted], **given)
    assert [item.id for item in found.objects] == [wanted]
    assert occluded == {wanted: whole[wanted]}
    with pytest.raises(EmptyMaskError, match="77"):
        reconstruct(scene, only=[77], **given)


def test_without_depth_the_scene_is_up_to_scale_and_says_so(
    scene: TabletopScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    Oracle(scene).install(monkeypatch)
    sizes = {scene.objects[0].label: 0.96 * scene.objects[0].scale_m}
    result = reconstruct(scene, camera=camera_of(scene), sizes_m=sizes)
    known, *others = result.objects
    assert known.model.scale_source is ScaleSource.KNOWN_SIZE
    assert known.model.scale == pytest.approx(scene.objects[0].scale_m, rel=0.1)
    for placed in others:
        assert (
            placed.model.scale_source is ScaleSource.UNKNOWN
            and placed.model.scale == 1.0
            and np.isnan(placed.model.scale_std)
        )
        assert placed.quality.depth_residual_m is None


def test_without_a_camera_all_objects_agree_on_one(scene: TabletopScene, monkeypatch: pytest.MonkeyPatch) -> None:
    Oracle(scene).install(monkeypatch)
    result = reconstruct(scene)
    assert result.camera_source is CameraSource.ESTIMATED
    assert float(result.camera.K[0, 0]) == pytest.approx(float(scene.K[0, 0]), rel=0.15)
    for placed in result.objects:
        torch.testing.assert_close(placed.best.pose.camera.K, result.camera.K)


def test_an_object_that_fails_does_not_affect_the_others(
    scene: TabletopScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = scene.objects[1].label
    Oracle(scene, missing=[failing]).install(monkeypatch)
    result = reconstruct(scene, camera=camera_of(scene), depth=depth_of(scene), samples=2)
    assert list(result.failures) == [failing] and isinstance(result.failures[failing], StructureEmptyError)
    assert [placed.id for placed in result.objects] == [
        item.label for item in scene.objects if item.label != failing
    ]


def test_refinement_is_reported_and_never_hurts(scene: TabletopScene, monkeypatch: pytest.MonkeyPatch) -> None:
    Oracle(scene).install(monkeypatch)
    plain = reconstruct(scene, camera=camera_of(scene), depth=depth_of(scene))
    refined = reconstruct(scene, camera=camera_of(scene), depth=depth_of(scene), refine="pose")
    for before, after in zip(plain.objects, refined.objects, strict=True):
        assert before.refinement is None and after.refinement is not None and after.refinement.reason
        assert after.quality.silhouette_iou >= before.quality.silhouette_iou - 0.01


def test_a_scene_that_cannot_be_used_is_refused() -> None:
    cupid = Cupid(None, settings())  # type: ignore[arg-type]  # refused before any network is asked
    with pytest.raises(EmptyMaskError):
        cupid(picture(), masks=np.zeros((90, 120), dtype=np.int32))
    with pytest.raises(InputError, match="longest side"):
        cupid(picture(), masks={1: disc(60, 40, 10)}, camera=CAMERA, sizes_m={1: -1.0})
    other_size = DepthMap(torch.ones(20, 20), ScaleSource.SENSOR)
    for camera in (CAMERA, None):
        with pytest.raises(CupidError):
            cupid(picture(), masks={1: disc(60, 40, 10)}, camera=camera, depth=other_size)


def colored_scene(scene: TabletopScene, color: str, published: str) -> Scene:
    """The scene with a setting for color and a checkpoint that asks for one."""
    networks = SimpleNamespace(
        device="cpu", completion=None, runtimes={}, published=SimpleNamespace(color=published, calibration=None)
    )
    config = CupidConfig(reconstruct=ReconstructConfig(color=color))  # type: ignore[arg-type]
    frame = Frame.of(
        scene.color.numpy(), scene.labels.numpy().astype(np.int32), camera=camera_of(scene), depth=depth_of(scene)
    )
    return Cupid(networks, config).reconstruct(frame)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("color", "published", "photographed"),
    [
        ("auto", "photo", True),
        ("auto", "generated", False),
        ("photo", "generated", True),
        ("generated", "photo", False),
    ],
)
def test_the_setting_decides_on_color_and_without_one_the_checkpoint(
    scene: TabletopScene, monkeypatch: pytest.MonkeyPatch, color: str, published: str, photographed: bool
) -> None:
    Oracle(scene).install(monkeypatch)
    for placed in colored_scene(scene, color, published).objects:
        assert (placed.mesh.texture is not None) == photographed
        assert placed.best.mesh().texture is None  # a hypothesis keeps what was generated


def test_color_from_the_photograph_changes_no_shape_and_no_verdict(
    scene: TabletopScene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Oracle(scene).install(monkeypatch)
    generated, photo = (colored_scene(scene, color, "generated") for color in ("generated", "photo"))
    for one, other in zip(generated.objects, photo.objects, strict=True):
        assert torch.equal(one.mesh.vertices, other.mesh.vertices)
        assert torch.equal(one.mesh.faces, other.mesh.faces)
        assert one.quality == other.quality and one.model.watertight == other.model.watertight
        seen = render_mesh(other.mesh, other.pose, photo.camera)
        inside = seen.mask & (photo.labels == other.id)
        assert seen.colors is not None
        # Voxel boxes bury part of the pixels in grazing walls.
        assert np.median(np.abs(seen.colors[inside] - photo.image[inside] / 255)) < 0.03
        assert b"image/png" in other.mesh.export(tmp_path / "object.glb").read_bytes()
