"""OBJ with its material file and, where there is one, its texture. z up; knows nothing of other formats."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from cupid_core.mesh.atomic_file import write_atomically
from cupid_core.mesh.texture import TexturedMesh
from cupid_core.types import TriangleMesh

_GRAY = (0.6, 0.6, 0.6)


def write_obj(path: Path, mesh: TriangleMesh | TexturedMesh) -> None:
    """Write `path`, and beside it `.mtl` and `.png` of the same stem; the `.obj` last, so that it finds both.

    Vertex colors are appended to the coordinates (sRGB, as most readers take them); readers that ignore them see
    the mean color of the material.

    Raises:
        OutputError: a file cannot be written.
    """
    plain = mesh.mesh if isinstance(mesh, TexturedMesh) else mesh
    color = " ".join(f"{value:.4f}" for value in mean_color(plain))
    material = ["newmtl surface", f"Kd {color}", "Ka 0 0 0", "Ks 0 0 0", "d 1", "illum 1"]
    columns = [plain.vertices.detach().double().cpu().numpy()]
    if isinstance(mesh, TexturedMesh):
        picture = io.BytesIO()
        Image.fromarray(mesh.texture).save(picture, format="PNG")
        write_atomically(path.with_suffix(".png"), picture.getvalue())
        material[1] = "Kd 1 1 1"
        material.append(f"map_Kd {path.with_suffix('.png').name}")
    elif plain.colors is not None:
        columns.append(plain.colors.detach().double().cpu().numpy())
    lines = [f"mtllib {path.with_suffix('.mtl').name}", "usemtl surface"]
    lines += _lines("v", np.concatenate(columns, axis=1))
    corner = "{0}"
    if isinstance(mesh, TexturedMesh):
        lines += _lines("vt", np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], axis=1).astype(np.float64))
        corner += "/{0}"
    if plain.normals is not None:
        lines += _lines("vn", plain.normals.detach().double().cpu().numpy())
        corner += "/{0}" if "/" in corner else "//{0}"
    names = [corner.format(number) for number in range(1, len(plain.vertices) + 1)]
    lines += [f"f {names[a]} {names[b]} {names[c]}" for a, b, c in plain.faces.tolist()]
    write_atomically(path.with_suffix(".mtl"), ("\n".join(material) + "\n").encode("ascii"))
    write_atomically(path, ("\n".join(lines) + "\n").encode("utf-8"))


def mean_color(mesh: TriangleMesh) -> tuple[float, ...]:
    """Mean of the vertex colors; gray where there are none."""
    if mesh.colors is None or not len(mesh.colors):
        return _GRAY
    return tuple(mesh.colors.detach().double().clamp(0, 1).mean(dim=0).tolist())


def _lines(word: str, table: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> list[str]:
    pattern = word + " %.9g" * table.shape[1]
    return [pattern % tuple(row) for row in table.tolist()]
