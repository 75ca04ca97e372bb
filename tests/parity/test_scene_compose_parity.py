"""Composition of two meshes against the golden numbers."""

import torch

from cupid_core.geometry import SE3, Sim3
from cupid_core.mesh.glb import mesh_from_y_up, mesh_to_y_up
from cupid_core.scene.compose import PlacedMesh, compose_in_first_object
from cupid_core.types import TriangleMesh


def test_composition_equals_the_reference(fixtures, agree):
    tensors, meta = fixtures("scene_compose")
    objects = []
    for k in (0, 1):
        # No golden faces: composition moves vertices only.
        mesh = TriangleMesh(tensors[f"mesh{k}_yup"].float(), torch.zeros(0, 3, dtype=torch.int64))
        placement = Sim3.from_se3(SE3.from_matrix(tensors[f"E{k}"]), tensors[f"s{k}"])
        objects.append(PlacedMesh(mesh_from_y_up(mesh), placement))
    vertices = torch.cat([mesh_to_y_up(mesh).vertices for mesh in compose_in_first_object(objects)])
    agree("composed vertices", vertices, tensors["composed_yup"], meta["tolerance"])
