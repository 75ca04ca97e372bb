"""A URDF model of one object for simulators. Knows meshes and densities, not joints, worlds or ROS.

Source: the URDF XML specification (links: inertial, visual, collision).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import torch

from cupid_core.errors import InputError
from cupid_core.mesh.atomic_file import writable_folder, write_atomically
from cupid_core.mesh.physical import PhysicalProperties, physical_properties
from cupid_core.mesh.texture import TexturedMesh
from cupid_core.mesh.write_obj import mean_color, write_obj
from cupid_core.mesh.write_stl import write_stl
from cupid_core.types import TriangleMesh


def write_urdf(
    folder: Path,
    name: str,
    mesh: TriangleMesh | TexturedMesh,
    *,
    density_kg_m3: float,
    parts: Sequence[TriangleMesh] = (),
    solid: TriangleMesh | None = None,
    mesh_prefix: str = "",
) -> Path:
    """Write `<name>.urdf` with one link, `<name>_visual.obj` and `<name>_collision_<i>.stl`; the model last.

    Args:
        folder: where all files go; made where it is missing.
        name: of the robot and, with "_link" behind it, of its link; letters, digits, "_" and "-".
        mesh: object frame, z up, metres, as finished; with a texture it is closed only before its seams were cut.
        density_kg_m3: mass is density times volume.
        parts: convex collision meshes (`convex_parts`); none takes the mesh itself, which most engines replace by
            its convex hull.
        solid: the watertight mesh that volume and inertia come from; needed with a texture.
        mesh_prefix: in front of the file names in the model, e.g. "package://my_objects/meshes/"; none makes them
            relative to the model.

    Returns:
        Path of the `.urdf` file.

    Raises:
        InputError: the name does not fit, the density is not positive, or a textured mesh comes without `solid`.
        OpenMeshError: not watertight, so there is no mass.
        OutputError: a file cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(f"'{name}' is no name for a link.", hint="Use letters, digits, '_' and '-'.")
    if not 0 < density_kg_m3 < float("inf"):
        raise InputError(f"The density is {density_kg_m3} kg/m^3.", hint="Give a positive number.")
    if solid is None:
        if isinstance(mesh, TexturedMesh):
            raise InputError("A textured mesh is cut along its seams.", hint="Pass the finished mesh as `solid`.")
        solid = mesh
    properties = physical_properties(solid)
    writable_folder(folder)
    visual = f"{name}_visual.obj"
    write_obj(folder / visual, mesh)
    collisions = [f"{name}_collision_{number}.stl" for number in range(max(1, len(parts)))]
    for file, part in zip(collisions, parts or (solid,), strict=True):
        write_stl(folder / file, part)
    robot = ET.Element("robot", name=name)
    link = ET.SubElement(robot, "link", name=f"{name}_link")
    _inertial(link, properties, density_kg_m3)
    shape = _shape(link, "visual", mesh_prefix + visual)
    material = ET.SubElement(shape, "material", name=f"{name}_color")
    ET.SubElement(material, "color", rgba=_numbers([*mean_color(solid), 1.0]))
    for file in collisions:
        _shape(link, "collision", mesh_prefix + file)
    ET.indent(robot)
    path = folder / f"{name}.urdf"
    write_atomically(path, ET.tostring(robot, encoding="utf-8", xml_declaration=True))
    return path


def _inertial(link: ET.Element, properties: PhysicalProperties, density_kg_m3: float) -> None:
    inertial = ET.SubElement(link, "inertial")
    ET.SubElement(inertial, "origin", xyz=_numbers(properties.center_of_mass.tolist()), rpy="0 0 0")
    ET.SubElement(inertial, "mass", value=_numbers([properties.volume_m3 * density_kg_m3]))
    row, column = torch.triu_indices(3, 3).tolist()
    tensor = properties.inertia * density_kg_m3
    entries = {f"i{'xyz'[i]}{'xyz'[j]}": _numbers([float(tensor[i, j])]) for i, j in zip(row, column, strict=True)}
    ET.SubElement(inertial, "inertia", entries)


def _shape(link: ET.Element, kind: str, file: str) -> ET.Element:
    shape = ET.SubElement(link, kind)
    ET.SubElement(shape, "origin", xyz="0 0 0", rpy="0 0 0")
    ET.SubElement(ET.SubElement(shape, "geometry"), "mesh", filename=file)
    return shape


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.9g}" for value in values)
