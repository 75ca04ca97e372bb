"""The first hypothesis of each object: its shape completed from what mask and depth show, in one pass.

    encode         crops, with depth where it is known, to canonical points of the visible surface
    coarse pose    from these points and depth, or their image positions
    complete       evidence of the view, in the frame of that pose, to all surface voxels and a better pose

It stands in for stage 1 with the mean of what is likely, which is right more often than one sample. The other
hypotheses are samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from cupid_core.config import CupidConfig
from cupid_core.errors import CupidError, StructureEmptyError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.grid import voxel_centers
from cupid_core.geometry.sim3 import Sim3
from cupid_core.models.bundle import CompletionNetworks
from cupid_core.models.encoder_planes import PLANES
from cupid_core.models.evidence import ViewEvidence
from cupid_core.models.image_encoder import tokens_of
from cupid_core.models.shape_completion import complete_shapes
from cupid_core.models.surface_head import SurfacePrediction, trusted_points
from cupid_core.pose.coarse_pose import coarse_pose
from cupid_core.reconstruct.inputs import ObjectCrop, depth_images, encoder_images, normalized_intrinsics
from cupid_core.reconstruct.stages import FEWEST_VOXELS, Structure, StructureOrError
from cupid_core.scene.evidence import Recognition

_MASK = PLANES["rgb"]


def complete_structures(
    networks: CompletionNetworks, crops: Sequence[ObjectCrop], config: CupidConfig
) -> list[StructureOrError]:
    """The completed structure of each crop, hypothesis 0, or why there is none.

    Args:
        networks: of the checkpoint.
        crops: of B objects.
        config: how often the pose is corrected.
    """
    encoder = networks.image_encoder
    device = encoder.pos_embed.device
    size = encoder.img_size // encoder.shrink
    image = encoder_images(crops, size, [name for name in PLANES if name != "gravity"]).to(device)
    tokens = tokens_of(encoder, image)
    predicted = networks.surface_head(tokens[:, encoder.num_prefix_tokens :], encoder.native_grid)
    points, trust, uv = trusted_points(predicted)
    depth, intrinsics = depth_images(crops, size).to(device), normalized_intrinsics(crops).to(device)
    rows = (uv * size).long().clamp(0, size - 1)
    measured = depth[:, rows[:, 1], rows[:, 0]]
    found: list[StructureOrError] = []
    coarse: dict[int, Sim3] = {}
    recognitions: dict[int, Recognition] = {}
    for row in range(len(crops)):
        camera = Camera.from_normalized(intrinsics[row].double().cpu(), 1, 1)
        try:
            coarse[row], used, residual = coarse_pose(
                points[row].cpu(), uv.cpu(), trust[row].cpu(), measured[row].cpu(), camera
            )
        except CupidError as error:
            found.append(error)
            continue
        recognitions[row] = _recognition(predicted, points, trust, row, residual)
        if not used:  # a pose that is only known up to scale cannot be compared with depth
            depth[row] = 0
        found.append(StructureEmptyError("Not completed.", hint="Sample more hypotheses."))
    if not coarse:
        return found
    index = torch.tensor(list(coarse), device=device)
    view = ViewEvidence(
        image[index, _MASK : _MASK + 1],
        depth[index],
        intrinsics[index],
        predicted.points[index],
        predicted.visible[index].sigmoid(),
    )
    occupancy, S_camera_cube = complete_shapes(
        networks.shape_completion,
        view,
        tokens[index, 0],
        _stacked(list(coarse.values()), device),
        config.reconstruct.pose_corrections,
    )
    for place, row in enumerate(coarse):
        structure = _structure(occupancy[place] > 0, S_camera_cube, place, crops[row])
        if isinstance(structure, Structure):
            structure = replace(structure, crop=row, recognition=recognitions[row])
        found[row] = structure
    return found


def _recognition(
    predicted: SurfacePrediction, points: Tensor, trust: Tensor, row: int, residual: float
) -> Recognition:
    """How surely the frame of one object was recognized; of a head without bins only the residual is known."""
    visible = trust[row] > 0
    if predicted.bins is None or not bool(visible.any()):
        return Recognition(residual=residual)
    gap = (points[row] - predicted.points[row].flatten(1).mT)[visible].norm(dim=1).mean()
    return Recognition(float(trust[row][visible].mean()), float(gap), residual)


def complete_again(
    networks: CompletionNetworks,
    structures: Sequence[StructureOrError],
    crops: Sequence[ObjectCrop],
    config: CupidConfig,
) -> list[StructureOrError]:
    """The same structures, the completed ones made anew: with another camera the same evidence says another pose.

    Args:
        networks: of the checkpoint.
        structures: of all crops.
        crops: with their new cameras.
        config: how often the pose is corrected.
    """
    found = complete_structures(networks, crops, config)
    return [found[item.crop] if isinstance(item, Structure) and item.completed else item for item in structures]


def _structure(occupied: Tensor, poses: Sim3, place: int, crop: ObjectCrop) -> StructureOrError:
    """Occupied voxels (R, R, R) with their positions in the crop, as stage 1 samples them."""
    coords = occupied.nonzero()
    if len(coords) < FEWEST_VOXELS:
        return StructureEmptyError(
            f"The completed shape has {len(coords)} voxels.",
            hint="Check that the mask covers the object, or sample more hypotheses.",
        )
    resolution = len(occupied)
    pose = Sim3(poses.scale[place], poses.quat_xyzw[place], poses.translation[place]).to(dtype=torch.float64)
    placed = pose.apply(voxel_centers(coords.double(), resolution))
    uv = crop.camera.px_to_uv(crop.camera.to(dtype=torch.float64, device=placed.device).project(placed))
    return Structure(0, 0, coords, uv.clamp(0, 1).float(), resolution)


def _stacked(poses: Sequence[Sim3], device: torch.device) -> Sim3:
    """One batch (B,) float32 of single similarities."""
    return Sim3(
        torch.stack([pose.scale for pose in poses]).float().to(device),
        torch.stack([pose.quat_xyzw for pose in poses]).float().to(device),
        torch.stack([pose.translation for pose in poses]).float().to(device),
    )
