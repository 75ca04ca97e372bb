"""The surface of an asset: triangles and the color of every point on them.

Vertices are in the canonical frame once `normalized` was called. Colors are sRGB albedo, from textures or from
the triangles' corners.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from cupid_core.errors import DatasetError

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class AssetSurface:
    """F triangles with color.

    Attributes:
        vertices: (V, 3) float32.
        faces: (F, 3) int64, counter-clockwise when viewed from outside, where that is known.
        corner_color: (F, 3, 3) uint8 sRGB of the corners of triangles without texture.
        corner_uv: (F, 3, 2) float32 position in the texture, (0, 0) its lower left; beyond [0, 1] it repeats.
        texture: (F,) int64 number of the texture, -1 without.
        textures: (H, W, 3) uint8 sRGB each.
        watertight: closed, so that inside and outside are defined everywhere.
    """

    vertices: Floats
    faces: Integers
    corner_color: Bytes
    corner_uv: Floats
    texture: Integers
    textures: tuple[Bytes, ...]
    watertight: bool

    def color_at(self, face: Integers, barycentric: Floats) -> Floats:
        """Color (N, 3) of points on triangles, sRGB in [0, 1].

        Args:
            face: (N,) triangles.
            barycentric: (N, 3) weights of their corners.
        """
        corners = self.corner_color[face].astype(np.float32) / 255
        color: Floats = np.einsum("nc,ncd->nd", barycentric, corners).astype(np.float32)
        place = np.einsum("nc,ncd->nd", barycentric, self.corner_uv[face])
        for number, image in enumerate(self.textures):
            rows = np.flatnonzero(self.texture[face] == number)
            color[rows] = _bilinear(image, place[rows])
        return color.clip(0, 1)

    def box(self) -> tuple[Floats, Floats]:
        """Lowest and highest corner (3,) of the triangles."""
        used = self.vertices[np.unique(self.faces)]
        return used.min(axis=0), used.max(axis=0)

    def normalized(self, longest_side: float) -> tuple[AssetSurface, Floats, float]:
        """The surface centered on the origin with its longest side scaled.

        Returns:
            The surface, `offset` (3,) and `scale`: a vertex v becomes (v + offset) * scale.

        Raises:
            DatasetError: all vertices coincide.
        """
        low, high = self.box()
        longest = float((high - low).max())
        if not longest > 0:
            raise DatasetError("The object has no extent.", hint="Leave this mesh out.")
        offset, scale = -((low.astype(np.float64) + high) / 2), longest_side / longest
        moved = ((self.vertices + offset) * scale).astype(np.float32)
        return replace(self, vertices=moved), offset.astype(np.float32), scale

    def to_bytes(self) -> bytes:
        """Content of a file that `read_surface` reads; the same for the same surface."""
        stream = io.BytesIO()
        arrays: dict[str, Any] = {
            "vertices": self.vertices,
            "faces": self.faces.astype(np.int32),
            "corner_color": self.corner_color,
            "corner_uv": self.corner_uv,
            "texture": self.texture.astype(np.int16),
            "watertight": np.array(self.watertight),
        }
        arrays |= {f"texture_{number:03d}": image for number, image in enumerate(self.textures)}
        np.savez_compressed(stream, **arrays)
        return stream.getvalue()


def read_surface(path: Path) -> AssetSurface:
    """Read a surface that `AssetSurface.to_bytes` has written.

    Raises:
        DatasetError: no such file, damaged, or its parts do not fit.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            surface = AssetSurface(
                vertices=np.asarray(file["vertices"], dtype=np.float32),
                faces=np.asarray(file["faces"], dtype=np.int64),
                corner_color=np.asarray(file["corner_color"], dtype=np.uint8),
                corner_uv=np.asarray(file["corner_uv"], dtype=np.float32),
                texture=np.asarray(file["texture"], dtype=np.int64),
                textures=tuple(file[name] for name in sorted(file.files) if name.startswith("texture_")),
                watertight=bool(file["watertight"]),
            )
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DatasetError(f"{path}: {error}.", hint="Prepare the object again.") from error
    count, places = len(surface.faces), len(surface.vertices)
    fits = (
        surface.vertices.shape == (places, 3)
        and surface.faces.shape == (count, 3)
        and surface.corner_color.shape == (count, 3, 3)
        and surface.corner_uv.shape == (count, 3, 2)
        and surface.texture.shape == (count,)
        and count > 0
        and 0 <= surface.faces.min() <= surface.faces.max() < places
        and -1 <= surface.texture.min() <= surface.texture.max() < len(surface.textures)
    )
    if not fits:
        raise DatasetError(
            f"{path} holds {places} vertices and {count} triangles that do not fit each other.",
            hint="Prepare the object again.",
        )
    return surface


def _bilinear(image: Bytes, place: Floats) -> Floats:
    """Colors (N, 3) in [0, 1] of a repeating image (H, W, 3) at places (N, 2), the second upwards."""
    height, width = image.shape[:2]
    x = place[:, 0] * width - 0.5
    y = (1 - place[:, 1]) * height - 0.5
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right_share, low_share = (x - left)[:, None], (y - top)[:, None]
    columns, rows = (left % width, (left + 1) % width), (top % height, (top + 1) % height)
    upper = image[rows[0], columns[0]] * (1 - right_share) + image[rows[0], columns[1]] * right_share
    lower = image[rows[1], columns[0]] * (1 - right_share) + image[rows[1], columns[1]] * right_share
    mixed: Floats = ((upper * (1 - low_share) + lower * low_share) / 255).astype(np.float32)
    return mixed
