"""A mesh as a few convex parts, which is what physics engines collide fast. Knows meshes, not engines or files."""

from __future__ import annotations

import numpy as np
import torch

from cupid_core.config import MeshConfig
from cupid_core.errors import EmptyMeshError
from cupid_core.mesh.optional_package import optional_package
from cupid_core.types import TriangleMesh


def convex_parts(mesh: TriangleMesh, config: MeshConfig | None = None) -> tuple[TriangleMesh, ...]:
    """Convex meshes whose union covers the mesh about, largest first; the same input gives the same parts.

    Args:
        mesh: any frame and unit.
        config: `convex_threshold` and `convex_parts` are used; None takes the defaults.

    Returns:
        Parts without colours or normals, watertight and convex, in the type of the input.

    Raises:
        EmptyMeshError: no face, or the decomposition found nothing.
        MissingPackageError: `coacd` is not installed (extra `convex`).

    Source: Wei et al. 2022, collision-aware approximate convex decomposition.
    """
    config = config or MeshConfig()
    coacd = optional_package("coacd", "convex")
    if not len(mesh.faces):
        raise EmptyMeshError("The mesh has no face.", cure="Try another seed, or a tighter mask.")
    coacd.set_log_level("error")
    vertices = mesh.vertices.detach().double().cpu().numpy()
    found = coacd.run_coacd(
        coacd.Mesh(vertices, mesh.faces.cpu().numpy().astype(np.int32)),
        threshold=config.convex_threshold,
        max_convex_hull=config.convex_parts,
        seed=0,
    )
    parts = [
        TriangleMesh(
            torch.from_numpy(np.array(part[0], dtype=np.float64)).to(mesh.vertices),
            torch.from_numpy(np.array(part[1], dtype=np.int64)).to(mesh.faces.device),
        )
        for part in found
        if len(part[1])
    ]
    if not parts:
        raise EmptyMeshError("No convex part was found.", cure="Pass the mesh through `finish_mesh` first.")
    return tuple(sorted(parts, key=_volume, reverse=True))


def _volume(mesh: TriangleMesh) -> float:
    return float(torch.linalg.det(mesh.vertices[mesh.faces].double()).sum())
