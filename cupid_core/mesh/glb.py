"""Writes binary glTF: one object, or a scene of named objects with their poses.

This is the only place where y is up: glTF wants x right, y up, z towards the viewer; everywhere else z is up. The
two differ by a quarter turn about x. Vertex colors are linear in a glTF file and sRGB in memory; a base-color
texture is sRGB in both. Material: metallic 0, roughness 0.9.

The writer is our own because trimesh's keeps less: it writes vertex colors as they are, in 8 bits (no conversion
to linear light, and 8 linear bits show steps in dark colors), gives them no material, so that viewers take a shiny
metal, and leaves the quarter turn to the caller. The other formats are written by trimesh (`export`).

Source: glTF 2.0 specification, sections 3.6 (accessors), 3.7.2 (meshes), 3.9 (materials), 4 (GLB).
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cupid_core.color_space import srgb_to_linear
from cupid_core.errors import InputError
from cupid_core.files import write_bytes
from cupid_core.geometry import so3
from cupid_core.geometry.se3 import SE3
from cupid_core.mesh.texture import cut_at_seams
from cupid_core.types import TriangleMesh

_ROUGHNESS = 0.9
_FLOAT, _UINT16, _UINT32 = 5126, 5123, 5125
_VERTEX_BUFFER, _INDEX_BUFFER = 34962, 34963


@dataclass(frozen=True, eq=False)
class SceneItem:
    """One object of a scene file.

    Attributes:
        name: of its node; made unique where two are the same.
        mesh: object frame, z up, metres.
        T_camera_object: one pose (no batch), metres.
    """

    name: str
    mesh: TriangleMesh
    T_camera_object: SE3


def write_glb(path: Path, mesh: TriangleMesh, name: str = "object") -> None:
    """Write one object; turned from z up to y up inside the file.

    Raises:
        OutputError: the file cannot be written.
    """
    document = _Document()
    document.add_root({"name": name, "mesh": document.add_mesh(mesh, name)})
    write_bytes(path, document.to_bytes())


def write_scene_glb(path: Path, items: Sequence[SceneItem], *, up_camera: Tensor | None = None) -> None:
    """Write several objects, each a node with its pose; node and mesh carry its name.

    The root node "camera" turns the camera frame (y down, z forward) over. A viewer's default camera then looks
    the way the photo was taken. With `up_camera` it also turns the scene so that this direction is up.

    Args:
        path: of the `.glb` file.
        items: objects and their poses.
        up_camera: (3,) what is up in the world, in the camera frame, of any length, e.g. the z axis of an object
            that stands upright; None takes the image's up.

    Raises:
        InputError: no object, or `up_camera` is zero or not finite.
        OutputError: the file cannot be written.
    """
    if not items:
        raise InputError("There is no object to write a scene of.", hint="Give at least one object.")
    document = _Document()
    children = []
    taken: set[str] = set()
    for item in items:
        name = item.name
        while name in taken:
            name += "_"
        taken.add(name)
        node = {"name": name, "mesh": document.add_mesh(item.mesh, name)}
        # Vertices in the file are y up already; the node turns them back to z up, then into the camera frame.
        rotation = item.T_camera_object.rotation().double().cpu() @ points_to_y_up(torch.eye(3).double())
        children.append(document.add_node(node | _placement(rotation, item.T_camera_object.translation)))
    root = {"name": "camera", "children": children} | _placement(_file_from_camera(up_camera), torch.zeros(3))
    document.add_root(root)
    write_bytes(path, document.to_bytes())


def points_to_y_up(points: Tensor) -> Tensor:
    """Points or directions (..., 3), z up, to glTF: (x, y, z) becomes (x, z, -y). Undone by `points_from_y_up`."""
    x, y, z = points.unbind(-1)
    return torch.stack([x, z, -y], dim=-1)


def points_from_y_up(points: Tensor) -> Tensor:
    """Points or directions (..., 3) of glTF to z up: (x, y, z) becomes (x, -z, y). Undone by `points_to_y_up`."""
    x, y, z = points.unbind(-1)
    return torch.stack([x, -z, y], dim=-1)


def mesh_to_y_up(mesh: TriangleMesh) -> TriangleMesh:
    """A mesh as glTF wants it; undone by `mesh_from_y_up`."""
    return _turned(mesh, points_to_y_up)


def mesh_from_y_up(mesh: TriangleMesh) -> TriangleMesh:
    """A mesh of a glTF file with z up; undone by `mesh_to_y_up`."""
    return _turned(mesh, points_from_y_up)


def _turned(mesh: TriangleMesh, turn: Callable[[Tensor], Tensor]) -> TriangleMesh:
    normals = None if mesh.normals is None else turn(mesh.normals)
    return replace(mesh, vertices=turn(mesh.vertices), normals=normals)


def _file_from_camera(up_camera: Tensor | None) -> Tensor:
    """(3, 3) rotation from the camera frame into that of the file: y up, looking along -z."""
    turned_over = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    if up_camera is None:
        return turned_over
    up = up_camera.detach().double().cpu()
    length = float(up.norm())
    if up.shape != (3,) or not 0 < length < float("inf"):
        raise InputError(f"up_camera is {up.tolist()}.", hint="Give a direction of three numbers, not all zero.")
    up, upright = turned_over @ up / length, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    axis = torch.linalg.cross(up, upright)
    sine = float(axis.norm())
    angle = math.atan2(sine, float(up @ upright))
    # Up already, or upside down: any level axis will do.
    axis = axis / sine if sine > 1e-9 else torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    return so3.to_matrix(so3.exp(axis * angle)) @ turned_over


def _placement(rotation: Tensor, translation: Tensor) -> dict[str, Any]:
    quat_xyzw = so3.from_matrix(rotation)
    return {"rotation": quat_xyzw.tolist(), "translation": translation.detach().double().cpu().tolist()}


@dataclass
class _Document:
    """A glTF file as it grows: the json part, and the one binary buffer that it points into."""

    content: dict[str, Any] = field(
        default_factory=lambda: {
            "asset": {"version": "2.0", "generator": "cupid_ros"},
            "scene": 0,
            "scenes": [{"nodes": []}],
            "nodes": [],
            "meshes": [],
            "materials": [],
            "accessors": [],
            "bufferViews": [],
        }
    )
    binary: bytearray = field(default_factory=bytearray)

    def add_node(self, node: dict[str, Any]) -> int:
        return self._append("nodes", node)

    def add_root(self, node: dict[str, Any]) -> None:
        self.content["scenes"][0]["nodes"].append(self.add_node(node))

    def add_mesh(self, item: TriangleMesh, name: str) -> int:
        """Add geometry and its material; the number of the mesh."""
        cut, uv = (item, None) if item.texture is None else cut_at_seams(item)
        mesh = mesh_to_y_up(cut)
        material: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": _ROUGHNESS}
        attributes = {"POSITION": self._accessor(_array(mesh.vertices), "VEC3", bounds=True)}
        if mesh.normals is not None:
            attributes["NORMAL"] = self._accessor(_unit(_array(mesh.normals)), "VEC3")
        if item.texture is not None and uv is not None:
            attributes["TEXCOORD_0"] = self._accessor(uv, "VEC2")
            material["baseColorTexture"] = {"index": self._texture(item.texture.image.cpu().numpy())}
        elif mesh.colors is not None:
            # Not beside a texture: viewers multiply the two.
            attributes["COLOR_0"] = self._accessor(_linear_colors(mesh.colors), "VEC4", normalized=True)
        indices = self._accessor(mesh.faces.cpu().numpy().astype(np.uint32).reshape(-1), "SCALAR")
        number = self._append("materials", {"name": name, "pbrMetallicRoughness": material, "doubleSided": False})
        primitive = {"attributes": attributes, "indices": indices, "material": number, "mode": 4}
        return self._append("meshes", {"name": name, "primitives": [primitive]})

    def to_bytes(self) -> bytes:
        """The whole `.glb` file."""
        content = {key: value for key, value in self.content.items() if value != []}
        content["buffers"] = [{"byteLength": len(self.binary)}]
        text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode("utf-8")
        text += b" " * (-len(text) % 4)
        binary = bytes(self.binary) + b"\0" * (-len(self.binary) % 4)
        chunks = _chunk(b"JSON", text) + _chunk(b"BIN\0", binary)
        return b"glTF" + np.array([2, 12 + len(chunks)], "<u4").tobytes() + chunks

    def _append(self, kind: str, value: dict[str, Any]) -> int:
        self.content.setdefault(kind, []).append(value)
        return len(self.content[kind]) - 1

    def _view(self, data: bytes, **extra: int) -> int:
        self.binary += b"\0" * (-len(self.binary) % 4)
        start = len(self.binary)
        self.binary += data
        return self._append("bufferViews", {"buffer": 0, "byteOffset": start, "byteLength": len(data)} | extra)

    def _accessor(self, values: NDArray[Any], kind: str, *, bounds: bool = False, normalized: bool = False) -> int:
        numbers = {"f": _FLOAT, "H": _UINT16, "I": _UINT32}
        target = _INDEX_BUFFER if kind == "SCALAR" else _VERTEX_BUFFER
        accessor: dict[str, Any] = {
            "bufferView": self._view(values.tobytes(), target=target),
            "componentType": numbers[values.dtype.char],
            "count": len(values),
            "type": kind,
        }
        if normalized:
            accessor["normalized"] = True
        if bounds:
            accessor |= {"min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist()}
        return self._append("accessors", accessor)

    def _texture(self, picture: NDArray[np.uint8]) -> int:
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, format="PNG")
        image = self._append("images", {"mimeType": "image/png", "bufferView": self._view(stream.getvalue())})
        sampler = self._append("samplers", {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071})
        return self._append("textures", {"source": image, "sampler": sampler})


def _chunk(kind: bytes, data: bytes) -> bytes:
    return np.array([len(data)], "<u4").tobytes() + kind + data


def _array(values: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(values.detach().float().cpu().numpy())


def _unit(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """The format wants unit length; a vertex without faces has no normal, and gets up."""
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    up = np.array([0.0, 1.0, 0.0], dtype=np.float32)
    return np.where(length > 0, normals / np.maximum(length, 1e-30), up).astype(np.float32)


def _linear_colors(colors: Tensor) -> NDArray[np.uint16]:
    """(V, 4) linear, 16 bits as 8 would show steps in the dark; four channels keep rows aligned to 4 bytes."""
    linear = srgb_to_linear(colors.detach().double().clamp(0, 1)).cpu().numpy()
    return np.concatenate([(linear * 65535).round(), np.full((len(linear), 1), 65535.0)], axis=1).astype(np.uint16)
