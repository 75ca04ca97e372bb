"""The cut: surfaces that touch themselves come apart into manifolds, and nothing else changes."""

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from solid_shapes import meshed, torus

from cupid_core.mesh.edges import connected_labels, cut_to_manifold, is_closed, pair_half_edges
from cupid_core.mesh.extract import extract_from_sdf

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


def arrays(mesh):
    return mesh.vertices.double().numpy(), mesh.faces.numpy()


def volume(vertices, faces):
    return np.linalg.det(vertices[faces]).sum() / 6


def welded(vertices, faces):
    places, inverse = np.unique(vertices, axis=0, return_inverse=True)
    faces = inverse.reshape(-1)[faces]
    return places, faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]


def test_a_manifold_passes_unchanged():
    vertices, faces = arrays(meshed(torus, 16))
    result = cut_to_manifold(vertices, faces)
    assert result.closed and np.array_equal(result.faces, faces)
    assert np.array_equal(result.source[:, 0], np.arange(len(vertices)))


def test_partners_are_mutual_and_run_against_each_other():
    vertices, faces = arrays(meshed(torus, 12))
    partner = pair_half_edges(vertices, faces)
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    assert np.array_equal(partner[partner], np.arange(len(partner)))
    assert np.array_equal(start[partner], end) and np.array_equal(end[partner], start)


@pytest.mark.parametrize("shared", [1, 2])
def test_two_solids_that_touch_come_apart(shared):
    """At a point, or along an edge."""
    first = np.array([[0.0, 0, 0], [1, 0, 0], [0.5, 1, 0], [0.5, 0.5, 1]])
    second = first * [1, -1, 1] if shared == 2 else -first
    vertices, faces = welded(np.concatenate([first, second]), np.concatenate([TETRAHEDRON, TETRAHEDRON + 4]))
    # A mirror image looks inward.
    mirrored = (vertices[faces][:, :, 1] < 0).any(axis=1)
    faces = np.where(mirrored[:, None], faces[:, ::-1], faces)
    assert len(vertices) == 8 - shared and is_closed(faces) == (shared == 1)
    result = cut_to_manifold(vertices, faces)
    placed = vertices[result.source].mean(axis=1)
    assert result.closed and len(placed) == 8
    pieces = trimesh.Trimesh(placed, result.faces, process=False).split(only_watertight=True)
    assert len(pieces) == 2 and all(piece.volume > 0 for piece in pieces)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), cells=st.integers(2, 6), crush=st.integers(3, 30))
def test_any_crushed_closed_surface_becomes_a_manifold_of_the_same_volume(seed, cells, crush):
    """Vertices moved onto a coarse lattice and welded meet at edges and points in every way."""
    values = torch.rand((cells + 1,) * 3, generator=torch.Generator().manual_seed(seed)) - 0.5
    values[0, 0, 0] = -0.1
    vertices, faces = arrays(extract_from_sdf(values))
    vertices, faces = welded(np.round(vertices * crush) / crush, faces)
    if not len(faces):
        return
    result = cut_to_manifold(vertices, faces)
    placed = vertices[result.source].mean(axis=1)
    assert result.closed and is_closed(result.faces)
    assert np.bincount(result.faces.ravel(), minlength=len(placed)).min() > 0
    assert volume(placed, result.faces) == pytest.approx(volume(vertices, faces), abs=1e-12)
    assert trimesh.Trimesh(placed, result.faces, process=False).is_watertight


def test_a_hole_and_a_wrong_turn_are_not_closed():
    _, faces = arrays(meshed(torus, 10))
    assert is_closed(faces)
    assert not is_closed(faces[1:])
    turned = faces.copy()
    turned[0] = turned[0, ::-1]
    assert not is_closed(turned)
    assert not is_closed(faces[:0])


@given(seed=st.integers(0, 2**31), nodes=st.integers(1, 60), links=st.integers(0, 80))
def test_components_are_those_of_a_plain_search(seed, nodes, links):
    draw = np.random.default_rng(seed)
    first, second = draw.integers(0, nodes, links), draw.integers(0, nodes, links)
    plain = np.arange(nodes)
    for _ in range(nodes):
        for a, b in zip(first, second, strict=True):
            plain[a] = plain[b] = min(plain[a], plain[b])
    labels = connected_labels(nodes, first, second)
    assert np.array_equal(labels[:, None] == labels, plain[:, None] == plain)
    assert labels.max() + 1 == len(np.unique(plain))
