"""Reads mesh files into asset surfaces, through trimesh.

Read are triangles, vertex and face colors, the base color and its texture; not normal maps, gloss, transparency.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from PIL import Image
from trimesh.visual.material import PBRMaterial

from cupid_core.color_space import linear_to_srgb, srgb_to_linear
from cupid_core.data.assets.surface import AssetSurface, Bytes
from cupid_core.errors import DatasetError, InputError
from cupid_core.mesh.read_mesh import GLTF_SUFFIXES, MESH_SUFFIXES, read_parts

# Color of a mesh without colors, sRGB.
_GRAY = 178


class MeshFileError(DatasetError):
    """A mesh file cannot be read, or has no surface."""

    code = "mesh_file_invalid"


@dataclass(frozen=True)
class MeshSource:
    """A mesh file and the hash of its content, which names it.

    Attributes:
        path: of the file, absolute.
        sha256: of its content, with that of the materials and textures beside it.
    """

    path: Path
    sha256: str


def find_meshes(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Mesh files, given or in given folders and the folders in those; absolute, in order, each once.

    Raises:
        DatasetError: a path does not exist, is not a mesh file, or no mesh is found at all.
    """
    found: set[Path] = set()
    for path in paths:
        if path.is_dir():
            found |= {file.resolve() for file in path.rglob("*") if file.suffix.lower() in MESH_SUFFIXES}
        elif not path.is_file() or path.suffix.lower() not in MESH_SUFFIXES:
            raise DatasetError(
                f"{path} is neither a mesh file nor a folder.",
                hint=f"Give files that end in {', '.join(MESH_SUFFIXES)}.",
            )
        else:
            found.add(path.resolve())
    if not found:
        raise DatasetError(
            "There is no mesh in what was given.", hint=f"Give files that end in {', '.join(MESH_SUFFIXES)}."
        )
    return tuple(sorted(found))


def identify(path: Path) -> MeshSource:
    """The name of a mesh: the hash of its content, and of what it refers to.

    Raises:
        MeshFileError: the file cannot be read.
    """
    try:
        digest = hashlib.sha256(path.read_bytes())
        for other in _referred(path):
            # A missing file changes the hash as well: it may be added later.
            digest.update(other.read_bytes() if other.is_file() else b"\0absent")
    except OSError as error:
        raise MeshFileError(f"{path}: {error.strerror}.", hint="Check the file.") from error
    return MeshSource(path, digest.hexdigest())


def read_mesh(path: Path, *, up: str, texture_size: int) -> AssetSurface:
    """The surface of all objects in a file, z up, in the file's own units.

    Args:
        path: of the file.
        up: "y", "z" or "auto" for the convention of the format.
        texture_size: longest side of a texture in pixels.

    Raises:
        MeshFileError: the file cannot be read, has no triangle, or has vertices that are not finite.
    """
    ending = path.suffix.lower()
    try:
        meshes = read_parts(path, merge=True)
    except InputError as error:
        raise MeshFileError(error.problem, hint=error.hint) from error
    parts = [_part(mesh, ending in GLTF_SUFFIXES, texture_size) for mesh in _placed(meshes)]
    if not parts:
        raise MeshFileError(f"{path} has no triangle with an area.", hint="Leave this file out.")
    surface = _joined(parts)
    if not np.isfinite(surface.vertices).all() or not np.isfinite(surface.corner_uv).all():
        raise MeshFileError(f"{path} has vertices that are not finite.", hint="Export the mesh again.")
    if up == "y" or (up == "auto" and ending in GLTF_SUFFIXES):
        x, y, z = surface.vertices.T
        surface.vertices[:] = np.stack([x, -z, y], axis=1)
    return surface


def _placed(parts: Iterable[tuple[trimesh.Trimesh, NDArray[np.float64]]]) -> Iterator[trimesh.Trimesh]:
    """Copies of meshes at their places in the scene, degenerate triangles left out."""
    for part, T_scene_part in parts:
        mesh = part.copy()
        mesh.apply_transform(T_scene_part)
        mesh.update_faces(mesh.area_faces > 0)
        if len(mesh.faces):
            yield mesh


def _part(mesh: trimesh.Trimesh, linear: bool, texture_size: int) -> AssetSurface:
    """One mesh; `linear`: its plain colors are linear."""
    count = len(mesh.faces)
    faces = np.asarray(mesh.faces, dtype=np.int64)
    colors, uv, image = _look(mesh, linear, texture_size)
    return AssetSurface(
        vertices=np.array(mesh.vertices, dtype=np.float32),
        faces=faces,
        corner_color=colors,
        corner_uv=np.zeros((count, 3, 2), np.float32) if uv is None else uv[faces].astype(np.float32),
        texture=np.full(count, -1 if image is None else 0, dtype=np.int64),
        textures=() if image is None else (image,),
        watertight=False,
    )


