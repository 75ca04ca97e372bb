"""Reads mesh files back: PLY, OBJ, STL, GLB; y up becomes z up, and linear colors become sRGB, where they occur.

Knows formats through trimesh, not what the meshes are for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh

from cupid_core.errors import InputError
from cupid_core.mesh.cleaning import Surface, cut, welded, without_degenerate
from cupid_core.mesh.color_space import linear_to_srgb
from cupid_core.mesh.normals import vertex_normals
from cupid_core.mesh.y_up import mesh_from_y_up
from cupid_core.types import TriangleMesh

_Y_UP = {".glb", ".gltf"}
_SUFFIXES = {".ply", ".obj", ".stl"} | _Y_UP


def read_mesh(path: Path) -> TriangleMesh:
    """All triangles of a file as one mesh, z up, float32, with vertex normals computed anew.

    Colors come as sRGB, 8 bits (16 of a glTF file that has them), from the vertices or from a texture at the
    vertices; None where the file has none. Vertices of an STL file at one place are joined.

    Raises:
        InputError: no such file, not one of these formats, damaged, or without triangles.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise InputError(f"{path} is no mesh file.", hint=f"Give one of {', '.join(sorted(_SUFFIXES))}.")
    try:
        scene = trimesh.load_scene(path, process=False, maintain_order=True)
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror or error}.", hint="Give the path of a readable file."
        ) from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, NotImplementedError) as error:
        raise InputError(f"{path} cannot be read as a mesh: {error}.", hint="Write the file again.") from error
    # `scene.dump` would lose the colors of glTF vertices, so nodes are walked here.
    placed = [scene.graph[node] for node in sorted(scene.graph.nodes_geometry)]
    parts = [(scene.geometry[name], T_scene_part) for T_scene_part, name in placed]
    parts = [(part, T) for part, T in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if not parts:
        raise InputError(f"{path} holds no triangle.", hint="Give a file with a triangle mesh.")
    surface = _joined(parts, linear=suffix in _Y_UP)
    if suffix == ".stl":
        surface = cut(without_degenerate(welded(surface)))
    vertices = torch.from_numpy(np.ascontiguousarray(surface.vertices)).float()
    faces = torch.from_numpy(np.ascontiguousarray(surface.faces))
    colors = None if surface.colors is None else torch.from_numpy(surface.colors).float()
    mesh = TriangleMesh(vertices, faces, colors, vertex_normals(vertices, faces))
    return mesh_from_y_up(mesh) if suffix in _Y_UP else mesh


def _joined(parts: Sequence[tuple[Any, Any]], *, linear: bool) -> Surface:
    """All pieces, each moved by its 4x4 transform."""
    vertices, faces, start = [], [], 0
    for part, T_scene_part in parts:
        matrix = np.asarray(T_scene_part, dtype=np.float64)
        vertices.append(np.asarray(part.vertices, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3])
        corners = np.asarray(part.faces, dtype=np.int64) + start
        faces.append(corners[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else corners)
        start += len(part.vertices)
    colors = [_colors(part, linear=linear) for part, _ in parts]
    known = [values for values in colors if values is not None]
    return Surface(
        np.concatenate(vertices),
        np.concatenate(faces),
        np.concatenate(known) if len(known) == len(parts) else None,
    )


def _colors(part: Any, *, linear: bool) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
    """(V, 3) sRGB of one piece."""
    if part.visual.kind == "texture":
        if part.visual.uv is not None:
            values = np.asarray(part.visual.to_color().vertex_colors)[:, :3] / 255.0
            return values if len(values) == len(part.vertices) else None
        # A mesh with a material but no texture: colors are kept aside, in the type that the file has.
        raw = part.visual.vertex_attributes.get("color", part.vertex_attributes.get("color"))
        if raw is None or len(raw) != len(part.vertices):
            return None
        whole = 1.0 if raw.dtype.kind == "f" else float(np.iinfo(raw.dtype).max)
        values = np.asarray(raw, dtype=np.float64)[:, :3] / whole
        return np.asarray(linear_to_srgb(torch.from_numpy(values)).numpy()) if linear else values
    if part.visual.kind != "vertex":
        return None
    values = np.asarray(part.visual.vertex_colors)[:, :3] / 255.0
    return np.asarray(linear_to_srgb(torch.from_numpy(values)).numpy()) if linear else values
