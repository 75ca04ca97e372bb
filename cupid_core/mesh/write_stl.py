"""Binary STL: triangles without colors or shared vertices. z up; knows nothing of other formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cupid_core.mesh.atomic_file import write_atomically
from cupid_core.mesh.normals import face_normals
from cupid_core.types import TriangleMesh

# Must not begin with "solid", by which readers know the text variant.
_HEADER = b"binary stl".ljust(80, b" ")


def write_stl(path: Path, mesh: TriangleMesh) -> None:
    """Write a mesh as it is in memory: object frame, z up, float32. Colors are lost, the format has none.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = np.zeros(len(mesh.faces), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("extra", "<u2")])
    rows["normal"] = face_normals(mesh.vertices.detach().double(), mesh.faces).cpu().numpy()
    rows["corners"] = mesh.vertices.detach()[mesh.faces].cpu().numpy()
    write_atomically(path, _HEADER + np.array([len(rows)], "<u4").tobytes() + rows.tobytes())
