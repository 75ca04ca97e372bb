"""Writes meshes to files that other programs read: .glb, .ply, .obj, .stl and .urdf.

PLY, OBJ and STL are written by trimesh, GLB by `glb`. All but GLB keep the frame of the mesh, z up; all keep its
unit, which URDF takes for metres. PLY and OBJ keep vertex colors (sRGB, 8 bits), STL has none. Files are written
atomically.

Source of URDF: the XML specification of ROS (links: inertial, visual, collision).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from trimesh.exchange.obj import export_obj
from trimesh.exchange.ply import export_ply
from trimesh.exchange.stl import export_stl
from trimesh.visual.material import SimpleMaterial
from trimesh.visual.texture import TextureVisuals

from cupid_core.config import MeshConfig
from cupid_core.errors import InputError, InvalidTensorError
from cupid_core.files import write_bytes, write_text
from cupid_core.mesh.convert import to_trimesh
from cupid_core.mesh.convex import convex_parts
from cupid_core.mesh.glb import write_glb
from cupid_core.mesh.physical import PhysicalProperties, physical_properties
from cupid_core.mesh.texture import cut_at_seams
from cupid_core.types import TriangleMesh

SPLAT_COLUMNS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
_SUFFIXES = (".glb", ".ply", ".obj", ".stl", ".urdf")
_GRAY = (0.6, 0.6, 0.6)


def export_mesh(mesh: TriangleMesh, path: Path | str, config: MeshConfig | None = None) -> Path:
    """Write a mesh in the format that the suffix names.

    Args:
        mesh: object frame, z up. For `.urdf` watertight and in metres.
        path: `.glb`, `.ply`, `.obj`, `.stl` or `.urdf`; its folder is made where it is missing.
        config: of `.urdf`: `density_kg_m3` gives mass and inertia, the settings `convex_*` the collision parts;
            defaults where None.

    Returns:
        The path. Beside an `.obj` with a texture are its `.mtl` and `.png`, beside a `.urdf` its meshes.

    Raises:
        InputError: another suffix, or a name that URDF does not allow.
        OutputError: a file cannot be written.
        OpenMeshError: of `.urdf`: the mesh is not watertight.
        ConvexPartsError: of `.urdf`: no convex parts were found.
        MissingPackageError: of `.urdf`: the extra `convex` is not installed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".glb":
        write_glb(path, mesh, path.stem)
    elif suffix == ".ply":
        write_ply(path, mesh)
    elif suffix == ".obj":
        write_obj(path, mesh)
    elif suffix == ".stl":
        write_stl(path, mesh)
    elif suffix == ".urdf":
        config = config or MeshConfig()
        _check_link_name(path.stem)
        parts = convex_parts(mesh, config)
        write_urdf(path, mesh, density_kg_m3=config.density_kg_m3, parts=parts)
    else:
        raise InputError(f"{path.name} has no format to write.", hint=f"Give one of {', '.join(_SUFFIXES)}.")
    return path


def write_ply(path: Path, mesh: TriangleMesh) -> None:
    """Write binary PLY: float32 coordinates and normals, 8-bit sRGB colors.

    Raises:
        OutputError: the file cannot be written.
    """
    write_bytes(path, export_ply(to_trimesh(mesh), vertex_normal=mesh.normals is not None))


def write_stl(path: Path, mesh: TriangleMesh) -> None:
    """Write binary STL: float32 triangles; the format has neither colors nor shared vertices.

    Raises:
        OutputError: the file cannot be written.
    """
    write_bytes(path, export_stl(to_trimesh(mesh)))


def write_obj(path: Path, mesh: TriangleMesh) -> None:
    """Write OBJ; of a textured mesh also `.mtl` and `.png` of the same stem, before the `.obj` that names them.

    Without a texture, vertex colors stand behind the coordinates (sRGB), as most readers take them.

    Raises:
        OutputError: a file cannot be written.
    """
    if mesh.texture is None:
        converted = to_trimesh(mesh)
    else:
        cut, uv = cut_at_seams(mesh)
        converted = to_trimesh(cut)
        picture = Image.fromarray(mesh.texture.image.cpu().numpy())
        material = SimpleMaterial(  # type: ignore[no-untyped-call]
            image=picture, name=path.stem, diffuse=[255, 255, 255, 255]
        )
        # OBJ counts v from the bottom of the image.
        uv = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1)
        converted.visual = TextureVisuals(uv, material)  # type: ignore[no-untyped-call]
    text, beside = export_obj(  # type: ignore[no-untyped-call]
        converted,
        include_normals=mesh.normals is not None,
        return_texture=True,
        write_texture=False,
        mtl_name=f"{path.stem}.mtl",
        header=None,
    )
    for name, content in beside.items():
        write_bytes(path.with_name(name), content)
    write_text(path, text)


