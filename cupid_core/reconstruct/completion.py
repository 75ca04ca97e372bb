"""The first hypothesis of each object: its shape completed from what mask and depth show, in one pass.

    encode         crops, with depth where it is known, to canonical points of the visible surface
    coarse pose    from these points and depth, or their image positions
    complete       evidence of the view, in the frame of that pose, to all surface voxels and a better pose

It stands in for stage 1 with the mean of what is likely, which is right more often than one sample. The other
hypotheses are samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cupid_core.config import CupidConfig
from cupid_core.errors import CupidError, StructureEmptyError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.grid import voxel_centers
from cupid_core.geometry.sim3 import Sim3
from cupid_core.models.bundle import CompletionNetworks
from cupid_core.models.encoder_planes import PLANES, gravity_planes, point_planes
from cupid_core.models.evidence import ViewEvidence
from cupid_core.models.image_encoder import tokens_of
from cupid_core.models.shape_completion import complete_shapes
from cupid_core.models.surface_head import SurfacePrediction, trusted_points
from cupid_core.pose.coarse_pose import coarse_pose
from cupid_core.reconstruct.inputs import ObjectCrop, depth_images, encoder_images, normalized_intrinsics
from cupid_core.reconstruct.stages import FEWEST_VOXELS, Structure, StructureOrError
from cupid_core.scene.evidence import Recognition

_MASK = PLANES["rgb"]
# Log-odds by which a turned crop must be surer (docs/evaluation.md has what the turns are worth).
_TURN_MARGIN = 1.0
# Below this part of a vertical across the viewing direction, a camera looks down or up: no turn is upright.
_LEAST_ACROSS = 0.3


def complete_structures(
    networks: CompletionNetworks, crops: Sequence[ObjectCrop], config: CupidConfig, up: Tensor | None = None
) -> list[StructureOrError]:
    """The completed structure of each crop, hypothesis 0, or why there is none.

    Args:
        networks: of the checkpoint.
        crops: of B objects.
        config: whether turned crops are looked at, and how often the pose is corrected.
        up: (3,) unit vector against gravity, camera frame; None where it is not known.
    """
    seen = _encoded(networks, crops, config, up)
    predicted, depth, intrinsics = seen.predicted, seen.depth, seen.intrinsics
    points, trust, uv = trusted_points(predicted)
    size, device = depth.shape[-1], depth.device
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
        seen.mask[index],
        depth[index],
        intrinsics[index],
        predicted.points[index],
        predicted.visible[index].sigmoid(),
    )
    occupancy, S_camera_cube = complete_shapes(
        networks.shape_completion,
        view,
        seen.class_token[index],
        _stacked(list(coarse.values()), device),
        config.reconstruct.pose_corrections,
    )
    for place, row in enumerate(coarse):
        structure = _structure(occupancy[place] > 0, S_camera_cube, place, crops[row])
        if isinstance(structure, Structure):
            structure = replace(structure, crop=row, recognition=recognitions[row])
        found[row] = structure
    return found


@dataclass(frozen=True, eq=False)
class _Encoded:
    """What the encoder says of B crops of S x S pixels; images are as the crops are, whatever turn was looked at.

    Attributes:
        mask: (B, 1, S, S).
        depth: (B, S, S), 0 where there is none.
        intrinsics: (B, 3, 3) normalized.
        class_token: (B, C).
        predicted: canonical points.
    """

    mask: Tensor
    depth: Tensor
    intrinsics: Tensor
    class_token: Tensor
    predicted: SurfacePrediction


def _encoded(
    networks: CompletionNetworks, crops: Sequence[ObjectCrop], config: CupidConfig, up: Tensor | None
) -> _Encoded:
    """Encode the crops in the turn that is upright, or else in the one that the network is surest of.

    The network knows objects as they stand. With gravity the crop is turned by the quarter turns that bring it
    nearest to upright; without, all four are looked at, and another one than the camera's has to be clearly surer.
    """
    encoder = networks.image_encoder
    device = encoder.pos_embed.device
    size = encoder.img_size // encoder.shrink
    pictures = encoder_images(crops, size, ["rgb", "mask"]).to(device)
    depth, intrinsics = depth_images(crops, size).to(device), normalized_intrinsics(crops).to(device)
    turns: Sequence[int] = range(4) if config.reconstruct.try_turns and networks.surface_head.bins else (0,)
    if up is not None and math.hypot(float(up[0]), float(up[1])) > _LEAST_ACROSS:
        turns = (_turn_to_upright(up),)
    found: list[tuple[Tensor, SurfacePrediction]] = []
    for turn in turns:
        tokens = tokens_of(encoder, turned_planes(pictures, depth, intrinsics, turn, up))
        predicted = networks.surface_head(tokens[:, encoder.num_prefix_tokens :], encoder.native_grid)
        found.append((tokens[:, 0], _turned_back(predicted, turn)))
    sureness = torch.stack([_sureness(predicted) for _, predicted in found])
    sureness[0] += _TURN_MARGIN
    best, row = sureness.argmax(dim=0), torch.arange(len(crops), device=device)

    def of_best(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(parts))[best, row]

    predictions = [predicted for _, predicted in found]
    bins = [predicted.bins for predicted in predictions if predicted.bins is not None]
    chosen = SurfacePrediction(
        of_best([predicted.points for predicted in predictions]),
        of_best([predicted.visible for predicted in predictions]),
        of_best(bins) if bins else None,
    )
    mask = pictures[:, _MASK : _MASK + 1]
    return _Encoded(mask, depth, intrinsics, of_best([token for token, _ in found]), chosen)


def turned_planes(pictures: Tensor, depth: Tensor, intrinsics: Tensor, turn: int, up: Tensor | None) -> Tensor:
    """The planes of an encoder for crops that are turned counterclockwise.

    Args:
        pictures: (B, 4, S, S) color and mask.
        depth: (B, S, S), 0 where there is none.
        intrinsics: (B, 3, 3) normalized.
        turn: by how many quarter turns.
        up: (3,) unit vector against gravity in the camera frame that is not turned; None where it is not known.

    Returns:
        (B, C, S, S), with the planes of gravity where it is known.
    """
    K, known = intrinsics, torch.full((len(depth),), up is not None, device=depth.device)
    direction = torch.zeros(3) if up is None else up.float()
    for _ in range(turn):  # the picture's x is where its y was, its y where x was, from the other side
        fx, fy, cx, cy = K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2]
        K = K.clone()
        K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2] = fy, fx, cy, 1 - cx
        direction = torch.stack([direction[1], -direction[0], direction[2]])
    ups = direction.to(depth.device).expand(len(depth), 3)
    planes = [torch.rot90(pictures, turn, (2, 3)), point_planes(torch.rot90(depth, turn, (1, 2)), K, ups, known)]
    if up is not None:
        planes.append(gravity_planes(K, ups, known, depth.shape[-1]))
    return torch.cat(planes, dim=1)


def _turn_to_upright(up: Tensor) -> int:
    """Quarter turns of a picture, counterclockwise, after which up is nearest to the top."""
    x, y = float(up[0]), float(up[1])
    return round(math.atan2(x, -y) / (math.pi / 2)) % 4


def _turned_back(predicted: SurfacePrediction, turn: int) -> SurfacePrediction:
    """Predictions for a turned picture, as images of the picture that was not turned."""
    bins = None if predicted.bins is None else torch.rot90(predicted.bins, -turn, (3, 4))
    points, visible = (torch.rot90(part, -turn, (2, 3)) for part in (predicted.points, predicted.visible))
    return SurfacePrediction(points, visible, bins)


def _sureness(predicted: SurfacePrediction) -> Tensor:
    """Log-odds (B,) of the mean trust in the canonical points of what is visible."""
    _, trust, _ = trusted_points(predicted)
    mean = trust.sum(dim=1) / (trust > 0).sum(dim=1).clamp(min=1)
    return torch.logit(mean.clamp(1e-3, 1 - 1e-3))


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
    up: Tensor | None = None,
) -> list[StructureOrError]:
    """The same structures, the completed ones made anew: with another camera the same evidence says another pose.

    Args:
        networks: of the checkpoint.
        structures: of all crops.
        crops: with their new cameras.
        config: as `complete_structures`.
        up: as `complete_structures`.
    """
    found = complete_structures(networks, crops, config, up)
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
