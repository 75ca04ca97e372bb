"""Binary PLY: meshes, and Gaussian splats under their customary names. z up; knows nothing of other formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cupid_core.errors import InvalidTensorError
from cupid_core.mesh.atomic_file import write_atomically
from cupid_core.types import TriangleMesh

SPLAT_COLUMNS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


def write_ply(path: Path, mesh: TriangleMesh) -> None:
    """Write a mesh as it is in memory: object frame, z up.

    Coordinates and normals are float32; colors are sRGB, 8 bits a channel.

    Raises:
        OutputError: the file cannot be written.
    """
    columns = [(name, "<f4", mesh.vertices[:, i]) for i, name in enumerate("xyz")]
    if mesh.normals is not None:
        columns += [(f"n{name}", "<f4", mesh.normals[:, i]) for i, name in enumerate("xyz")]
    if mesh.colors is not None:
        eight_bit = (mesh.colors.clamp(0, 1) * 255).round()
        columns += [(name, "u1", eight_bit[:, i]) for i, name in enumerate(("red", "green", "blue"))]
    faces = np.empty(len(mesh.faces), dtype=[("count", "u1"), ("vertices", "<i4", 3)])
    faces["count"], faces["vertices"] = 3, mesh.faces.cpu().numpy()
    header = [
        *_header(columns, len(mesh.vertices)),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    write_atomically(
        path, "\n".join(header).encode("ascii") + _table(columns, len(mesh.vertices)) + faces.tobytes()
    )


def write_splats(path: Path, table: Tensor) -> None:
    """Write Gaussian splats as the usual viewers read them.

    Args:
        path: of the `.ply` file.
        table: (M, 17) in the order of `SPLAT_COLUMNS`, as `Gaussians.ply_table` gives it: opacity as logit, scales
            as logarithms, rotation w x y z, in the frame that table was asked for.

    Raises:
        InvalidTensorError: another shape, or NaN or infinity.
        OutputError: the file cannot be written.
    """
    if table.dim() != 2 or table.shape[1] != len(SPLAT_COLUMNS) or not bool(torch.isfinite(table).all()):
        raise InvalidTensorError(
            f"The table of splats is {tuple(table.shape)}, expected finite (M, {len(SPLAT_COLUMNS)}).",
            hint="Pass what `Gaussians.ply_table` returns.",
        )
    columns = [(name, "<f4", table[:, i]) for i, name in enumerate(SPLAT_COLUMNS)]
    header = "\n".join([*_header(columns, len(table)), "end_header\n"])
    write_atomically(path, header.encode("ascii") + _table(columns, len(table)))


def _header(columns: list[tuple[str, str, Tensor]], count: int) -> list[str]:
    words = {"<f4": "float", "u1": "uchar"}
    return [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {count}",
        *(f"property {words[kind]} {name}" for name, kind, _ in columns),
    ]


def _table(columns: list[tuple[str, str, Tensor]], count: int) -> bytes:
    table = np.empty(count, dtype=[(name, kind) for name, kind, _ in columns])
    for name, _, values in columns:
        table[name] = values.detach().cpu().numpy()
    return table.tobytes()