def _look(mesh: trimesh.Trimesh, linear: bool, texture_size: int) -> tuple[Bytes, Any, Bytes | None]:
    """Corner colors (F, 3, 3), and texture coordinates (V, 2) with their image, or None without."""
    visual: Any = mesh.visual
    plain = np.full((len(mesh.faces), 3, 3), _GRAY, dtype=np.uint8)
    if visual.kind == "vertex":
        return _as_srgb(visual.vertex_colors[:, :3], linear)[mesh.faces], None, None
    if visual.kind == "face":
        plain[:] = _as_srgb(visual.face_colors[:, None, :3], linear)
        return plain, None, None
    material = getattr(visual, "material", None)
    if material is None:
        return plain, None, None
    physical = isinstance(material, PBRMaterial)
    image = material.baseColorTexture if physical else getattr(material, "image", None)
    factor = material.baseColorFactor if physical else getattr(material, "diffuse", None)
    if image is None or visual.uv is None:
        if factor is not None:
            plain[:] = _as_srgb(np.asarray(factor, dtype=np.uint8)[:3], linear)
        return plain, None, None
    return plain, np.asarray(visual.uv), _texture(image, factor if physical else None, texture_size)


def _texture(image: Image.Image, factor: Any, texture_size: int) -> Bytes:
    """Pixels of a texture, multiplied by the material's linear factor."""
    picture = image.convert("RGB")
    picture.thumbnail((texture_size, texture_size), Image.Resampling.LANCZOS)
    pixels = np.array(picture, dtype=np.uint8)
    if factor is None or bool((np.asarray(factor)[:3] == 255).all()):
        return pixels
    share = np.asarray(factor, dtype=np.float32)[:3] / 255
    return _srgb_bytes(srgb_to_linear(torch.from_numpy(pixels.astype(np.float32) / 255)).numpy() * share)


def _as_srgb(colors: Any, linear: bool) -> Bytes:
    """Bytes of colors as bytes of sRGB."""
    values = np.asarray(colors, dtype=np.uint8)
    if not linear:
        return values
    return _srgb_bytes(values.astype(np.float32) / 255)


def _srgb_bytes(linear: NDArray[np.floating[Any]]) -> Bytes:
    srgb = linear_to_srgb(torch.from_numpy(np.ascontiguousarray(linear, dtype=np.float32)).clamp(0, 1)).numpy()
    return np.asarray((srgb * 255 + 0.5).astype(np.uint8))


def _joined(parts: list[AssetSurface]) -> AssetSurface:
    """All parts as one surface, and whether it is closed."""
    places = np.cumsum([0] + [len(part.vertices) for part in parts])
    images = np.cumsum([0] + [len(part.textures) for part in parts])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, places, strict=False)])
    numbers = [
        np.where(part.texture < 0, -1, part.texture + start) for part, start in zip(parts, images, strict=False)
    ]
    vertices = np.concatenate([part.vertices for part in parts])
    # Seams of a texture duplicate vertices without opening the mesh, so vertices are compared by position.
    closed = trimesh.Trimesh(vertices, faces, process=True)
    watertight = bool(closed.is_watertight and closed.is_winding_consistent)
    colors, uv = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("corner_color", "corner_uv")
    )
    textures = tuple(image for part in parts for image in part.textures)
    surface = AssetSurface(vertices, faces, colors, uv, np.concatenate(numbers), textures, watertight)
    return _turned(surface) if watertight and closed.volume < 0 else surface


def _turned(surface: AssetSurface) -> AssetSurface:
    """A closed surface with its orientation corrected where it was inside out."""
    for rows in (surface.faces, surface.corner_color, surface.corner_uv):
        rows[:] = rows[:, ::-1].copy()
    return surface


def _referred(path: Path) -> list[Path]:
    """Files that a .obj or .gltf file names, materials and what these name included."""
    ending = path.suffix.lower()
    if ending == ".gltf":
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            entries = [*description.get("buffers", []), *description.get("images", [])]
            names = [entry["uri"] for entry in entries if not entry.get("uri", "data:").startswith("data:")]
        except (ValueError, AttributeError, TypeError):
            return []  # reading the mesh reports the error
        return [path.parent / name for name in names]
    if ending != ".obj":
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    materials = [path.parent / name.strip() for name in re.findall(r"^mtllib\s+(.+)$", text, re.MULTILINE)]
    found = list(materials)
    for material in materials:
        if material.is_file():
            words = material.read_text(encoding="utf-8", errors="replace")
            maps = re.findall(r"^\s*map_\w+\s+.*?(\S+)\s*$", words, re.MULTILINE)
            found += [material.parent / name for name in maps]
    return found