def write_urdf(
    path: Path,
    mesh: TriangleMesh,
    *,
    density_kg_m3: float,
    parts: Sequence[TriangleMesh] = (),
    mesh_prefix: str = "",
) -> Path:
    """Write a URDF model with one link, and beside it `<stem>_visual.obj` and `<stem>_collision_<i>.stl`.

    Args:
        path: of the `.urdf` file. Its stem names the robot and, with "_link" behind it, the link; letters, digits,
            "_" and "-".
        mesh: object frame, z up, metres, as finished; volume and inertia come from it.
        density_kg_m3: mass is density times volume.
        parts: convex collision meshes (`convex_parts`); none takes the mesh itself, which most engines replace by
            its convex hull.
        mesh_prefix: in front of the file names in the model, e.g. "package://my_objects/meshes/"; none makes them
            relative to the model.

    Returns:
        The path.

    Raises:
        InputError: the name does not fit, or the density is not positive.
        OpenMeshError: not watertight, so there is no mass.
        OutputError: a file cannot be written.
    """
    name = path.stem
    _check_link_name(name)
    if not 0 < density_kg_m3 < float("inf"):
        raise InputError(f"The density is {density_kg_m3} kg/m^3.", hint="Give a positive number.")
    properties = physical_properties(mesh)
    visual = f"{name}_visual.obj"
    write_obj(path.with_name(visual), mesh)
    collisions = [f"{name}_collision_{number}.stl" for number in range(max(1, len(parts)))]
    for file, part in zip(collisions, parts or (mesh,), strict=True):
        write_stl(path.with_name(file), part)
    robot = ET.Element("robot", name=name)
    link = ET.SubElement(robot, "link", name=f"{name}_link")
    _add_inertial(link, properties, density_kg_m3)
    shape = _add_shape(link, "visual", mesh_prefix + visual)
    material = ET.SubElement(shape, "material", name=f"{name}_color")
    ET.SubElement(material, "color", rgba=_numbers([*_mean_color(mesh), 1.0]))
    for file in collisions:
        _add_shape(link, "collision", mesh_prefix + file)
    ET.indent(robot)
    write_bytes(path, ET.tostring(robot, encoding="utf-8", xml_declaration=True))
    return path


def write_splats(path: Path, table: Tensor) -> None:
    """Write Gaussian splats as PLY under the names that the usual viewers read.

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
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(table)}\n"
    header += "".join(f"property float {name}\n" for name in SPLAT_COLUMNS) + "end_header\n"
    write_bytes(path, header.encode("ascii") + table.detach().cpu().numpy().astype("<f4").tobytes())


def _check_link_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(f"'{name}' cannot name a URDF link.", hint="Use letters, digits, '_' and '-'.")


def _mean_color(mesh: TriangleMesh) -> tuple[float, ...]:
    """Mean of the vertex colors; gray where there are none."""
    if mesh.colors is None or not len(mesh.colors):
        return _GRAY
    return tuple(mesh.colors.detach().double().clamp(0, 1).mean(dim=0).tolist())


def _add_inertial(link: ET.Element, properties: PhysicalProperties, density_kg_m3: float) -> None:
    inertial = ET.SubElement(link, "inertial")
    ET.SubElement(inertial, "origin", xyz=_numbers(properties.center_of_mass.tolist()), rpy="0 0 0")
    ET.SubElement(inertial, "mass", value=_numbers([properties.volume_m3 * density_kg_m3]))
    row, column = torch.triu_indices(3, 3).tolist()
    tensor = properties.inertia * density_kg_m3
    entries = {f"i{'xyz'[i]}{'xyz'[j]}": _numbers([float(tensor[i, j])]) for i, j in zip(row, column, strict=True)}
    ET.SubElement(inertial, "inertia", entries)


def _add_shape(link: ET.Element, kind: str, file: str) -> ET.Element:
    shape = ET.SubElement(link, kind)
    ET.SubElement(shape, "origin", xyz="0 0 0", rpy="0 0 0")
    ET.SubElement(ET.SubElement(shape, "geometry"), "mesh", filename=file)
    return shape


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.9g}" for value in values)
