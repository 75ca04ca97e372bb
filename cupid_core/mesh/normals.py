"""Normals of triangles and of their vertices."""

from __future__ import annotations

import torch
from torch import Tensor

# Bounds the working memory: a face takes ten times as much while its normal is computed as afterwards.
_CHUNK_FACES = 1 << 18


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals, outward for counter-clockwise faces; zero for a face without area.

    Args:
        vertices: (V, 3) floating.
        faces: (F, 3) int64.

    Returns:
        (F, 3).
    """
    return torch.nn.functional.normalize(_area_vectors(vertices, faces), dim=1)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals, the mean of the faces around each vertex weighted by area; zero for a vertex without faces.

    Args:
        vertices: (V, 3) floating.
        faces: (F, 3) int64.

    Returns:
        (V, 3).
    """
    total = torch.zeros_like(vertices)
    for start in range(0, len(faces), _CHUNK_FACES):
        part = faces[start : start + _CHUNK_FACES]
        area_vectors = _area_vectors(vertices, part)
        for corner in range(3):
            total = total.index_add(0, part[:, corner], area_vectors)
    return torch.nn.functional.normalize(total, dim=1)


def _area_vectors(vertices: Tensor, faces: Tensor) -> Tensor:
    """Cross products (F, 3), twice the face's area long."""
    first, second, third = (vertices[faces[:, corner]] for corner in range(3))
    area_vectors: Tensor = torch.linalg.cross(second - first, third - first, dim=1)
    return area_vectors
