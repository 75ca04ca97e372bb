"""Meshes as values of other libraries: trimesh and open3d, which are imported when a function is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cupid_core.packages import open3d
from cupid_core.types import TriangleMesh

if TYPE_CHECKING:
    import trimesh


def to_trimesh(mesh: TriangleMesh) -> trimesh.Trimesh:
    """A copy as `trimesh.Trimesh`: same frame (z up), unit, vertex order, normals; colors sRGB, 8 bits."""
    import trimesh

    return trimesh.Trimesh(
        vertices=_floats(mesh.vertices),
        faces=mesh.faces.detach().cpu().numpy().copy(),
        vertex_normals=None if mesh.normals is None else _floats(mesh.normals),
        vertex_colors=None if mesh.colors is None else eight_bit(mesh.colors),
        process=False,
    )


def to_open3d(mesh: TriangleMesh) -> Any:
    """A copy as `open3d.geometry.TriangleMesh`: same frame (z up), unit, vertex order, normals and sRGB colors.

    Raises:
        MissingPackageError: open3d cannot be loaded.
    """
    library = open3d()
    vectors = library.utility.Vector3dVector
    faces = library.utility.Vector3iVector(mesh.faces.detach().cpu().numpy().astype(np.int32))
    result = library.geometry.TriangleMesh(vectors(_floats(mesh.vertices)), faces)
    if mesh.normals is not None:
        result.vertex_normals = vectors(_floats(mesh.normals))
    if mesh.colors is not None:
        result.vertex_colors = vectors(_floats(mesh.colors.clamp(0, 1)))
    return result


def eight_bit(colors: Tensor) -> NDArray[np.uint8]:
    """Colors in [0, 1], any shape, in 0..255; what lies outside is clipped."""
    return np.asarray((colors.detach().clamp(0, 1) * 255).round().cpu().numpy(), dtype=np.uint8)


def _floats(values: Tensor) -> NDArray[np.float64]:
    # A copy even of float64 on the CPU: changing the result must not change the mesh.
    return np.array(values.detach().cpu().numpy(), dtype=np.float64)
