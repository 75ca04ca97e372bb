"""The methods that the pose benchmark compares, with a common signature."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pose_problems import Problem, scaled_focal

from cupid_core.config import PoseConfig
from cupid_core.errors import CupidError
from cupid_core.pose import PoseEstimate, solve_pose
from cupid_core.pose.dlt import decompose_projection, dlt, reference_dlt

Array = NDArray[np.float64]
# Rotation from which a run counts as failed.
FAILURE_DEG = 5.0
WRONG_FOCAL = 1.05
LOOSE = PoseConfig(intrinsics="prior", focal_std=0.1)


@dataclass(frozen=True)
class Answer:
    """Result of a method: rotation (3, 3), translation (3,), focal length in image widths, misfit in pixels."""

    rotation: Array
    translation: Array
    focal: float
    rms_px: float = float("nan")


@dataclass(frozen=True)
class Run:
    """Errors of one run; infinite where the method gave no result.

    Attributes:
        rotation_deg: angle to the true rotation.
        translation: distance to the true translation over the true distance.
        focal: relative error of the focal length.
        rms_px: reported misfit.
        seconds: processor time.
    """

    rotation_deg: float
    translation: float
    focal: float
    rms_px: float
    seconds: float


Method = Callable[[Problem], Answer]


def paper_dlt(problem: Problem) -> Answer:
    """SVD of the 2N x 12 matrix, RQ."""
    K, rotation, translation = decompose_projection(reference_dlt(problem.points[None], problem.uv[None])[0])
    return Answer(rotation.double().numpy(), translation.double().numpy(), float(K[0, 0]))


def our_dlt(problem: Problem) -> Answer:
    """Normalized and unbiased DLT, RQ."""
    K, rotation, translation = decompose_projection(dlt(problem.points, problem.uv))
    return Answer(rotation.numpy(), translation.numpy(), float(K[0, 0]))


def calibrate_camera(problem: Problem) -> Answer:
    """OpenCV, as the reference implementation offers it: guess 0.8, no distortion, principal point free."""
    guess = np.array([[0.8, 0.0, 0.5], [0.0, 0.8, 0.5], [0.0, 0.0, 1.0]])
    flags = cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_ZERO_TANGENT_DIST
    flags |= cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3 | cv2.CALIB_FIX_K4 | cv2.CALIB_FIX_K5
    _, K, _, rotations, translations = cv2.calibrateCamera(
        [problem.points.numpy()], [problem.uv.numpy()], (1, 1), guess, np.zeros(5), flags=flags
    )
    return _answer(rotations[0], translations[0], float(np.asarray(K)[0, 0]))


def solve_pnp(problem: Problem, flag: int) -> Answer:
    """OpenCV with the true camera and all pairs."""
    K = problem.camera.K_normalized().numpy()
    _, rotation, translation = cv2.solvePnP(problem.points.numpy(), problem.uv.numpy(), K, np.zeros(5), flags=flag)
    return _answer(rotation, translation, float(K[0, 0]))


def ours_unknown(problem: Problem) -> Answer:
    """Ours without a camera."""
    return _ours(solve_pose(problem.points, problem.uv))


def ours_known(problem: Problem) -> Answer:
    """Ours with the true camera."""
    return _ours(solve_pose(problem.points, problem.uv, camera=problem.camera))


def ours_wrong_fixed(problem: Problem) -> Answer:
    """Ours with a fixed focal length 5 % too long."""
    return _ours(solve_pose(problem.points, problem.uv, camera=scaled_focal(problem.camera, WRONG_FOCAL)))


def ours_wrong_prior(problem: Problem) -> Answer:
    """Ours with a focal length 5 % too long, as a loose prior."""
    return _ours(
        solve_pose(problem.points, problem.uv, camera=scaled_focal(problem.camera, WRONG_FOCAL), config=LOOSE)
    )


METHODS: dict[str, Method] = {
    "paper's DLT": paper_dlt,
    "our DLT": our_dlt,
    "cv2.calibrateCamera": calibrate_camera,
    "cv2 SQPnP, K known": lambda problem: solve_pnp(problem, cv2.SOLVEPNP_SQPNP),
    "cv2 iterative, K known": lambda problem: solve_pnp(problem, cv2.SOLVEPNP_ITERATIVE),
    "ours, K unknown": ours_unknown,
    "ours, K known": ours_known,
    "ours, K 5 % wrong, fixed": ours_wrong_fixed,
    "ours, K 5 % wrong, prior": ours_wrong_prior,
}
# These are slow at many points, and no acceptance criterion uses them there.
SLOW = {"cv2.calibrateCamera", "cv2 iterative, K known"}


def attempt(method: Method, problem: Problem) -> Run:
    """Run a method and measure it against the truth; an error of the solver is a failed run."""
    start = time.process_time()
    try:
        answer = method(problem)
    except (CupidError, cv2.error):
        wrong = float("inf")
        return Run(wrong, wrong, wrong, float("nan"), time.process_time() - start)
    seconds = time.process_time() - start
    away = float(np.linalg.norm(answer.translation - problem.translation) / np.linalg.norm(problem.translation))
    focal = float(problem.camera.K_normalized()[0, 0])
    angle = rotation_angle_deg(answer.rotation, problem.rotation)
    return Run(
        _or_infinite(angle),
        _or_infinite(away),
        _or_infinite(abs(answer.focal / focal - 1.0)),
        answer.rms_px,
        seconds,
    )


def rotation_angle_deg(one: Array, other: Array) -> float:
    """Angle between two rotations."""
    return float(np.degrees(2.0 * np.arcsin(min(1.0, float(np.linalg.norm(one - other)) / np.sqrt(8.0)))))


def _or_infinite(value: float) -> float:
    return value if np.isfinite(value) else float("inf")


def _answer(rotation: Any, translation: Any, focal: float) -> Answer:
    matrix = np.asarray(cv2.Rodrigues(rotation)[0], dtype=np.float64)
    return Answer(matrix, np.asarray(translation, dtype=np.float64).ravel(), focal)


def _ours(estimate: PoseEstimate) -> Answer:
    pose = estimate.T_camera_object
    return Answer(
        pose.rotation().double().numpy(),
        pose.translation.double().numpy(),
        float(estimate.camera.K_normalized()[0, 0]),
        estimate.reprojection_rms_px,
    )
