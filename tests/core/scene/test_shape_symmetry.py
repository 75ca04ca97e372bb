"""Rotations and mirror planes of shapes whose symmetry is known."""

import math

import numpy as np
import pytest
import torch
import trimesh

from cupid_core.geometry import so3
from cupid_core.render.raycast import MeshCaster
from cupid_core.scene.shape_symmetry import CONTINUOUS, NO_SYMMETRY, ShapeSymmetry, find_symmetry
from cupid_core.types import TriangleMesh


def symmetry_of(solid: trimesh.Trimesh, turn: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> ShapeSymmetry:
    rotation = so3.to_matrix(so3.exp(torch.tensor(turn, dtype=torch.float64)))
    vertices = torch.from_numpy(np.array(solid.vertices)) @ rotation.mT
    mesh = TriangleMesh(vertices.float(), torch.from_numpy(np.array(solid.faces)).long())
    return find_symmetry(mesh, MeshCaster(mesh))


def prism(sides: int) -> trimesh.Trimesh:
    return trimesh.creation.cylinder(radius=0.3, height=0.4, sections=sides)


@pytest.mark.parametrize(
    ("solid", "fold"),
    [
        (trimesh.creation.box((0.3, 0.5, 0.9)), 2),
        (trimesh.creation.box((0.5, 0.5, 0.9)), 4),
        (prism(3), 3),
        (prism(6), 6),
        (trimesh.creation.cylinder(radius=0.3, height=0.8), CONTINUOUS),
        (trimesh.creation.cone(radius=0.3, height=0.8), CONTINUOUS),
    ],
)
def test_finds_the_highest_fold(solid, fold):
    found = symmetry_of(solid)
    assert found.fold == fold
    if fold != 2:  # a box of three lengths has three such axes
        assert abs(found.axis[2]) == pytest.approx(1.0, abs=1e-6)


def test_finds_axes_that_are_not_canonical():
    turn = (0.6, 0.4, 0.0)
    found = symmetry_of(trimesh.creation.cylinder(radius=0.15, height=0.9), turn)
    axis = so3.to_matrix(so3.exp(torch.tensor(turn, dtype=torch.float64)))[:, 2].numpy()
    assert found.is_continuous and abs(float(found.axis @ axis)) > math.cos(math.radians(5))


def test_a_shape_of_one_mirror_plane():
    legs = [trimesh.creation.box((0.9, 0.2, 0.2)), trimesh.creation.box((0.2, 0.2, 0.7))]
    legs[1].apply_translation((0.35, 0.0, 0.3))
    found = symmetry_of(trimesh.util.concatenate(legs))
    assert found.fold == NO_SYMMETRY and np.isnan(found.axis).all()
    assert np.abs(found.mirror_normals) == pytest.approx(np.array([[0.0, 1.0, 0.0]]))


def test_a_box_has_three_mirror_planes_through_its_center():
    solid = trimesh.creation.box((0.3, 0.5, 0.9))
    solid.apply_translation((0.1, -0.2, 0.05))
    found = symmetry_of(solid)
    assert len(found.mirror_normals) == 3
    assert found.center == pytest.approx([0.1, -0.2, 0.05], abs=1e-6)
    assert found.scaled(2.0).center == pytest.approx(2 * found.center)


def test_rotations_of_the_group():
    assert symmetry_of(prism(6)).rotations().shape == (6, 3, 3)
    assert len(symmetry_of(prism(64)).rotations()) == 72
    assert ShapeSymmetry.none().rotations() == pytest.approx(np.eye(3)[None])
