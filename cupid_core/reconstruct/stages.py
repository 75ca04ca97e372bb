"""The stages of the method that run networks, one function each, in the order in which an object passes through.

    encode_images       crops to image tokens
    sample_structures   stage 1: occupied voxels and the image position of each
    solve_poses         3D-2D pairs to the camera pose (no network)
    sample_appearances  stage 2: a latent for every voxel, conditioned on the image where the voxel projects
    decode_mesh         latents to a mesh

A stage takes a batch of items; an item is one structure sampled for one crop. An item that fails becomes a
`CupidError` in its place and does not affect the others.

Source: CUPID (arXiv 2510.20776), section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.config import CupidConfig, SamplerConfig
from cupid_core.errors import BehindCameraError, CheckpointError, CupidError, StructureEmptyError
from cupid_core.geometry.grid import voxel_centers
from cupid_core.mesh.extract import extract_mesh
from cupid_core.mesh.solid import extract_solid_mesh
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.decode_gaussians import Gaussians
from cupid_core.models.image_encoder import token_visibility
from cupid_core.models.pose_aligned import VoxelView, visible_voxels
from cupid_core.models.structure_decode import DecodedStructure, decode_structure
from cupid_core.models.topology import VoxelTopology
from cupid_core.models.weights import SamplerEntry
from cupid_core.pose.estimate import PoseEstimate
from cupid_core.pose.solve import solve_poses as solve_pose_batch
from cupid_core.reconstruct.inputs import ObjectCrop, encoder_images, pose_config, visible_fraction
from cupid_core.reconstruct.progress import OnShare
from cupid_core.sampling.noise import ItemNoise, NoiseSource
from cupid_core.sampling.sample import sample, sampling_times
from cupid_core.sampling.solver import OnStep
from cupid_core.scene.evidence import Recognition
from cupid_core.types import TriangleMesh

# Fewer pairs than this determine no pose.
FEWEST_VOXELS = 6
# Of the time of decoding; the rest extracts the mesh.
_DECODER_SHARE = 0.65


@dataclass(frozen=True)
class ImageCondition:
    """What the networks are conditioned on: B encoded crops.

    Attributes:
        tokens: (B, L, C) of the image encoder.
        visual: (B, 3, h, w) RGB in [0, 1] on black, for the shallow features of stage 2.
        unoccluded: (B, 1, h, w) in [0, 1], 0 where something else hides what would be there; None where nothing is
            known to. Only networks trained to be occlusion aware use it, and `token_weights`.
        token_weights: (B, L) visible fraction of each token; None where nothing is known to be hidden.
    """

    tokens: Tensor
    visual: Tensor
    unoccluded: Tensor | None = None
    token_weights: Tensor | None = None

    def visual_with_mask(self) -> Tensor:
        """(B, 4, h, w): `visual` and, fourth, what is not hidden."""
        shown = torch.ones_like(self.visual[:, :1]) if self.unoccluded is None else self.unoccluded
        return torch.cat([self.visual, shown], dim=1)

    def rows(self, rows: Sequence[int]) -> ImageCondition:
        """The condition of these crops, in this order; a crop may be taken several times."""
        index = torch.tensor(rows, device=self.tokens.device)
        return ImageCondition(
            self.tokens[index],
            self.visual[index],
            None if self.unoccluded is None else self.unoccluded[index],
            None if self.token_weights is None else self.token_weights[index],
        )


@dataclass(frozen=True, eq=False)
class Structure:
    """One sampled structure of one object.

    Attributes:
        crop: row of the crop it was sampled for.
        number: which hypothesis of that crop, from 0.
        coords: (N, 3) int64 occupied voxels.
        uv: (N, 2) image position of each in the crop, in [0, 1], as sampled.
        resolution: voxels per edge.
        pose: solved from these pairs, with the camera of the crop; None before.
        recognition: how surely the frame was recognized that the shape was completed in; None for a sample.
    """

    crop: int
    number: int
    coords: Tensor
    uv: Tensor
    resolution: int
    pose: PoseEstimate | None = None
    recognition: Recognition | None = None

    @property
    def completed(self) -> bool:
        """The positions were computed with the camera of the crop, so they say nothing about that camera."""
        return self.recognition is not None

    def centers(self) -> Tensor:
        """(N, 3) float64 canonical positions of the voxels."""
        return voxel_centers(self.coords.double(), self.resolution)


@dataclass(frozen=True)
class Appearance:
    """Stage 2's latents of the voxels of all items.

    Attributes:
        latent: (N, C) in the units of the decoders (not normalized).
        coords: (N, 4) int64 (item, x, y, z), in the order of the rows of `latent`.
        resolution: cells per edge of the voxel grid.
    """

    latent: Tensor
    coords: Tensor
    resolution: int

    def of_item(self, item: int) -> Appearance:
        """The latents of one item, which becomes item 0."""
        rows = self.coords[:, 0] == item
        coords = self.coords[rows].clone()
        coords[:, 0] = 0
        return Appearance(self.latent[rows], coords, self.resolution)


StructureOrError = Structure | CupidError


def samplers_of(networks: NetworkBundle, config: CupidConfig) -> tuple[SamplerConfig, SamplerConfig]:
    """Samplers of structure and appearance: the checkpoint's own, or those of the settings."""
    if config.reconstruct.samplers == "settings":
        return config.structure_sampler, config.appearance_sampler
    return _published(networks.published.sparse_structure_sampler), _published(networks.published.slat_sampler)


