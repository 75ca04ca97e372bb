"""Volume, mass, inertia and convex parts of solids that are known in closed form."""

import importlib.util
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from solid_shapes import judged, meshed, mug, sphere, torus

from cupid_core.config import MeshConfig
from cupid_core.errors import EmptyMeshError, MissingPackageError, OpenMeshError
from cupid_core.geometry.sim3 import Sim3
from cupid_core.mesh.convex import convex_parts
from cupid_core.mesh.finish import finish_mesh
from cupid_core.mesh.physical import physical_properties
from cupid_core.packages import optional_package
from cupid_core.types import TriangleMesh

needs_coacd = pytest.mark.skipif(importlib.util.find_spec("coacd") is None, reason="needs coacd (extra 'convex')")


def cuboid(size, offset):
    corner = torch.tensor([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)], dtype=torch.float64) - 0.5
    quads = [(0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5)]
    faces = [[q[0], q[i], q[i + 1]] for q in quads for i in (1, 2)]
    return TriangleMesh(corner * torch.tensor(size).double() + torch.tensor(offset).double(), torch.tensor(faces))


lengths = st.tuples(*[st.floats(0.005, 2.0)] * 3)
places = st.tuples(*[st.floats(-5.0, 5.0)] * 3)


@given(size=lengths, offset=places)
def test_a_box_has_the_textbook_properties(size, offset):
    found = physical_properties(cuboid(size, offset))
    x, y, z = size
    volume = x * y * z
    inertia = (
        torch.diag(torch.tensor([y * y + z * z, x * x + z * z, x * x + y * y], dtype=torch.float64)) * volume / 12
    )
    assert found.volume_m3 == pytest.approx(volume, rel=1e-6)
    assert found.area_m2 == pytest.approx(2 * (x * y + y * z + z * x), rel=1e-6)
    torch.testing.assert_close(found.center_of_mass, torch.tensor(offset).double(), atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(found.inertia, inertia, atol=1e-6 * float(inertia.max()), rtol=1e-6)
    torch.testing.assert_close(found.dimensions, torch.tensor(size).double(), atol=1e-9, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(twist=st.tuples(*[st.floats(-3, 3)] * 6), scale=st.floats(0.1, 10))
def test_properties_follow_a_similarity(twist, scale):
    mesh = cuboid((0.3, 0.1, 0.2), (0.05, 0.0, -0.1))
    S = Sim3.exp(torch.tensor([*twist, math.log(scale)], dtype=torch.float64))
    before, after, R = physical_properties(mesh), physical_properties(mesh.transformed(S)), S.rotation()
    assert after.volume_m3 == pytest.approx(before.volume_m3 * scale**3, rel=1e-6)
    torch.testing.assert_close(after.center_of_mass, S.apply(before.center_of_mass), atol=1e-6, rtol=1e-6)
    expected = R @ before.inertia @ R.mT * scale**5
    torch.testing.assert_close(after.inertia, expected, atol=1e-6 * float(expected.max()), rtol=1e-5)


def test_a_sphere_and_a_torus_are_near_their_formulas():
    ball = physical_properties(meshed(sphere, 48))
    assert ball.volume_m3 == pytest.approx(4 / 3 * math.pi * 0.4**3, rel=0.01)
    assert float(ball.inertia[0, 0]) == pytest.approx(0.4 * ball.volume_m3 * 0.4**2, rel=0.01)
    ring = physical_properties(meshed(torus, 48))
    assert ring.volume_m3 == pytest.approx(
        2 * math.pi**2 * 0.3 * 0.12**2, rel=0.02
    )  # what the extraction leaves at this resolution
    about_axis = ring.volume_m3 * (0.3**2 + 0.75 * 0.12**2)
    assert float(ring.inertia[2, 2]) == pytest.approx(about_axis, rel=0.02)


def test_an_open_mesh_is_an_error_and_not_replaced_by_its_hull():
    mesh = cuboid((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    with pytest.raises(OpenMeshError, match="not watertight"):
        physical_properties(TriangleMesh(mesh.vertices, mesh.faces[1:]))
    with pytest.raises(OpenMeshError, match="inward"):
        physical_properties(TriangleMesh(mesh.vertices, mesh.faces.flip(1)))
    with pytest.raises(EmptyMeshError):
        physical_properties(TriangleMesh(mesh.vertices, mesh.faces[:0]))


@needs_coacd
def test_convex_parts_cover_the_solid():
    mesh = finish_mesh(meshed(mug, 32), MeshConfig(triangle_budget=800)).mesh
    parts = convex_parts(mesh, MeshConfig(convex_threshold=0.2, convex_parts=12))
    assert 2 <= len(parts) <= 12
    volumes = [physical_properties(part).volume_m3 for part in parts]
    assert volumes == sorted(volumes, reverse=True)
    for part in parts:
        solid = judged(part)
        assert solid.is_watertight
        beyond = (
            (solid.triangles_center[:, None] - part.vertices.numpy()[None]) * solid.face_normals[:, None]
        ).sum(2)
        assert beyond.min() > -1e-3
    own = physical_properties(mesh)
    lower = torch.stack([part.vertices.amin(0) for part in parts]).amin(0)
    upper = torch.stack([part.vertices.amax(0) for part in parts]).amax(0)
    torch.testing.assert_close(upper - lower, own.dimensions, atol=0.03, rtol=0)
    assert 0.8 * own.volume_m3 < sum(volumes) < 4 * own.volume_m3
    with pytest.raises(EmptyMeshError):
        convex_parts(TriangleMesh(mesh.vertices, mesh.faces[:0]))


def test_a_missing_package_names_its_extra():
    with pytest.raises(MissingPackageError, match=r"cupid_ros\[convex\]"):
        optional_package("no_such_package_anywhere", "convex")
