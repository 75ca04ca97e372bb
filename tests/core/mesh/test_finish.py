"""A finished mesh is closed, outward, within its budget, in its colors; and what could not be reached is said."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from solid_shapes import box, colors_at, judged, meshed, moved, mug, sphere, together, torus

from cupid_core.config import MeshConfig
from cupid_core.errors import EmptyMeshError, InvalidTensorError
from cupid_core.mesh.extract import extract_from_sdf
from cupid_core.mesh.finish import finish_mesh
from cupid_core.mesh.normals import vertex_normals
from cupid_core.types import TriangleMesh

ALL_FACES = MeshConfig(triangle_budget=0)


def color_error(mesh):
    return (mesh.colors - colors_at(mesh.vertices)).abs()


def without_faces_near(mesh, place, radius):
    centers = mesh.vertices[mesh.faces].mean(dim=1)
    far = (centers - torch.tensor(place).to(centers)).norm(dim=1) > radius
    return TriangleMesh(mesh.vertices, mesh.faces[far], mesh.colors)


@pytest.mark.parametrize("shape", [sphere, torus, box, mug])
@pytest.mark.parametrize("budget", [0, 3000, 1000])
def test_solids_stay_solids(shape, budget):
    raw = meshed(shape, 40)
    finished = finish_mesh(raw, MeshConfig(triangle_budget=budget))
    before, after = judged(raw), judged(finished.mesh)
    assert finished.watertight and after.is_watertight and after.is_winding_consistent
    assert finished.within_budget and (budget == 0 or len(finished.mesh.faces) <= budget)
    assert after.volume == pytest.approx(before.volume, rel=0.01 if budget != 1000 else 0.03)
    assert after.euler_number == before.euler_number
    assert finished.notes == ()
    expected = vertex_normals(finished.mesh.vertices, finished.mesh.faces)
    torch.testing.assert_close(finished.mesh.normals, expected)


@pytest.mark.parametrize("shape", [sphere, torus, mug])
def test_colors_survive_decimation(shape):
    finished = finish_mesh(meshed(shape, 48), MeshConfig(triangle_budget=4000))
    assert color_error(finished.mesh).mean() < 0.01
    assert color_error(finished.mesh).max() < 0.12
    assert color_error(finished.detailed).max() < 1e-3


def test_a_good_mesh_within_its_budget_passes_unchanged():
    raw = meshed(torus, 16)
    finished = finish_mesh(raw)
    assert torch.equal(finished.mesh.faces, raw.faces)
    assert torch.equal(finished.mesh.vertices, raw.vertices)
    assert torch.equal(finished.mesh.colors, raw.colors)


def test_the_same_input_gives_the_same_mesh():
    raw = meshed(mug, 40)
    first, second = (finish_mesh(raw, MeshConfig(triangle_budget=2000)).mesh for _ in range(2))
    assert torch.equal(first.vertices, second.vertices)
    assert torch.equal(first.faces, second.faces)
    assert torch.equal(first.colors, second.colors)


def test_specks_vanish_and_large_pieces_stay():
    speck, piece = meshed(sphere, 12), meshed(sphere, 16)
    raw = together(
        meshed(torus, 32),
        moved(speck, 0.04, (0.45, 0.45, 0.4)),
        moved(speck, 0.03),
        moved(piece, 0.4, (0, 0, 0.5)),
    )
    finished = finish_mesh(raw, ALL_FACES)
    alone = together(meshed(torus, 32), moved(piece, 0.4, (0, 0, 0.5)))
    assert judged(finished.mesh).volume == pytest.approx(judged(alone).volume, rel=1e-9)
    assert finished.watertight and len(judged(finished.mesh).split()) == 2
    assert finished.notes == ("2 separate pieces under 0.02 of the largest dropped.",)


def test_pieces_enclosed_in_another_are_dropped():
    """The wall of a cavity, and a solid within a solid; a piece in the hole of a torus is neither."""
    cavity = moved(meshed(sphere, 16), 0.5)
    cavity = TriangleMesh(cavity.vertices, cavity.faces.flip(1), cavity.colors)
    solid = meshed(sphere, 32)
    for inner in (cavity, moved(meshed(sphere, 16), 0.5)):
        finished = finish_mesh(together(inner, solid), ALL_FACES)
        assert judged(finished.mesh).volume == pytest.approx(judged(solid).volume, rel=1e-9)
        assert finished.notes == ("1 piece enclosed in another dropped.",)
    apart = together(meshed(torus, 32), moved(meshed(sphere, 16), 0.3))
    assert len(finish_mesh(apart, ALL_FACES).mesh.faces) == len(apart.faces)


def test_inside_out_is_turned():
    solid, other = meshed(mug, 32), moved(meshed(sphere, 16), 0.5, (0.0, 0.0, 0.9))
    for raw in (
        TriangleMesh(solid.vertices, solid.faces.flip(1), solid.colors),
        together(solid, TriangleMesh(other.vertices, other.faces.flip(1), other.colors)),
    ):
        finished = finish_mesh(raw, ALL_FACES)
        assert finished.watertight
        assert all(piece.volume > 0 for piece in judged(finished.mesh).split())


def test_single_faces_turned_over_are_turned_back():
    solid = meshed(box, 16)
    faces = solid.faces.clone()
    wrong = torch.randperm(len(faces), generator=torch.Generator().manual_seed(0))[: len(faces) // 5]
    faces[wrong] = faces[wrong].flip(1)
    finished = finish_mesh(TriangleMesh(solid.vertices, faces, solid.colors), ALL_FACES)
    assert finished.watertight
    assert judged(finished.mesh).volume == pytest.approx(judged(solid).volume, rel=1e-9)


def test_small_holes_are_closed_and_large_ones_are_noted():
    solid = meshed(sphere, 32)
    small = finish_mesh(without_faces_near(solid, (0.0, 0.0, 0.4), 0.05))
    assert small.watertight and judged(small.mesh).is_watertight
    assert judged(small.mesh).volume == pytest.approx(judged(solid).volume, rel=0.01)
    assert small.notes == ("1 hole closed.",)
    assert color_error(small.mesh).max() < 0.05
    large = finish_mesh(without_faces_near(solid, (0.0, 0.0, 0.4), 0.3))
    assert not large.watertight and not judged(large.mesh).is_watertight
    assert any("left open" in note for note in large.notes) and any(
        "not watertight" in note for note in large.notes
    )


def test_a_soup_of_triangles_is_welded():
    solid = meshed(torus, 24)
    flat = solid.faces.flatten()
    soup = TriangleMesh(solid.vertices[flat], torch.arange(len(flat)).view(-1, 3), solid.colors[flat])
    rubbish = torch.tensor([[0, 0, 1], [3, 4, 5], [3, 4, 5]])
    finished = finish_mesh(TriangleMesh(soup.vertices, torch.cat([soup.faces, rubbish]), soup.colors), ALL_FACES)
    assert finished.watertight and len(finished.mesh.vertices) == len(solid.vertices)
    assert len(finished.mesh.faces) == len(solid.faces)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), noise=st.floats(0.0, 0.15), budget=st.integers(200, 3000))
def test_noisy_fields_end_watertight(seed, noise, budget):
    at = torch.stack(torch.meshgrid(*(torch.linspace(-0.5, 0.5, 21),) * 3, indexing="ij"), dim=-1).double()
    field = mug(at) + noise * torch.randn(21, 21, 21, generator=torch.Generator().manual_seed(seed)).double()
    finished = finish_mesh(extract_from_sdf(field, colors_at(at)), MeshConfig(triangle_budget=budget))
    after = judged(finished.mesh)
    assert finished.watertight == (after.is_watertight and after.is_winding_consistent)
    assert finished.within_budget == (len(finished.mesh.faces) <= budget)
    assert finished.watertight and after.volume > 0


def test_a_budget_out_of_reach_is_noted():
    """Many pieces, of which none can have fewer than four faces."""
    ball = meshed(sphere, 6)
    many = together(*(moved(ball, 0.1, (0.1 * i, 0.0, 0.0)) for i in range(8)))
    finished = finish_mesh(many, MeshConfig(triangle_budget=8))
    assert finished.watertight
    assert finished.within_budget == (len(finished.mesh.faces) <= 8)
    if not finished.within_budget:
        assert any("kept" in note for note in finished.notes)


def test_smoothing_removes_noise_and_keeps_the_volume():
    solid = meshed(sphere, 32)
    noise = 0.002 * torch.randn(solid.vertices.shape, generator=torch.Generator().manual_seed(0)).double()
    rough = TriangleMesh(solid.vertices + noise, solid.faces, solid.colors)
    smooth = finish_mesh(rough, MeshConfig(triangle_budget=0, smoothing_rounds=8))

    def roughness(mesh):
        return float((mesh.vertices.norm(dim=1) - 0.4).std())

    assert smooth.watertight and roughness(smooth.mesh) < 0.5 * roughness(rough)
    assert judged(smooth.mesh).volume == pytest.approx(judged(solid).volume, rel=0.005)


def test_type_and_absence_of_colors_are_kept():
    solid = meshed(torus, 16)
    plain = finish_mesh(TriangleMesh(solid.vertices.float(), solid.faces), MeshConfig(triangle_budget=300)).mesh
    assert plain.colors is None and plain.vertices.dtype == torch.float32 and plain.normals.dtype == torch.float32


@pytest.mark.parametrize("faces", [torch.zeros(0, 3, dtype=torch.int64), torch.tensor([[0, 1, 1], [2, 2, 2]])])
def test_a_mesh_without_area_is_an_error(faces):
    with pytest.raises(EmptyMeshError):
        finish_mesh(TriangleMesh(torch.rand(3, 3), faces))
    with pytest.raises(EmptyMeshError):
        finish_mesh(TriangleMesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]])))


def test_nan_and_bad_indices_are_refused():
    solid = meshed(sphere, 8)
    with pytest.raises(InvalidTensorError, match="NaN"):
        finish_mesh(TriangleMesh(solid.vertices * float("nan"), solid.faces))
    with pytest.raises(InvalidTensorError, match="names vertex"):
        finish_mesh(TriangleMesh(solid.vertices, solid.faces + 1))