def encode_images(networks: NetworkBundle, crops: Sequence[ObjectCrop]) -> ImageCondition:
    """Image tokens of the crops."""
    encoder, flow = networks.image_encoder, networks.appearance_flow
    size = getattr(flow, "visual_feat_resolution", encoder.img_size)
    image = encoder_images(crops, encoder.img_size, encoder.planes).to(networks.device)
    visual = encoder_images(crops, size, ("rgb",)).to(networks.device)
    visible = visible_fraction(crops, encoder.img_size)
    return encode(networks, image, visual, unoccluded=None if visible is None else visible.to(networks.device))


def sample_structures(
    networks: NetworkBundle,
    condition: ImageCondition,
    sampler: SamplerConfig,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> list[StructureOrError]:
    """Stage 1: one structure per crop and seed, those of a crop adjacent."""
    count = condition.tokens.shape[0]
    noise = ItemNoise([seed for _ in range(count) for seed in seeds], [1] * (count * len(seeds)))
    sampled = sample_structure(networks, condition, sampler, noise, samples=len(seeds), on_step=on_step)
    structures: list[StructureOrError] = []
    for item, voxels in enumerate(sampled.counts.tolist()):
        crop, number = divmod(item, len(seeds))
        if voxels < FEWEST_VOXELS:
            structures.append(
                StructureEmptyError(
                    f"Hypothesis {number} has {voxels} occupied voxels.",
                    hint="Check that the mask covers the object, or sample more hypotheses.",
                )
            )
            continue
        rows = sampled.uv_coords[:, 0] == item
        coords = sampled.uv_coords[rows, 1:].long()
        resolution = networks.appearance_flow.resolution
        structures.append(Structure(crop, number, coords, sampled.uv[rows].float(), resolution))
    return structures


def solve_poses(
    structures: Sequence[StructureOrError], crops: Sequence[ObjectCrop], config: CupidConfig
) -> list[StructureOrError]:
    """The camera pose of each structure from its voxels and their image positions."""
    solved: list[StructureOrError] = list(structures)
    for known in (True, False):
        chosen = {
            row: structure
            for row, structure in enumerate(structures)
            if isinstance(structure, Structure) and crops[structure.crop].camera_known == known
        }
        if not chosen:
            continue
        poses = solve_pose_batch(
            [structure.centers() for structure in chosen.values()],
            [structure.uv.double() for structure in chosen.values()],
            cameras=[crops[structure.crop].camera.to(dtype=torch.float64) for structure in chosen.values()],
            config=pose_config(known, config),
        )
        for (row, structure), pose in zip(chosen.items(), poses, strict=True):
            solved[row] = replace(structure, pose=pose) if isinstance(pose, PoseEstimate) else pose
    return [_in_front(structure) for structure in solved]


def sample_appearances(
    networks: NetworkBundle,
    condition: ImageCondition,
    structures: Sequence[Structure],
    sampler: SamplerConfig,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
) -> list[Appearance]:
    """Stage 2: the latents of each structure, conditioned on the image where its pose projects the voxels."""
    counts = [len(structure.coords) for structure in structures]
    item = torch.repeat_interleave(torch.arange(len(structures)), torch.tensor(counts)).to(networks.device)
    coords = torch.cat([item[:, None], torch.cat([structure.coords for structure in structures])], dim=1)
    uv, depth = zip(*(_projected(structure) for structure in structures), strict=True)
    appearance = sample_appearance(
        networks,
        condition.rows([structure.crop for structure in structures]),
        coords,
        torch.cat(uv),
        sampler,
        ItemNoise([seeds[structure.number] for structure in structures], counts),
        depth=torch.cat(depth),
        on_step=on_step,
    )
    return [appearance.of_item(item) for item in range(len(structures))]


def decode_mesh(networks: NetworkBundle, appearance: Appearance, on_share: OnShare | None = None) -> TriangleMesh:
    """The mesh of one item, in its canonical frame, closed.

    Args:
        networks: of a checkpoint.
        appearance: of the item.
        on_share: told how much is done, after every block of the decoder and at the end.

    Raises:
        EmptyMeshError: the latents have no surface.
    """
    if on_share is None:
        return decode_meshes(networks, appearance, solid=True)[0].to("cpu")
    with _reported_blocks(networks.mesh_decoder, on_share):
        mesh = decode_meshes(networks, appearance, solid=True)[0].to("cpu")
    on_share(1.0)
    return mesh


@contextmanager
def _reported_blocks(decoder: nn.Module, on_share: OnShare) -> Iterator[None]:
    """Tells after every block how much of the decoding is done; a decoder of another runtime has no blocks."""
    blocks = [block for name in ("blocks", "upsample") for block in getattr(decoder, name, ())]
    finished = 0

    def count(*_: object) -> None:
        nonlocal finished
        finished += 1
        on_share(_DECODER_SHARE * finished / len(blocks))

    hooks = [block.register_forward_hook(count) for block in blocks if isinstance(block, nn.Module)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def decode_gaussians(networks: NetworkBundle, appearance: Appearance) -> Gaussians:
    """The Gaussian splats of one item, in its canonical frame.

    Raises:
        CheckpointError: the checkpoint has no decoder of Gaussians.
    """
    decoder = networks.gaussian_decoder
    if decoder is None:
        raise CheckpointError(
            "The checkpoint has no decoder of Gaussians (slat_decoder_gs).",
            hint="Use a checkpoint that has one, such as the published one, or leave Gaussians out.",
        )
    topology = VoxelTopology.build(appearance.coords, appearance.resolution, window_size=decoder.window_size)
    return decoder.attributes(decoder(appearance.latent, topology), topology)


def _projected(structure: Structure) -> tuple[Tensor, Tensor]:
    """(N, 2) image positions of the voxels by the pose, in the crop, and (N,) distances along the axis."""
    assert structure.pose is not None
    camera = structure.pose.camera
    points = structure.pose.T_camera_object.apply(structure.centers())
    return camera.px_to_uv(camera.project(points)).float(), points[:, 2].float()


def _in_front(structure: StructureOrError) -> StructureOrError:
    """The structure, unless its pose puts a voxel behind the camera."""
    if isinstance(structure, Structure) and not bool(_projected(structure)[0].isfinite().all()):
        return BehindCameraError(
            f"Hypothesis {structure.number} reaches behind the camera.",
            hint="Move the camera away from the object, or sample more hypotheses.",
        )
    return structure


def _published(entry: SamplerEntry) -> SamplerConfig:
    low, high = entry.params.cfg_interval
    return SamplerConfig(
        steps=entry.params.steps,
        guidance_strength=entry.params.cfg_strength,
        guidance_from_t=low,
        guidance_to_t=high,
        rescale_t=entry.params.rescale_t,
    )


def encode(
    networks: NetworkBundle, image: Tensor, visual: Tensor | None = None, *, unoccluded: Tensor | None = None
) -> ImageCondition:
    """Image tokens of B images.

    Args:
        networks: of a checkpoint.
        image: (B, C, H, W) the planes of the image encoder, at its size; RGB in [0, 1] on black first.
        visual: RGB of the same crops (B, 3, h, w) at the size of stage 2's shallow features; None takes `image`.
        unoccluded: (B, 1, H, W) in [0, 1], 0 where something else hides what would be there; None where nothing is
            known to.
    """
    visual = image[:, :3] if visual is None else visual
    tokens = networks.image_encoder(image)
    if unoccluded is None:
        return ImageCondition(tokens, visual)
    encoder = networks.image_encoder
    weights = token_visibility(unoccluded, encoder.patch_size, encoder.num_prefix_tokens)
    shown = F.interpolate(unoccluded.float(), size=visual.shape[-2:], mode="bilinear", antialias=True)
    return ImageCondition(tokens, visual, shown, weights)


def sample_structure(
    networks: NetworkBundle,
    condition: ImageCondition,
    config: SamplerConfig,
    noise: NoiseSource,
    *,
    samples: int = 1,
    on_step: OnStep | None = None,
) -> DecodedStructure:
    """Stage 1: voxels and their image positions.

    Args:
        networks: of a checkpoint.
        condition: of B crops.
        config: the sampling run.
        noise: stream of noise; the seed is the caller's.
        samples: hypotheses k per crop, drawn in one batch.
        on_step: progress; raise in it to stop.

    Returns:
        Structures of k B items, the k of one crop adjacent; an item may be empty (see `counts`).
    """
    flow = networks.structure_flow
    items = condition.tokens.shape[0] * samples
    start = noise.draw((items, flow.in_channels, *(flow.resolution,) * 3), networks.device)
    weights = condition.token_weights if flow.occlusion_aware else None
    prepared = flow.condition(condition.tokens, sampling_times(config), cond_weights=weights)
    latent = sample(flow.velocity(prepared), flow.velocity(prepared, null_half=True), start, config, on_step)
    # The latent holds that of the occupancy first, then that of the UV cube.
    split = networks.structure_decoder.input_layer.in_channels
    occupancy_latent, uv_latent = latent[:, :split], latent[:, split:]
    return decode_structure(
        networks.structure_decoder(occupancy_latent), networks.uv_decoder(uv_latent), on_empty="keep"
    )


def sample_appearance(
    networks: NetworkBundle,
    condition: ImageCondition,
    coords: Tensor,
    uv: Tensor,
    config: SamplerConfig,
    noise: NoiseSource,
    *,
    depth: Tensor | None = None,
    on_step: OnStep | None = None,
) -> Appearance:
    """Stage 2: a latent for every voxel, conditioned on the image where the voxel projects.

    Args:
        networks: of a checkpoint.
        condition: of B crops.
        coords: (N, 4) integer (item, x, y, z) of k B items, none empty, the k items of one crop adjacent.
        uv: (N, 2) image position of each voxel in [0, 1], from the pose (positions outside are clamped to it).
        config: the sampling run.
        noise: stream of noise.
        depth: (N,) distance of each voxel along the optical axis in units of the canonical cube, from the pose; a
            network whose condition is zero at voxels the camera does not see needs it, the others do without.
        on_step: progress; raise in it to stop.

    Raises:
        InputError: the network needs `depth` and there is none.
    """
    flow, encoder = networks.appearance_flow, networks.slat_encoder
    topology = VoxelTopology.build(
        coords, flow.resolution, window_size=None if encoder is None else encoder.window_size, levels=flow.levels
    )
    view = VoxelView(
        uv=uv.clamp(0.0, 1.0),
        tokens=condition.tokens,
        image=condition.visual_with_mask() if flow.occlusion_aware else condition.visual,
        visible=None if depth is None else visible_voxels(uv, depth, topology, cells=flow.resolution),
        position_table=networks.image_encoder.pos_embed,
        prefix_tokens=networks.image_encoder.num_prefix_tokens,
    )
    if encoder is not None:
        view = view.with_latent(encoder, topology)
    weights = condition.token_weights if flow.occlusion_aware else None
    prepared = flow.condition(condition.tokens, sampling_times(config), topology, view=view, cond_weights=weights)
    start = noise.draw((coords.shape[0], flow.in_channels), networks.device)
    latent = sample(flow.velocity(prepared), flow.velocity(prepared, null_half=True), start, config, on_step)
    return Appearance(latent * networks.latent_std + networks.latent_mean, topology.coords, flow.resolution)


def decode_meshes(
    networks: NetworkBundle, appearance: Appearance, *, solid: bool = False
) -> Sequence[TriangleMesh]:
    """The mesh of every item, in its canonical frame.

    Args:
        networks: of a checkpoint.
        appearance: of all items.
        solid: fill what the voxels enclose, so that the mesh is closed and has a volume; without, there is a
            second wall inside, as in the published method.

    Raises:
        EmptyMeshError: an item has no surface.
    """
    decoder = networks.mesh_decoder
    topology = VoxelTopology.build(appearance.coords, appearance.resolution, window_size=decoder.window_size)
    fields = decoder(appearance.latent, topology)
    fine = fields.topology
    meshes = []
    for item in range(fine.batch_size):
        rows = fine.rows_of(item)
        extract = extract_solid_mesh if solid else extract_mesh
        meshes.append(extract(fine.coords[rows, 1:], fields.rows[rows], fine.resolution))
    return meshes
