"""Several meshes in one frame; knows meshes and placements, not how the placements were found.

Y-up belongs to `.glb` files alone: `mesh.glb` turns into it and back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cupid_core.errors import InputError
from cupid_core.geometry.se3 import SE3
from cupid_core.geometry.sim3 import Sim3
from cupid_core.types import TriangleMesh


@dataclass(frozen=True, eq=False)
class PlacedMesh:
    """One object and where it stands.

    Attributes:
        mesh: in the object's canonical frame.
        S_camera_object: canonical frame to camera frame, scale included.
    """

    mesh: TriangleMesh
    S_camera_object: Sim3


def compose_in_camera(objects: Sequence[PlacedMesh]) -> tuple[TriangleMesh, ...]:
    """All objects in the camera frame (OpenCV optical), in the unit of the placements.

    Raises:
        InputError: there is no object.
    """
    _check(objects)
    return tuple(item.mesh.transformed(item.S_camera_object) for item in objects)


def compose_in_first_object(objects: Sequence[PlacedMesh]) -> tuple[TriangleMesh, ...]:
    """All objects in the frame of the first one: its axes and origin, scaled to the unit of the placements.

    The first object is scaled but not moved, so the scene stands upright with it (z up).

    Raises:
        InputError: there is no object.

    Source: CUPID (arXiv 2510.20776), composition of several objects.
    """
    _check(objects)
    T_first_camera: SE3 = objects[0].S_camera_object.rigid().inverse()
    S_first_camera = Sim3.from_se3(T_first_camera)
    return tuple(item.mesh.transformed(S_first_camera @ item.S_camera_object) for item in objects)


def _check(objects: Sequence[PlacedMesh]) -> None:
    if not objects:
        raise InputError("There is no object to compose a scene of.", hint="Give at least one placed mesh.")
