"""The steps between images and hypotheses, for a batch of objects; knows networks, poses and meshes, no files.

An *item* is one draw for one view; items of all views travel through the networks together. A draw that gives
nothing is lost with its reason and spoils no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cupid_core.config import CupidConfig, SamplerConfig
from cupid_core.errors import BehindCameraError, CupidError, StructureEmptyError
from cupid_core.geometry.camera import Camera
from cupid_core.geometry.grid import voxel_centers
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.weights import SamplerEntry
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.pose.solve import solve_poses
from cupid_core.reconstruct.view import ObjectView, network_images, pose_config, unoccluded
from cupid_core.sampling.noise import NoiseSource
from cupid_core.sampling.solver import OnStep
from cupid_core.stages import (
    Appearance,
    ImageCondition,
    decode_meshes,
    encode,
    sample_appearance,
    sample_structure,
)
from cupid_core.types import TriangleMesh

# Fewer pairs than this determine no pose.
_FEWEST_VOXELS = 6


@dataclass(frozen=True, eq=False)
class Draw:
    """One item between the two samplings.

    Attributes:
        view: row of the view it belongs to.
        number: which draw of that view.
        coords: (N, 3) int64 voxels.
        uv: (N, 2) their image positions in the crop, sampled.
        resolution: voxels per edge.
        pose: found from them, with the camera of the crop; None before.
    """

    view: int
    number: int
    coords: Tensor
    uv: Tensor
    resolution: int
    pose: PoseEstimate | None = None

    def centers(self) -> Tensor:
        """(N, 3) float64 canonical positions of the voxels."""
        return voxel_centers(self.coords.double(), self.resolution)


Item = Draw | CupidError


class ItemNoise(NoiseSource):
    """Noise whose rows belong to items, each with a stream of its own.

    What an item gets so depends on its seed alone, not on what else is in the batch.

    Args:
        seeds: one for each item.
        rows: how many rows of a drawn tensor belong to each item, in order.
    """

    def __init__(self, seeds: Sequence[int], rows: Sequence[int]) -> None:
        super().__init__(0)
        self._sources = [NoiseSource(seed) for seed in seeds]
        self._rows = list(rows)

    def draw(self, shape: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """See `NoiseSource.draw`; the first number of the shape is the sum of the rows."""
        assert shape[0] == sum(self._rows), f"{shape[0]} rows, {sum(self._rows)} belong to items"
        pairs = zip(self._sources, self._rows, strict=True)
        return torch.cat([source.draw((rows, *shape[1:])) for source, rows in pairs]).to(device)


def samplers_of(networks: NetworkBundle, config: CupidConfig) -> tuple[SamplerConfig, SamplerConfig]:
    """Samplers of structure and appearance: the checkpoint's own, or those of the settings."""
    if config.reconstruct.samplers == "settings":
        return config.structure_sampler, config.appearance_sampler
    return _published(networks.published.sparse_structure_sampler), _published(networks.published.slat_sampler)


def see(networks: NetworkBundle, views: Sequence[ObjectView]) -> ImageCondition:
    """Step 1: image tokens of the crops."""
    encoder, flow = networks.image_encoder, networks.appearance_flow
    size = getattr(flow, "visual_feat_resolution", encoder.img_size)
    image = network_images(views, encoder.img_size, encoder.in_channels).to(networks.device)
    visual = network_images(views, size, 3).to(networks.device)
    shown = unoccluded(views, encoder.img_size)
    return encode(networks, image, visual, unoccluded=None if shown is None else shown.to(networks.device))


