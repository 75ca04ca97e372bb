"""Voxel centers as the vertices of a PLY file, read and written by trimesh."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import trimesh
from trimesh.exchange.ply import export_ply, load_ply

from cupid_core.errors import DatasetError


def ply_points(points: npt.NDArray[np.float32]) -> bytes:
    """Content of a binary PLY file with vertices (N, 3) and nothing else; `read_ply_points` reads it back."""
    return bytes(export_ply(trimesh.PointCloud(points)))  # type: ignore[no-untyped-call]


def read_ply_points(path: Path) -> npt.NDArray[np.float64]:
    """Positions (N, 3) of the vertices of a PLY file, ascii or binary; further properties are ignored.

    Raises:
        DatasetError: no such file, not PLY, no vertices with x, y and z, or it ends too early.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}.", hint="Check the data set's folder.") from error
    try:
        # Without materials: a texture that the header names is a file somewhere else, and is not needed.
        points = np.asarray(load_ply(io.BytesIO(content), skip_materials=True)["vertices"], dtype=np.float64)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise _damaged(path, f"cannot be read as PLY ({error})") from error
    # An ascii file that ends early is read without complaint.
    promised = re.search(rb"element vertex (\d+)", content)
    if promised is None or points.shape != (int(promised[1]), 3):
        raise _damaged(path, f"holds {len(points)} vertices, not as many as its header promises")
    return points


def _damaged(path: Path, problem: str) -> DatasetError:
    return DatasetError(f"{path} {problem}.", hint="Write the file again, or leave the object out.")
