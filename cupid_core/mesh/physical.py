"""Volume, center of mass, inertia and size of the solid that a closed mesh encloses, at uniform density."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from torch import Tensor

from cupid_core.errors import EmptyMeshError, OpenMeshError
from cupid_core.mesh.edges import is_closed
from cupid_core.types import TriangleMesh


@dataclass(frozen=True, eq=False)
class PhysicalProperties:
    """Properties of a solid of density 1 kg/m^3 in the object frame, float64.

    A mesh without metric scale has its own unit in place of metres.

    Attributes:
        volume_m3: enclosed volume.
        area_m2: of the surface.
        center_of_mass: (3,) metres.
        inertia: (3, 3) about the center of mass, kg m^2, for a density of 1; multiply by the density.
        lower: (3,) smallest coordinates.
        upper: (3,) largest coordinates.
    """

    volume_m3: float
    area_m2: float
    center_of_mass: Tensor
    inertia: Tensor
    lower: Tensor
    upper: Tensor

    @property
    def dimensions(self) -> Tensor:
        """(3,) extent along the axes of the object frame."""
        return self.upper - self.lower


def physical_properties(mesh: TriangleMesh) -> PhysicalProperties:
    """Properties of the solid that a watertight mesh encloses.

    Args:
        mesh: object frame, metres.

    Raises:
        EmptyMeshError: no face.
        OpenMeshError: not watertight, or no volume inside. It is not replaced by its hull.

    Source: Eberly, "Polyhedral Mass Properties (Revisited)", as in trimesh.
    """
    faces = mesh.faces.cpu().numpy()
    if not len(faces):
        raise EmptyMeshError("The mesh has no face.", hint="Try another seed, or a tighter mask.")
    if not is_closed(faces):
        raise OpenMeshError(
            "The mesh is not watertight, so it has no volume.", hint="Pass it through `finish_mesh`."
        )
    triangles = mesh.vertices.detach().double().cpu().numpy()[faces]
    lower, upper = triangles.min(axis=(0, 1)), triangles.max(axis=(0, 1))
    # Centered and at unit size: far from the origin, or for an object of millimetres, digits would be lost.
    middle, size = (lower + upper) / 2, float((upper - lower).max()) or 1.0
    found = trimesh.triangles.mass_properties((triangles - middle) / size, density=1.0)
    volume = float(found.volume) * size**3
    if not volume > 0:
        raise OpenMeshError(
            f"The mesh encloses a volume of {volume:.3g}; its faces look inward or it is flat.",
            hint="Pass it through `finish_mesh`.",
        )
    area = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    return PhysicalProperties(
        volume_m3=volume,
        area_m2=float(area.sum() / 2),
        center_of_mass=torch.from_numpy(np.asarray(found.center_mass) * size + middle),
        inertia=torch.from_numpy(np.asarray(found.inertia) * size**5),
        lower=torch.from_numpy(lower),
        upper=torch.from_numpy(upper),
    )
