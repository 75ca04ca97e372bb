"""The voxels that a surface touches.

Source: voxels of TRELLIS (Xiang et al. 2024), every voxel that a triangle overlaps.
"""

from __future__ import annotations

import numpy as np

from cupid_core.data.assets.surface import AssetSurface, Integers
from cupid_core.errors import DatasetError
from cupid_core.packages import open3d

# A surface on the border of the cube belongs to the voxels inside, as in the published data.
_MARGIN = 1e-6


def surface_voxels(surface: AssetSurface, resolution: int) -> Integers:
    """Voxels (N, 3) that the surface touches, in ascending order (x-major), each once.

    Args:
        surface: in the canonical cube.
        resolution: voxels per axis.

    Raises:
        DatasetError: the surface reaches beyond the cube.
        MissingPackageError: open3d cannot be loaded.
    """
    low, high = surface.box()
    farthest = float(max(np.abs(low).max(), np.abs(high).max()))
    if farthest > 0.5 + _MARGIN:
        raise DatasetError(
            f"The surface reaches {farthest:.4f} from the middle of the cube, expected at most 0.5.",
            hint="Normalize it first.",
        )
    library = open3d()
    limit = 0.5 - _MARGIN
    mesh = library.geometry.TriangleMesh(
        library.utility.Vector3dVector(surface.vertices.astype(np.float64).clip(-limit, limit)),
        library.utility.Vector3iVector(surface.faces.astype(np.int32)),
    )
    grid = library.geometry.VoxelGrid.create_from_triangle_mesh_within_bounds(
        mesh, 1 / resolution, np.full(3, -0.5), np.full(3, 0.5)
    )
    found = np.array([voxel.grid_index for voxel in grid.get_voxels()], dtype=np.int64).reshape(-1, 3)
    return np.unique(found, axis=0)
