"""FlexiCubes against the golden numbers: tables, inference, training, and the mesh of a decoder's output."""

import numpy as np
import pytest
import torch

from cupid_core.mesh.extract import Surface, extract_mesh, extract_surface, extract_training_surface
from cupid_core.mesh.flexicubes_tables import EDGE_CORNERS, cube_tables
from cupid_core.mesh.normals import face_normals


def turned_to_lowest(faces):
    """Faces with their lowest index first, winding kept, as a sorted list."""
    first = faces.argmin(dim=1, keepdim=True)
    return sorted(map(tuple, torch.gather(faces, 1, (first + torch.arange(3)) % 3).tolist()))


def compare(agree, surface: Surface, tensors, tolerance, prefix=""):
    """Vertices as sets, then faces and attributes under that matching, which must be one to one."""
    expected = tensors[f"{prefix}vertices"]
    assert surface.vertices.shape == expected.shape
    distance = torch.cdist(
        surface.vertices.double(), expected.double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    match = distance.argmin(dim=1)
    assert len(match.unique()) == len(match), "vertices do not match one to one"
    agree("vertices", surface.vertices, expected[match], tolerance)
    assert turned_to_lowest(match[surface.faces]) == turned_to_lowest(tensors[f"{prefix}faces"].long())
    if f"{prefix}vertex_attrs" in tensors:
        assert surface.attributes is not None
        agree("attributes", surface.attributes, tensors[f"{prefix}vertex_attrs"][match], tolerance)
    else:
        assert surface.attributes is None


@pytest.mark.parametrize("name", ["sphere", "torus", "noise", "nocolor_border"])
def test_inference_equals_the_reference(name, fixtures, agree):
    tensors, meta = fixtures(f"flexicubes_{name}")
    kept = tensors["feats"].clone()
    surface = extract_surface(tensors["coords"], tensors["feats"], meta["args"]["res"])
    compare(agree, surface, tensors, meta["tolerance"]["vertices"])
    assert torch.equal(tensors["feats"], kept)
    mesh = extract_mesh(tensors["coords"], tensors["feats"], meta["args"]["res"])
    a, b, c = (mesh.vertices[mesh.faces[:, i]].double() for i in range(3))
    volume = (a * torch.linalg.cross(b, c)).sum() / 6
    agree("signed volume", volume, torch.tensor(meta["signed_volume"]), meta["tolerance"]["vertices"])


@pytest.mark.parametrize("name", ["sphere", "torus", "nocolor_border"])
def test_face_normals_equal_the_reference(name, fixtures, agree):
    tensors, _ = fixtures(f"flexicubes_{name}")
    normals = face_normals(tensors["vertices"], tensors["faces"].long())
    agree("face normals", normals, tensors["face_normal"], 1e-5)


def test_training_equals_the_reference(fixtures, agree):
    tensors, meta = fixtures("flexicubes_sphere_train")
    tolerance = meta["tolerance"]["vertices"]
    out = extract_training_surface(tensors["coords"], tensors["feats"], meta["args"]["res"])
    compare(agree, out.surface, tensors, tolerance)
    agree("regularizer", out.regularizer, tensors["reg_loss"], tolerance)
    agree("tsdf points", out.tsdf_points, tensors["tsdf_v"], tolerance)
    agree("tsdf values", out.tsdf_values, tensors["tsdf_s"], tolerance)


def test_tables_equal_the_reference(fixtures):
    _, meta = fixtures("flexicubes_tables")
    tables = cube_tables()
    assert [list(pair) for pair in EDGE_CORNERS] == meta["edges"]
    assert tables.dual_count.tolist() == meta["num_dual_vertices"]
    for case, groups in enumerate(meta["edge_groups"]):
        mine = [
            np.nonzero(tables.edge_group[case] == group)[0].tolist() for group in range(tables.dual_count[case])
        ]
        assert sorted(mine) == sorted(groups)
    assert np.nonzero(tables.is_problem)[0].tolist() == sorted(int(case) for case in meta["problem_cases"])
    for case, entry in meta["problem_cases"].items():
        assert tables.partner_step[int(case)].tolist() == entry["neighbour"]
        assert 255 - int(case) == entry["inverted_case"]


def test_mesh_of_the_decoder_output_equals_the_reference(fixtures, agree):
    tensors, meta = fixtures("slat_decoder_mesh_net")
    coords, first = tensors["raw_coords"], tensors["raw_coords"][:, 0] == 0
    resolution = 4 * meta["args"]["resolution"]
    surface = extract_surface(coords[first, 1:], tensors["raw_out"], resolution)
    compare(agree, surface, tensors, meta["tolerance"], prefix="mesh0_")
