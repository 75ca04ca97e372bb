"""Convex decomposition of a mesh, for collision checks in physics engines."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core.config import MeshConfig
from cupid_core.errors import ConvexPartsError, EmptyMeshError
from cupid_core.mesh.cleaning import Surface, closed
from cupid_core.mesh.decimation import decimate
from cupid_core.packages import optional_package
from cupid_core.types import TriangleMesh


def convex_parts(mesh: TriangleMesh, config: MeshConfig | None = None) -> tuple[TriangleMesh, ...]:
    """Convex meshes whose union approximates the mesh, largest first; the same input gives the same parts.

    Args:
        mesh: any frame and unit.
        config: the settings that begin with `convex_` are used; None takes the defaults.

    Returns:
        Parts without colors or normals, watertight and convex, in the type of the input.

    Raises:
        EmptyMeshError: no face.
        ConvexPartsError: the library failed, or took longer than allowed.
        MissingPackageError: `coacd` is not installed (extra `convex`).

    Source: Wei et al. 2022, collision-aware approximate convex decomposition.
    """
    config = config or MeshConfig()
    optional_package("coacd", "convex")
    if not len(mesh.faces):
        raise EmptyMeshError("The mesh has no face.", hint="Try another seed, or a tighter mask.")
    surface = Surface(mesh.vertices.detach().double().cpu().numpy(), mesh.faces.cpu().numpy(), None)
    if len(surface.faces) > config.convex_faces:
        surface = decimate(surface, config.convex_faces, config.decimation_aggressiveness) or surface
    found = _decompose(surface, config)
    parts = [
        TriangleMesh(
            torch.from_numpy(found[f"vertices_{number}"].astype(np.float64)).to(mesh.vertices),
            torch.from_numpy(found[f"faces_{number}"].astype(np.int64)).to(mesh.faces.device),
        )
        for number in range(len(found) // 2)
    ]
    if not parts:
        raise ConvexPartsError("No convex part was found.", hint="Pass the mesh through `finish_mesh` first.")
    return tuple(sorted(parts, key=_volume, reverse=True))


def _decompose(surface: Surface, config: MeshConfig) -> dict[str, NDArray[np.float64]]:
    stream = io.BytesIO()
    np.savez(
        stream,
        vertices=surface.vertices,
        faces=surface.faces.astype(np.int32),
        threshold=config.convex_threshold,
        parts=config.convex_parts,
        closed=closed(surface),
    )
    command = [sys.executable, "-m", "cupid_core.mesh.convex_search"]
    try:
        done = subprocess.run(
            command, input=stream.getvalue(), capture_output=True, check=True, timeout=config.convex_limit_s
        )
    except subprocess.TimeoutExpired as error:
        raise ConvexPartsError(
            f"Convex parts were not found within {config.convex_limit_s:g} s.",
            hint="Raise mesh.convex_limit_s or mesh.convex_threshold, or lower mesh.convex_faces.",
        ) from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or [""]
        raise ConvexPartsError(
            f"The search for convex parts ended with status {error.returncode} {last[0][:200]}.",
            hint="Use the mesh itself for collision, or another mesh.convex_threshold.",
        ) from error
    with np.load(io.BytesIO(done.stdout)) as found:
        return {name: found[name] for name in found.files}


def _volume(mesh: TriangleMesh) -> float:
    return float(torch.linalg.det(mesh.vertices[mesh.faces].double()).sum())
