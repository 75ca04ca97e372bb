"""A bundle of networks whose stages run in another runtime, for callers that do not know of any.

`with_runners` returns a `NetworkBundle` like any other: the same networks and parameters, but the methods that a
reconstruction calls hand their tensors to runners. Sampling, guidance, index tables and everything between two
stages is the code that runs without it. Where a runner refuses a call, the network itself computes it, and that is
logged once per stage.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from cupid_core.models.appearance_conditioning import AppearanceConditioning
from cupid_core.models.appearance_flow import SLatFlowModel
from cupid_core.models.appearance_vae import Posterior, SLatEncoder
from cupid_core.models.bundle import NetworkBundle
from cupid_core.models.conditioning import Conditioning
from cupid_core.models.decode_mesh import CubeFields, SLatMeshDecoder
from cupid_core.models.layers.embeddings import model_times
from cupid_core.models.pose_aligned import VoxelView
from cupid_core.models.structure_flow import SparseStructureFlowModel
from cupid_core.models.topology import VoxelTopology
from cupid_core.runtime.catalogue import poses, step_name, view_inputs
from cupid_core.runtime.stage import Runner, RuntimeFailedError
from cupid_core.runtime.stage_inputs import Named, flow_modulations, memories, tables
from cupid_core.runtime.stage_modules import memories_and_bias

_log = logging.getLogger(__name__)
NetworkT = TypeVar("NetworkT", bound=nn.Module)
Given = TypeVar("Given")


def with_runners(networks: NetworkBundle, runners: Mapping[str, Runner]) -> NetworkBundle:
    """A bundle whose stages run in these runners; stages without one run as before.

    Args:
        networks: of a checkpoint.
        runners: by the names of `catalogue.stages`.
    """
    stages = _Stages(runners)
    encoder = networks.slat_encoder
    return replace(
        networks,
        image_encoder=_one_to_one(networks.image_encoder, stages, "image_encoder", "image"),
        structure_flow=_structure_flow(networks.structure_flow, stages),
        structure_decoder=_one_to_one(networks.structure_decoder, stages, "occupancy_decoder", "volume"),
        uv_decoder=_one_to_one(networks.uv_decoder, stages, "uv_decoder", "volume"),
        slat_encoder=None if encoder is None else _slat_encoder(encoder, stages),
        appearance_flow=_appearance_flow(networks.appearance_flow, stages),
        mesh_decoder=_mesh_decoder(networks.mesh_decoder, stages),
    )


class _Stages:
    """Calls runners, and the networks where a runner refuses."""

    def __init__(self, runners: Mapping[str, Runner]) -> None:
        self._runners = runners
        self._reported: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._runners

    def run(
        self,
        name: str,
        inputs: Callable[[], Named],
        finish: Callable[[tuple[Tensor, ...]], Given],
        otherwise: Callable[[], Given],
    ) -> Given:
        """Run a stage.

        Args:
            name: of the stage.
            inputs: makes its inputs.
            finish: makes the result of its outputs.
            otherwise: makes the result in torch.
        """
        if name not in self._runners:
            return otherwise()
        try:
            made = self._runners[name](inputs())
        except RuntimeFailedError as error:
            if name not in self._reported:
                self._reported.add(name)
                _log.warning("%s runs in torch: %s", name, error.problem)
            return otherwise()
        return finish(made)


def _with_methods(network: NetworkT, **methods: Callable[..., Any]) -> NetworkT:
    """The same network, with the same parameters, that has other methods of these names."""
    other = copy.copy(network)
    for name, method in methods.items():
        object.__setattr__(other, name, method)
    return other


def _one_to_one(network: NetworkT, stages: _Stages, stage: str, argument: str) -> NetworkT:
    def forward(x: Tensor) -> Tensor:
        return stages.run(stage, lambda: {argument: x}, lambda made: made[0], lambda: cast(Tensor, network(x)))

    return _with_methods(network, forward=forward)


def _structure_flow(flow: SparseStructureFlowModel, stages: _Stages) -> SparseStructureFlowModel:
    def condition(cond: Tensor, times: Sequence[float], cond_weights: Tensor | None = None) -> Conditioning:
        def finish(made: tuple[Tensor, ...]) -> Conditioning:
            pairs, _ = memories_and_bias(made[:-1], len(flow.blocks))
            return Conditioning(tuple(pairs), flow.context_bias(cond_weights), tuple(times), made[-1])

        return stages.run(
            "structure_condition",
            lambda: {"context": cond, "times": model_times(times, cond.device)},
            finish,
            lambda: flow.condition(cond, times, cond_weights),
        )

    def velocity(conditioning: Conditioning, *, null_half: bool = False) -> Callable[[Tensor, float], Tensor]:
        name, otherwise = step_name("structure_step", null_half), flow.velocity(conditioning, null_half=null_half)
        fixed = memories(conditioning.memories, _bias(flow, conditioning)) if name in stages else {}

        def step(x: Tensor, time: float) -> Tensor:
            return stages.run(
                name,
                lambda: {"volume": _once(x, null_half), "modulations": conditioning.at(time)} | fixed,
                lambda made: made[0],
                lambda: otherwise(x, time),
            )

        return step

    return _with_methods(flow, condition=condition, velocity=velocity)


def _slat_encoder(encoder: SLatEncoder, stages: _Stages) -> SLatEncoder:
    def forward(rows: Tensor, topology: VoxelTopology) -> Posterior:
        return stages.run(
            "slat_encoder",
            lambda: {"rows": rows} | tables(topology),
            lambda made: Posterior(*made),
            lambda: cast(Posterior, encoder(rows, topology)),
        )

    return _with_methods(encoder, forward=forward)


def _appearance_flow(flow: SLatFlowModel, stages: _Stages) -> SLatFlowModel:
    blocks = len(flow.blocks)

    def condition(
        cond: Tensor,
        times: Sequence[float],
        topology: VoxelTopology,
        *,
        view: VoxelView | None = None,
        cond_weights: Tensor | None = None,
    ) -> AppearanceConditioning:
        def in_torch() -> AppearanceConditioning:
            return flow.condition(cond, times, topology, view=view, cond_weights=cond_weights)

        if view is None or not _is_exported_view(flow, view):
            return in_torch()

        def inputs() -> Named:
            return view_inputs(view, model_times(times, cond.device)) | tables(topology)

        def finish(made: tuple[Tensor, ...]) -> AppearanceConditioning:
            pairs, _ = memories_and_bias(made[: 2 * blocks], blocks)
            inner, *rest = made[2 * blocks :]
            pose = rest.pop() if flow.pose_channels else None
            bias = flow.context_bias(cond_weights)
            null_pose = flow.pose_features(view.null(), topology)
            context = Conditioning(tuple(pairs), bias, tuple(times), inner)
            return AppearanceConditioning(topology, context, tuple(rest), pose, null_pose)

        return stages.run("appearance_condition", inputs, finish, in_torch)

    def velocity(
        conditioning: AppearanceConditioning, *, null_half: bool = False
    ) -> Callable[[Tensor, float], Tensor]:
        name = step_name("appearance_step", null_half)
        otherwise = flow.velocity(conditioning, null_half=null_half)
        fixed: Named = {}
        if name in stages:
            fixed = poses(conditioning, null_half) | tables(conditioning.topology)
            fixed |= memories(conditioning.context.memories, _bias(flow, conditioning.context))

        def step(x: Tensor, time: float) -> Tensor:
            return stages.run(
                name,
                lambda: {"rows": _once(x, null_half)} | flow_modulations(conditioning.at(time)) | fixed,
                lambda made: made[0],
                lambda: otherwise(x, time),
            )

        return step

    return _with_methods(flow, condition=condition, velocity=velocity)


def _mesh_decoder(decoder: SLatMeshDecoder, stages: _Stages) -> SLatMeshDecoder:
    def forward(latent: Tensor, topology: VoxelTopology) -> CubeFields:
        def finish(made: tuple[Tensor, ...]) -> CubeFields:
            fine = topology
            for _ in decoder.upsample:
                fine = fine.subdivide()
            return CubeFields(made[0], fine)

        return stages.run(
            "mesh_trunk",
            lambda: {"rows": latent} | tables(topology),
            finish,
            lambda: cast(CubeFields, decoder(latent, topology)),
        )

    return _with_methods(decoder, forward=forward)


def _bias(flow: SparseStructureFlowModel | SLatFlowModel, context: Conditioning) -> Tensor | None:
    """The context bias; zeros where the network is occlusion aware and nothing is hidden: its graph wants one."""
    if context.context_bias is not None or not flow.occlusion_aware:
        return context.context_bias
    key = context.memories[0].key
    return torch.zeros(key.shape[0], 1, 1, key.shape[2], device=key.device)


def _is_exported_view(flow: SLatFlowModel, view: VoxelView) -> bool:
    """Whether the graph can take it: it was exported with image and visibility, and without resizing."""
    size = getattr(flow, "visual_feat_resolution", None)
    if view.image is None or view.visible is None:
        return False
    return size is None or tuple(view.image.shape[-2:]) == (size, size)


def _once(x: Tensor, null_half: bool) -> Tensor:
    """x; under guidance its first half, which its second half repeats."""
    return x[: x.shape[0] // 2] if null_half else x