def draw_structures(
    networks: NetworkBundle,
    condition: ImageCondition,
    sampler: SamplerConfig,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> list[Item]:
    """Step 2: voxels and their image positions, one item per view and seed, the seeds of a view adjacent."""
    views = condition.tokens.shape[0]
    noise = ItemNoise([seed for _ in range(views) for seed in seeds], [1] * (views * len(seeds)))
    structure = sample_structure(networks, condition, sampler, noise, samples=len(seeds), on_step=on_step)
    items: list[Item] = []
    for item, count in enumerate(structure.counts.tolist()):
        view, number = divmod(item, len(seeds))
        rows = structure.uv_coords[:, 0] == item
        if count < _FEWEST_VOXELS:
            items.append(
                StructureEmptyError(
                    f"Draw {number} has {count} occupied voxels.",
                    hint="Check that the mask covers the object, or draw more hypotheses.",
                )
            )
            continue
        coords = structure.uv_coords[rows, 1:].long()
        items.append(Draw(view, number, coords, structure.uv[rows].float(), networks.appearance_flow.resolution))
    return items


def solve_cameras(items: Sequence[Item], views: Sequence[ObjectView], config: CupidConfig) -> list[Item]:
    """Step 3: where the camera stands, from thousands of voxels and their pixels."""
    solved: list[Item] = list(items)
    for known in (True, False):
        chosen = [
            i for i, item in enumerate(items) if isinstance(item, Draw) and views[item.view].camera_known == known
        ]
        if not chosen:
            continue
        draws = [item for item in items if isinstance(item, Draw) and views[item.view].camera_known == known]
        poses = solve_poses(
            [draw.centers() for draw in draws],
            [draw.uv.double() for draw in draws],
            cameras=[_double(views[draw.view].camera) for draw in draws],
            config=pose_config(views[draws[0].view], config.pose),
        )
        for i, draw, pose in zip(chosen, draws, poses, strict=True):
            solved[i] = replace(draw, pose=pose) if isinstance(pose, PoseEstimate) else pose
    return [_in_front(item) for item in solved]


def paint(
    networks: NetworkBundle,
    condition: ImageCondition,
    draws: Sequence[Draw],
    sampler: SamplerConfig,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> list[Appearance]:
    """Step 4: a latent for every voxel, conditioned on the image where the voxel projects."""
    counts = [len(draw.coords) for draw in draws]
    number = torch.repeat_interleave(torch.arange(len(draws)), torch.tensor(counts)).to(networks.device)
    coords = torch.cat([number[:, None], torch.cat([draw.coords for draw in draws])], dim=1)
    uv, depth = zip(*(_projected(draw) for draw in draws), strict=True)
    appearance = sample_appearance(
        networks,
        condition.rows([draw.view for draw in draws]),
        coords,
        torch.cat(uv),
        sampler,
        ItemNoise([seeds[draw.number] for draw in draws], counts),
        depth=torch.cat(depth),
        on_step=on_step,
    )
    return [_of_item(appearance, item) for item in range(len(draws))]


def shape_of(networks: NetworkBundle, appearance: Appearance) -> TriangleMesh | CupidError:
    """Step 5: the mesh of one item in its canonical frame, or why there is none."""
    try:
        return decode_meshes(networks, appearance, solid=True)[0].to("cpu")
    except CupidError as error:
        return error


def _of_item(appearance: Appearance, item: int) -> Appearance:
    rows = appearance.coords[:, 0] == item
    coords = appearance.coords[rows].clone()
    coords[:, 0] = 0
    return Appearance(appearance.latent[rows], coords, appearance.resolution)


def _projected(draw: Draw) -> tuple[Tensor, Tensor]:
    """(N, 2) image positions of the voxels by the pose, in the crop, and (N,) distances along the axis."""
    assert draw.pose is not None
    camera = draw.pose.camera
    points = draw.pose.T_camera_object.apply(draw.centers())
    return camera.px_to_uv(camera.project(points)).float(), points[:, 2].float()


def _in_front(item: Item) -> Item:
    """The item, unless its pose puts a voxel behind the camera."""
    if isinstance(item, Draw) and not bool(_projected(item)[0].isfinite().all()):
        return BehindCameraError(
            f"Draw {item.number} reaches behind the camera.",
            hint="Move the camera away from the object, or draw more hypotheses.",
        )
    return item


def _double(camera: Camera) -> Camera:
    return camera.to(dtype=torch.float64)


def _published(entry: SamplerEntry) -> SamplerConfig:
    low, high = entry.params.cfg_interval
    return SamplerConfig(
        steps=entry.params.steps,
        guidance_strength=entry.params.cfg_strength,
        guidance_from_t=low,
        guidance_to_t=high,
        rescale_t=entry.params.rescale_t,
    )
