"""The stages of a checkpoint, with example inputs; knows the networks, and no runtime.

    image_encoder            image planes to tokens
    structure_condition      tokens to keys, values and modulations, once per run
    structure_step           one velocity of stage 1; structure_step_guided: both branches of guidance
    occupancy_decoder        latent to occupancy logits
    uv_decoder               latent to UV logits
    slat_encoder             image tokens at the voxels to the conditioning latent
    appearance_condition     the same as structure_condition for stage 2, and features at the projected voxels
    appearance_step          one velocity of stage 2; appearance_step_guided: both branches of guidance
    mesh_trunk               latent to the fields of the fine cubes

A stage that the checkpoint has no use for (another branch of guidance, no conditioning latent) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupid_core.models.appearance_conditioning import AppearanceConditioning
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.layers.gathered import with_gathered_convolutions
from cupid_core.models.pose_aligned import VoxelView
from cupid_core.models.topology import VoxelTopology
from cupid_core.models.weights import SamplerEntry
from cupid_core.runtime.stage import Range, Stage, StageInput
from cupid_core.runtime.stage_inputs import Named, axes, flow_modulations, memories, tables
from cupid_core.runtime.stage_modules import (
    AppearanceCondition,
    AppearanceStep,
    MeshTrunk,
    OneToOne,
    StructureCondition,
    StructureStep,
    VoxelEncoder,
)

_NORMS = "norms"
_FLOW_FLOAT32 = "norms, time embedding, input and output layers"
# More objects at once than this go through torch, where an engine has a limit.
_MOST_ITEMS = 8


@dataclass(frozen=True)
class ExampleSizes:
    """How large the example inputs are. An axis of length one would be taken for a constant by the exporter.

    Attributes:
        crops: images; at least 2 for an export.
        samples: hypotheses of each image.
        radius: of the spherical shells of voxels, as a share of the grid's edge; each object is a little smaller
            than the one before.
        seed: of the random values.
    """

    crops: int = 2
    samples: int = 2
    radius: float = 0.36
    seed: int = 0


@torch.no_grad()
def stages(
    networks: NetworkBundle, sizes: ExampleSizes | None = None, *, for_export: bool = False
) -> Iterator[Stage]:
    """All stages of a checkpoint, one after the other, in the order of a reconstruction.

    Args:
        networks: of the checkpoint; the stages share their parameters.
        sizes: of the examples.
        for_export: sparse convolutions in the form for graphs; without, as torch runs them.
    """
    if for_export:
        networks = replace(
            networks,
            appearance_flow=with_gathered_convolutions(networks.appearance_flow),
            mesh_decoder=with_gathered_convolutions(networks.mesh_decoder),
        )
    draw = _Draw(networks, sizes or ExampleSizes())
    yield _image_encoder(draw)
    yield from _structure_flow(draw)
    decoders = {"occupancy_decoder": networks.structure_decoder, "uv_decoder": networks.uv_decoder}
    for name, decoder in decoders.items():
        volume = draw.normal(draw.sizes.crops, decoder.input_layer.in_channels, *(draw.latent_edge,) * 3)
        yield _stage(
            name, OneToOne(decoder), {"volume": volume}, ("logits",), float32="norms, first and last layer"
        )
    if networks.slat_encoder is not None:
        yield _slat_encoder(draw)
    yield from _appearance_flow(draw)
    yield _mesh_trunk(draw)


def guided_and_plain(entry: SamplerEntry) -> tuple[bool, ...]:
    """Which velocities a sampler calls: False the plain one, True both branches of guidance."""
    low, high = entry.params.cfg_interval
    if entry.params.cfg_strength == 0.0:
        return (False,)
    return (True,) if low <= 0.0 and high >= 1.0 else (False, True)


class _Draw:
    """Random inputs of the right shapes, always the same for the same sizes."""

    def __init__(self, networks: NetworkBundle, sizes: ExampleSizes) -> None:
        self.networks, self.sizes = networks, sizes
        self._generator = torch.Generator().manual_seed(sizes.seed)
        self.latent_edge = networks.structure_flow.resolution
        encoder = networks.image_encoder
        count = encoder.num_prefix_tokens + encoder.native_grid**2
        # As the tokens of an encoder: of zero mean and unit deviation.
        self.context = F.layer_norm(self.normal(sizes.crops, count, encoder.embed_dim), (encoder.embed_dim,))
        self.times = torch.tensor([1000.0, 700.0, 300.0], device=networks.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(self.networks.device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator).to(self.networks.device)

    def topology(self, resolution: int, *, window_size: int | None, levels: int = 0) -> VoxelTopology:
        """Of one spherical shell for each crop, so that groups are padded as those of several objects are."""
        axis = (torch.arange(resolution) + 0.5) / resolution - 0.5
        distance = torch.cartesian_prod(axis, axis, axis).norm(dim=1).reshape((resolution,) * 3)
        items = []
        for item in range(self.sizes.crops):
            radius = self.sizes.radius * 0.9**item
            shell = ((distance - radius).abs() < 0.6 / resolution).nonzero()
            items.append(F.pad(shell, (1, 0), value=item))
        coords = torch.cat(items).to(self.networks.device)
        return VoxelTopology.build(coords, resolution, window_size=window_size, levels=levels)


def _image_encoder(draw: _Draw) -> Stage:
    encoder = draw.networks.image_encoder
    image = draw.uniform(draw.sizes.crops, encoder.in_channels, encoder.img_size, encoder.img_size)
    return _stage("image_encoder", OneToOne(encoder), {"image": image}, ("tokens",), float32=_NORMS)


def _structure_flow(draw: _Draw) -> Iterator[Stage]:
    flow = draw.networks.structure_flow
    pairs = memory_names(len(flow.blocks))
    inputs = {"context": draw.context, "times": draw.times}
    yield _stage(
        "structure_condition",
        StructureCondition(flow),
        inputs,
        (*pairs, "modulations"),
        float32=_FLOW_FLOAT32,
    )
    weights = draw.uniform(*draw.context.shape[:2]) if flow.occlusion_aware else None
    made = flow.condition(draw.context, (1.0, 0.5), cond_weights=weights)
    for guided in guided_and_plain(draw.networks.published.sparse_structure_sampler):
        count = draw.sizes.crops * draw.sizes.samples
        volume = draw.normal(count, flow.in_channels, *(flow.resolution,) * 3)
        inputs = {"volume": volume, "modulations": made.at(0.5)}
        yield _stage(
            step_name("structure_step", guided),
            StructureStep(flow, guided=guided),
            inputs | memories(made.memories, made.context_bias),
            ("velocity",),
            float32=_FLOW_FLOAT32,
        )


def _slat_encoder(draw: _Draw) -> Stage:
    encoder = draw.networks.slat_encoder
    assert encoder is not None
    topology = draw.topology(encoder.resolution, window_size=encoder.window_size)
    rows = draw.normal(len(topology.coords), encoder.in_channels)
    return _stage(
        "slat_encoder",
        VoxelEncoder(encoder, topology),
        {"rows": rows} | tables(topology),
        ("mean", "logvar"),
        float32=_FLOW_FLOAT32,
        topology=topology,
    )


def _appearance_flow(draw: _Draw) -> Iterator[Stage]:
    networks = draw.networks
    flow, encoder = networks.appearance_flow, networks.image_encoder
    has_latent = networks.slat_encoder is not None
    topology = draw.topology(flow.resolution, window_size=None, levels=flow.levels)
    count = len(topology.coords)
    size = getattr(flow, "visual_feat_resolution", encoder.img_size)
    view = VoxelView(
        uv=draw.uniform(count, 2),
        tokens=draw.context,
        image=draw.uniform(draw.sizes.crops, 4 if flow.occlusion_aware else 3, size, size),
        latent=draw.normal(count, latent_channels(networks)) if has_latent else None,
        visible=draw.uniform(count).round(),
        position_table=encoder.pos_embed,
        prefix_tokens=encoder.num_prefix_tokens,
    )
    weights = draw.uniform(*draw.context.shape[:2]) if flow.occlusion_aware else None
    made = flow.condition(draw.context, (1.0, 0.5), topology, view=view, cond_weights=weights)
    outer = tuple(f"outer.{block}" for block in range(len(made.outer)))
    yield _stage(
        "appearance_condition",
        AppearanceCondition(
            flow,
            topology,
            prefix_tokens=encoder.num_prefix_tokens,
            position_table=encoder.pos_embed,
            has_latent=has_latent,
        ),
        view_inputs(view, draw.times) | tables(topology),
        (*memory_names(len(flow.blocks)), "modulations", *outer, *(() if made.pose is None else ("pose",))),
        float32=_FLOW_FLOAT32,
        topology=topology,
    )
    for guided in guided_and_plain(networks.published.slat_sampler):
        inputs = {"rows": draw.normal(count, flow.in_channels)} | poses(made, guided)
        inputs |= flow_modulations(made.at(0.5)) | memories(made.context.memories, made.context.context_bias)
        yield _stage(
            step_name("appearance_step", guided),
            AppearanceStep(flow, topology, guided=guided),
            inputs | tables(topology),
            ("velocity",),
            float32=_FLOW_FLOAT32,
            topology=topology,
        )


def _mesh_trunk(draw: _Draw) -> Stage:
    decoder = draw.networks.mesh_decoder
    topology = draw.topology(decoder.resolution, window_size=decoder.window_size)
    return _stage(
        "mesh_trunk",
        MeshTrunk(decoder, topology),
        {"rows": draw.normal(len(topology.coords), decoder.in_channels)} | tables(topology),
        ("fields",),
        float32=_FLOW_FLOAT32,
        topology=topology,
    )


def view_inputs(view: VoxelView, times: Tensor) -> Named:
    """A view as the inputs of `appearance_condition`, without the tables; the view has image and visibility."""
    assert view.image is not None and view.visible is not None
    named = {"context": view.tokens, "times": times, "uv": view.uv, "image": view.image, "visible": view.visible}
    return named if view.latent is None else named | {"latent": view.latent}


def poses(made: AppearanceConditioning, guided: bool) -> Named:
    """Pose-aligned features of a step, those under the null condition too where it is guided."""
    if made.pose is None or made.null_pose is None:
        return {}
    return {"pose": made.pose} | ({"null_pose": made.null_pose} if guided else {})


def memory_names(blocks: int) -> tuple[str, ...]:
    """Names of keys and values of all blocks."""
    return tuple(name for block in range(blocks) for name in (f"key.{block}", f"value.{block}"))


def step_name(step: str, guided: bool) -> str:
    """Name of a step with or without both branches of guidance."""
    return f"{step}_guided" if guided else step


def latent_channels(networks: NetworkBundle) -> int:
    """Channels of the conditioning latent."""
    assert networks.slat_encoder is not None
    return networks.slat_encoder.out_layer.out_features // 2


def _stage(
    name: str,
    module: nn.Module,
    inputs: Named,
    outputs: tuple[str, ...],
    *,
    float32: str,
    topology: VoxelTopology | None = None,
) -> Stage:
    made = tuple(StageInput(key, value, axes(key)) for key, value in inputs.items())
    names = {axis for item in made for axis in item.axes.values()}
    ranges = _ranges(topology)
    return Stage(name, module, made, outputs, {axis: ranges[axis] for axis in names}, float32)


def _ranges(topology: VoxelTopology | None) -> dict[str, Range]:
    """Lengths of all axes: an object of the usual size, and the largest that an engine should take."""
    ranges = {
        "crops": Range(1, 1, _MOST_ITEMS),
        "samples": Range(1, 1, _MOST_ITEMS),
        "items": Range(1, 1, _MOST_ITEMS),
        "times": Range(1, 21, 101),
    }
    if topology is None:
        return ranges
    edge = topology.resolution
    # A shell of voxels has about 2 edge^2 of them; four times as many is a solid or ragged object.
    usual, most = 2 * edge**2, 8 * edge**2
    ranges["voxels"] = Range(10, usual, most)
    ranges["longest"] = Range(10, usual, most)
    level, scale = 0, topology
    while scale.down is not None:
        level, scale = level + 1, scale.down.topology
        fewer, cells = most // 2**level, scale.resolution**3
        ranges[f"voxels.{level}"] = Range(1, usual // 4**level, min(fewer, cells))
        ranges[f"longest.{level}"] = Range(1, usual // 4**level, min(fewer, cells))
    for number in range(len(topology.windows)):
        window = topology.window_size or 1
        shift = 0 if number == 0 else window // 2
        cells = ((edge - 1 + shift) // window + 1) ** 3
        ranges[f"windows.{number}"] = Range(1, max(cells // 3, 1), cells)
        ranges[f"windows.{number}.places"] = Range(1, min(max(window**3 // 4, 1), edge**3), window**3)
    return ranges
