"""Solvers, guidance, conversions and structure decoding against the golden numbers."""

import torch
from torch import Tensor

from cupid_core.config import SamplerConfig
from cupid_core.models.structure_decode import decode_structure
from cupid_core.sampling.flow_path import FlowPath
from cupid_core.sampling.sample import sample, sampling_times
from cupid_core.sampling.schedule import time_schedule
from cupid_core.sampling.solver import Step


def settings(params: dict) -> SamplerConfig:
    low, high = params.get("cfg_interval", (0.0, 1.0))
    return SamplerConfig(
        steps=params["steps"],
        rescale_t=params["rescale_t"],
        guidance_strength=params.get("cfg_strength", 0.0),
        guidance_from_t=low,
        guidance_to_t=high,
    )


def test_sampling_trajectories(fixtures, agree):
    tensors, meta = fixtures("samplers")
    under, free = tensors["cond"].mean(), tensors["neg_cond"].mean()

    def velocity(x: Tensor, time: float, level: Tensor) -> Tensor:
        return torch.sin(0.7 * x + 0.9 * level) + 0.3 * time

    for case in meta["cases"]:
        name, config, bound = case["case"], settings(case["params"]), meta["tolerance"]
        visited: list[float] = []
        steps: list[Step] = []

        def conditional(x: Tensor, time: float, visited=visited) -> Tensor:
            visited.append(1000 * time)
            return velocity(x, time, under)

        def stacked(x: Tensor, time: float, visited=visited) -> Tensor:
            visited.extend([1000 * time] * 2)
            levels = torch.tensor([under] * 2 + [free] * 2)[:, None, None, None, None]
            return velocity(x, time, levels)

        end = sample(conditional, stacked, tensors["noise"], config, steps.append)
        times = torch.tensor(sampling_times(config), dtype=torch.float64)
        agree(f"{name} times", times, tensors[f"{name}.t_seq"], 1e-12)
        agree(f"{name} model times", torch.tensor(visited), tensors[f"{name}.model_t"], bound)
        assert len(visited) == case["model_calls"]
        agree(f"{name} x_t", torch.stack([s.end for s in steps]), tensors[f"{name}.pred_x_t"], bound)
        path = FlowPath(case["sigma_min"])
        data = torch.stack([path.data_from_velocity(s.start, s.time, s.velocity) for s in steps])
        agree(f"{name} x_0", data, tensors[f"{name}.pred_x_0"], bound)
        agree(f"{name} samples", end, tensors[f"{name}.samples"], bound)


def test_sampling_of_items_of_different_sizes(fixtures, agree):
    tensors, meta = fixtures("samplers")
    level = 1 + tensors["sparse.cond"].mean(1)[tensors["sparse.coords"][:, 0].long()][:, None]
    config = SamplerConfig(steps=6, rescale_t=3.0, guidance_strength=2.0, guidance_from_t=0.5)
    steps: list[Step] = []

    def conditional(x: Tensor, time: float) -> Tensor:
        return torch.sin(0.7 * x) * level + 0.3 * time

    def stacked(x: Tensor, time: float) -> Tensor:
        return torch.sin(0.7 * x) * torch.cat([level, torch.ones_like(level)]) + 0.3 * time

    end = sample(conditional, stacked, tensors["sparse.noise"], config, steps.append)
    agree("samples", end, tensors["sparse.samples"], meta["tolerance"])
    data = torch.stack([FlowPath().data_from_velocity(s.start, s.time, s.velocity) for s in steps])
    agree("x_0", data, tensors["sparse.pred_x_0"], meta["tolerance"])


def test_conversions(fixtures, agree):
    tensors, meta = fixtures("samplers")
    path, t, x_t, v = FlowPath(1e-3), 0.37, tensors["conv.x_t"], tensors["conv.v"]
    bound = meta["tolerance"]
    agree("x0 from v", path.data_from_velocity(x_t, t, v), tensors["conv.x0_from_v"], bound)
    agree("noise from v", path.noise_from_velocity(x_t, t, v), tensors["conv.eps_from_v"], bound)
    agree("x0 from noise", path.data_from_noise(x_t, t, v), tensors["conv.x0_from_eps"], bound)
    agree("noise from x0", path.noise_from_data(x_t, t, v), tensors["conv.eps_from_x0"], bound)


def test_schedule_without_rescaling_is_uniform(fixtures, agree):
    tensors, _ = fixtures("samplers")
    made = torch.tensor(time_schedule(7), dtype=torch.float64)
    agree("times", made, tensors["plain_7.t_seq"], 1e-12)


def test_structure_decode(fixtures, agree):
    tensors, meta = fixtures("structure_decode")
    args = meta["args"]
    for case, select in (("from_ss", "occupancy"), ("own", "flag")):
        decoded = decode_structure(
            tensors["ss_logits"],
            tensors["uv_logits"],
            select=select,
            minimum=args["expand_min_num_activated"],
            step=args["expand_threshold_step"],
            on_empty="keep",
        )
        assert decoded.coords.dtype == decoded.uv_coords.dtype == torch.int32
        agree(f"{case} coords", decoded.coords, tensors[f"{case}.coords"])
        agree(f"{case} uv coords", decoded.uv_coords, tensors[f"{case}.uv_coords"])
        agree(f"{case} uv", decoded.uv, tensors[f"{case}.uv"], meta["tolerance"]["uv"])
        assert decoded.counts.tolist() == tensors[f"{case}.coords"][:, 0].bincount(minlength=3).tolist()
