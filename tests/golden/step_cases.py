"""Cases of the steps around the networks: structure decoding, extraction of meshes, sampling.

They have no weights; the field they work on takes their place, so that every case can be disturbed alike.
"""

from __future__ import annotations

from functools import partial

import torch
from seeded import Case, Outputs, Seeded
from torch import Tensor, nn

from cupid_core.config import SamplerConfig
from cupid_core.mesh.extract import extract_from_sdf, extract_mesh
from cupid_core.models.structure_decode import decode_structure
from cupid_core.sampling.sample import sample
from cupid_core.sampling.solver import Step

GRID = 4


def make_cube_features() -> nn.Module:
    return nn.ParameterDict({"cubes": torch.empty(30, 101), "sdf": torch.empty(6, 6, 6)})


def run_mesh_extraction(fields: nn.ParameterDict, numbers: Seeded) -> Outputs:
    coords = numbers.voxels(GRID, 30)[:, 1:]
    decoded = extract_mesh(coords, fields["cubes"], GRID, closed=True)
    plain = extract_from_sdf(fields["sdf"], numbers.fractions(6, 6, 6, 3))
    outputs: Outputs = {}
    for name, mesh in (("decoded", decoded), ("plain", plain)):
        parts = {"vertices": mesh.vertices, "colors": mesh.colors, "normals": mesh.normals}
        outputs |= {f"{name}_{part}": values for part, values in parts.items()}
        outputs[f"{name}_faces"] = mesh.faces.int()
    return outputs


def make_logits() -> nn.Module:
    return nn.ParameterDict({"occupancy": torch.empty(3, 1, 4, 4, 4), "uv_logits": torch.empty(3, 3, 4, 4, 4)})


def run_structure_decode(logits: nn.ParameterDict, numbers: Seeded) -> Outputs:
    occupancy, uv_logits = logits["occupancy"], logits["uv_logits"]
    occupancy = occupancy - torch.tensor([1.0, 1.6, 0.0])[:, None, None, None, None]  # the second is thin
    outputs: Outputs = {}
    for select in ("occupancy", "flag"):
        decoded = decode_structure(occupancy, uv_logits, select=select, minimum=20)
        outputs |= {f"{select}_coords": decoded.coords, f"{select}_uv_coords": decoded.uv_coords}
        outputs[f"{select}_uv"] = decoded.uv
    return outputs


def make_field() -> nn.Module:
    return nn.ParameterDict({"under": torch.empty(1), "free": torch.empty(1)})


def run_sampler(field: nn.ParameterDict, numbers: Seeded, solver: str) -> Outputs:
    """Guided inside an interval; the levels of the analytic field are its weights."""
    under, free = field["under"], -field["free"]

    def conditional(x: Tensor, time: float) -> Tensor:
        return torch.sin(0.7 * x + 0.9 * under) + 0.3 * time

    def stacked(x: Tensor, time: float) -> Tensor:
        levels = torch.stack([under, free]).repeat_interleave(len(x) // 2, dim=0)
        return torch.sin(0.7 * x + 0.9 * levels) + 0.3 * time

    config = SamplerConfig(
        steps=6, solver=solver, guidance_strength=2.0, guidance_from_t=0.3, guidance_to_t=0.95, rescale_t=3.0
    )
    steps: list[Step] = []
    end = sample(conditional, stacked, numbers.values(3, 8), config, steps.append)
    return {"trajectory": torch.stack([step.end for step in steps]), "end": end}


STEP_CASES = [
    Case("structure_decode", make_logits, run_structure_decode),
    Case("mesh_extraction", make_cube_features, run_mesh_extraction),
    Case("euler", make_field, partial(run_sampler, solver="euler")),
    Case("heun", make_field, partial(run_sampler, solver="heun")),
]
