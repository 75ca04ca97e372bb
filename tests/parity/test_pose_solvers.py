"""The published pose solver, repeated for comparison, against golden numbers; and ours against the same truth."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from cupid_core.geometry.camera import Camera
from cupid_core.pose import solve_pose
from cupid_core.pose.dlt import decompose_projection, dlt, reference_dlt

EXACT = ["exact_fov40", "exact_offcentre", "few_points"]
NOISY = ["noisy_1e-3", "noisy_1e-2", "tele_noisy"]
# Single precision, unnormalized: the third row of a noisy P is known to about this much.
MATRIX = {"atol": 1e-4}


def reference_of(tensors: dict[str, torch.Tensor], case: str) -> torch.Tensor:
    weights = tensors.get(f"{case}.weights")
    points, uv = tensors[f"{case}.points"], tensors[f"{case}.uv"]
    return reference_dlt(points[None], uv[None], None if weights is None else weights[None])[0]


def mean_error(K: torch.Tensor, extrinsic: torch.Tensor, points: torch.Tensor, uv: torch.Tensor) -> float:
    seen = (points.double() @ extrinsic[:, :3].double().T + extrinsic[:, 3].double()) @ K.double().T
    return float((seen[:, :2] / seen[:, 2:] - uv.double()).norm(dim=1).mean())


@pytest.mark.parametrize("case", [*EXACT, *NOISY, "weighted"])
def test_reference_dlt_gives_the_golden_matrix(case, fixtures, agree) -> None:
    tensors, _ = fixtures("pose_solvers")
    agree(f"{case} P", reference_of(tensors, case), tensors[f"{case}.P_dlt"], MATRIX)


@pytest.mark.parametrize("case", EXACT)
def test_decomposition_gives_the_golden_camera(case, fixtures, agree) -> None:
    tensors, meta = fixtures("pose_solvers")
    tolerance = meta["tolerance"]["K,E exact cases"]
    K, rotation, translation = decompose_projection(tensors[f"{case}.P_dlt"])
    agree(f"{case} K", K, tensors[f"{case}.K_dlt"], tolerance)
    agree(f"{case} E", torch.cat((rotation, translation[:, None]), dim=1), tensors[f"{case}.E_dlt"], tolerance)


def test_decomposition_of_general_matrices(fixtures, agree) -> None:
    tensors, _ = fixtures("pose_solvers")
    K, rotation, translation = decompose_projection(tensors["rq.P"])
    agree("rq K", K, tensors["rq.K"], {"atol": 1e-4, "rtol": 1e-4})
    agree(
        "rq E",
        torch.cat((rotation, translation[..., None]), dim=-1),
        tensors["rq.E"],
        {"atol": 1e-4, "rtol": 1e-4},
    )


@pytest.mark.parametrize("case", [*EXACT, *NOISY])
def test_reprojection_of_the_reference_is_the_golden_one(case, fixtures, agree) -> None:
    tensors, meta = fixtures("pose_solvers")
    expected = next(entry for entry in meta["cases"] if entry["case"] == case)["dlt_mean_reproj"]
    K, rotation, translation = decompose_projection(reference_of(tensors, case))
    extrinsic = torch.cat((rotation, translation[:, None]), dim=1)
    found = mean_error(K, extrinsic, tensors[f"{case}.points"], tensors[f"{case}.uv"])
    agree(f"{case} reprojection", torch.tensor(found), torch.tensor(expected), {"atol": 2e-6, "rtol": 1e-2})


@pytest.mark.parametrize("case", EXACT)
def test_ours_finds_the_truth_of_exact_cases(case, fixtures, agree) -> None:
    tensors, _ = fixtures("pose_solvers")
    points, uv = tensors[f"{case}.points"].double(), tensors[f"{case}.uv"].double()
    K, extrinsic = tensors[f"{case}.K_gt"].double(), tensors[f"{case}.E_gt"].double()[:3]
    found_K, rotation, _ = decompose_projection(dlt(points, uv))
    agree(f"{case} our DLT K", found_K, K, {"atol": 1e-4})
    agree(f"{case} our DLT R", rotation, extrinsic[:, :3], {"atol": 1e-4})
    estimate = solve_pose(points, uv, camera=Camera.from_normalized(K, 518, 518))
    agree(f"{case} pose", estimate.T_camera_object.matrix()[:3], extrinsic, {"atol": 1e-5})


@pytest.mark.parametrize("case", NOISY)
def test_ours_is_nearer_to_the_truth_than_the_reference(case, fixtures) -> None:
    tensors, _ = fixtures("pose_solvers")
    points, uv = tensors[f"{case}.points"], tensors[f"{case}.uv"]
    truth = tensors[f"{case}.E_gt"].double().numpy()[:3, :3]

    def angle(rotation: torch.Tensor) -> float:
        return float(np.linalg.norm(cv2.Rodrigues(rotation.double().numpy() @ truth.T)[0]))

    reference = angle(tensors[f"{case}.E_dlt"][:, :3])
    known = solve_pose(points, uv, camera=Camera.from_normalized(tensors[f"{case}.K_gt"], 518, 518))
    assert angle(known.T_camera_object.rotation()) < 0.5 * reference
    assert angle(solve_pose(points, uv).T_camera_object.rotation()) < reference


def test_opencv_alternative_is_no_better_than_ours(fixtures, agree) -> None:
    """On exact data calibrateCamera, our solver and the truth meet."""
    tensors, _ = fixtures("pose_solvers")
    estimate = solve_pose(tensors["exact_fov40.points"].double(), tensors["exact_fov40.uv"].double())
    agree("pose against calibrateCamera", estimate.T_camera_object.matrix()[:3], tensors["exact_fov40.E_cv"], 1e-3)
