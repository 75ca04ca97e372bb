"""The steps of the method that run networks: encode, sample the structure, sample the appearance, decode.

Each step is one function, and a frozen value travels to the next. Between the two samplings stands the camera
pose, which is not solved here: stage 2 is given the image position of every voxel. Knows networks and samplers,
neither images as people have them (crops, masks, files), nor cameras, nor ROS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.config import SamplerConfig
from cupid_core.mesh.extract import extract_mesh
from cupid_core.mesh.solid import extract_solid_mesh
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.image_encoder import token_visibility
from cupid_core.models.pose_aligned import VoxelView, visible_voxels
from cupid_core.models.structure_decode import DecodedStructure, decode_structure
from cupid_core.models.topology import VoxelTopology
from cupid_core.sampling.noise import NoiseSource
from cupid_core.sampling.sample import sample, sampling_times
from cupid_core.sampling.solver import OnStep
from cupid_core.types import TriangleMesh


@dataclass(frozen=True)
class ImageCondition:
    """What the networks know of B crops.

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


@dataclass(frozen=True)
class Appearance:
    """Stage 2's result for the voxels of all items.

    Attributes:
        latent: (N, C) in the units of the decoders (not normalized).
        coords: (N, 4) int64 (item, x, y, z), in the order of the rows of `latent`.
        resolution: cells per edge of the voxel grid.
    """

    latent: Tensor
    coords: Tensor
    resolution: int


def encode(
    networks: NetworkBundle, image: Tensor, visual: Tensor | None = None, *, unoccluded: Tensor | None = None
) -> ImageCondition:
    """Look at B crops.

    Args:
        networks: of a checkpoint.
        image: (B, 3 or 4, H, W) RGB in [0, 1] on black and, where the image encoder has four channels, the mask;
            at the size of the image encoder.
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
