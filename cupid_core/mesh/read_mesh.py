"""Reads mesh files (.ply, .obj, .stl, .glb, .gltf) through trimesh.

The y axis of glTF files, which is up, becomes z, and their linear vertex colors become sRGB.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray

from cupid_core.color_space import linear_to_srgb
from cupid_core.errors import InputError
from cupid_core.mesh.cleaning import Surface, cut, remove_degenerate_faces, weld_vertices
from cupid_core.mesh.glb import mesh_from_y_up
from cupid_core.mesh.normals import vertex_normals
from cupid_core.types import TriangleMesh

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")
# Files that are y up and whose plain numbers are linear colors, by their standard.
GLTF_SUFFIXES = (".glb", ".gltf")
# What trimesh and its readers raise on damaged files.
_READ_ERRORS = (
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    NotImplementedError,
    AssertionError,
    EOFError,
    struct.error,
)


def read_mesh(path: Path) -> TriangleMesh:
    """All triangles of a file as one mesh, z up, float32, with vertex normals computed anew.

    Colors come as sRGB, 8 bits (16 of a glTF file that has them), from the vertices or from a texture at the
    vertices; None where the file has none. Vertices of an STL file at one place are joined.

    Raises:
        InputError: no such file, not one of these formats, damaged, or without triangles.
    """
    suffix = path.suffix.lower()
    surface = _joined(read_parts(path, merge=False), linear=suffix in GLTF_SUFFIXES)
    if suffix == ".stl":
        surface = cut(remove_degenerate_faces(weld_vertices(surface)))
    vertices = torch.from_numpy(np.ascontiguousarray(surface.vertices)).float()
    faces = torch.from_numpy(np.ascontiguousarray(surface.faces))
    colors = None if surface.colors is None else torch.from_numpy(surface.colors).float()
    mesh = TriangleMesh(vertices, faces, colors, vertex_normals(vertices, faces))
    return mesh_from_y_up(mesh) if suffix in GLTF_SUFFIXES else mesh


def read_parts(path: Path, *, merge: bool) -> list[tuple[trimesh.Trimesh, NDArray[np.float64]]]:
    """The triangle meshes of a file, in the order of its nodes, each with its pose (4, 4) in the scene.

    Args:
        path: of a mesh file.
        merge: join vertices that are the same; otherwise they keep their number and order.

    Raises:
        InputError: no such file, not one of these formats, damaged, or without triangles.
    """
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise InputError(f"{path.name} has no known mesh format.", hint=f"Give one of {', '.join(MESH_SUFFIXES)}.")
    try:
        scene = trimesh.load_scene(path, process=merge, maintain_order=not merge)
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror or error}.", hint="Give the path of a readable file."
        ) from error
    except _READ_ERRORS as error:
        raise InputError(
            f"{path} cannot be read as a mesh: {type(error).__name__}: {error}.", hint="Export the mesh again."
        ) from error
    # Not `scene.dump`: its copies lose the vertex colors of glTF files.
    nodes = [scene.graph[node] for node in sorted(scene.graph.nodes_geometry)]
    parts = [(scene.geometry[name], np.asarray(T_scene_part, dtype=np.float64)) for T_scene_part, name in nodes]
    triangles = [(part, T) for part, T in parts if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if not triangles:
        raise InputError(f"{path} holds no triangle.", hint="Give a file with a triangle mesh.")
    return triangles


def _joined(parts: Sequence[tuple[Any, NDArray[np.float64]]], *, linear: bool) -> Surface:
    """All parts as one surface, each moved by its 4x4 transform."""
    vertices, faces, start = [], [], 0
    for part, T_scene_part in parts:
        points = np.asarray(part.vertices, dtype=np.float64)
        vertices.append(points @ T_scene_part[:3, :3].T + T_scene_part[:3, 3])
        corners = np.asarray(part.faces, dtype=np.int64) + start
        faces.append(corners[:, ::-1] if np.linalg.det(T_scene_part[:3, :3]) < 0 else corners)
        start += len(part.vertices)
    colors = [_colors(part, linear=linear) for part, _ in parts]
    known = [values for values in colors if values is not None]
    return Surface(
        np.concatenate(vertices),
        np.concatenate(faces),
        np.concatenate(known) if len(known) == len(parts) else None,
    )


def _colors(part: Any, *, linear: bool) -> NDArray[np.float64] | None:
    """Colors (V, 3) in sRGB of one part; None where it has none."""
    if part.visual.kind == "texture" and part.visual.uv is not None:
        values = np.asarray(part.visual.to_color().vertex_colors)[:, :3] / 255.0
        return values if len(values) == len(part.vertices) else None
    if part.visual.kind == "texture":
        # A mesh with a material but no texture: trimesh keeps the colors aside, in the type that the file has.
        raw = part.visual.vertex_attributes.get("color", part.vertex_attributes.get("color"))
        if raw is None or len(raw) != len(part.vertices):
            return None
        whole = 1.0 if raw.dtype.kind == "f" else float(np.iinfo(raw.dtype).max)
        values = np.asarray(raw, dtype=np.float64)[:, :3] / whole
    elif part.visual.kind == "vertex":
        values = np.asarray(part.visual.vertex_colors)[:, :3] / 255.0
    else:
        return None
    return np.asarray(linear_to_srgb(torch.from_numpy(values)).numpy()) if linear else values
