"""Starts for a camera with (assumed) known intrinsics: OpenCV's SQPnP, IPPE and AP3P on a few points.

No first guess is needed, any rotation and coplanar points are fine. The results are starts for `refine`, not
answers.
"""

from __future__ import annotations

import cv2
import numpy as np

from cupid_core.pose.pinhole import Array, Pinhole, join, rotation_exp

# Below this ratio of thickness to length a second, flipped pose may explain noisy images as well as the true one.
_THIN_RATIO = 0.25
# SQPnP costs little more than reading its points, and its answer hardly improves beyond this many.
_SQPNP_POINTS = 128
_IDENTITY = np.eye(3)


def camera_starts(points: Array, image: Array, intrinsics: Array) -> Pinhole:
    """Poses from all points together: SQPnP, and for thin objects both solutions of IPPE.

    Args:
        points: (n, 3) object points, n >= 4, not all on one line.
        image: (n, 2) square image coordinates.
        intrinsics: (4,) fx, fy, cx, cy assumed.

    Returns:
        Up to a handful of views, none when OpenCV finds none.

    Source: Terzakis and Lourakis 2020 (SQPnP); Collins and Bartoli 2014 (IPPE).
    """
    step = max(1, len(points) // _SQPNP_POINTS)
    rays = (image - intrinsics[2:]) / intrinsics[:2]
    parts = [_views(*_solve(points[::step], rays[::step], cv2.SOLVEPNP_SQPNP), intrinsics)]
    center = points.mean(axis=0)
    _, lengths, axes = np.linalg.svd(points - center, full_matrices=False)
    if lengths[2] < _THIN_RATIO * lengths[0]:
        # IPPE needs exact planes: solve for the projection onto the main plane, in the frame of that plane.
        plane = axes * np.array([1.0, 1.0, np.linalg.det(axes)])[:, None]
        flat = (points - center) @ plane.T * np.array([1.0, 1.0, 0.0])
        tilted = _views(*_solve(flat, rays, cv2.SOLVEPNP_IPPE), intrinsics)
        rotation = tilted.rotation @ plane
        parts.append(Pinhole(rotation, tilted.translation - rotation @ center, tilted.intrinsics))
    return join(parts)


def minimal_starts(points: Array, image: Array, guesses: Array, draws: int) -> Pinhole:
    """Poses from random sets of four points (AP3P on three, the fourth decides): for data with outliers.

    Args:
        points: (n, 3) object points, n >= 4.
        image: (n, 2) square image coordinates.
        guesses: (G, 4) intrinsics, taken in turn.
        draws: number of random sets; the same sets for the same n on every call.

    Returns:
        At most `draws` views.

    Source: Ke and Roumeliotis 2017 (AP3P); Fischler and Bolles 1981.
    """
    # Four independent indices are distinct often enough, even of six; drawing without replacement is slow.
    sets = np.random.default_rng(0).integers(len(points), size=(4 * draws, 4))
    ordered = np.sort(sets, axis=1)
    sets = sets[(ordered[:, 1:] > ordered[:, :-1]).all(axis=1)][:draws]
    vectors, shifts, used = [], [], []
    for draw, chosen in enumerate(sets):
        intrinsics = guesses[draw % len(guesses)]
        rays = (image[chosen] - intrinsics[2:]) / intrinsics[:2]
        vector, shift = _solve(points[chosen], rays, cv2.SOLVEPNP_AP3P)
        # The first solution is the one that the fourth point likes best.
        vectors.append(vector[:1])
        shifts.append(shift[:1])
        used.append(np.tile(intrinsics, (len(vector[:1]), 1)))
    return _views(np.concatenate(vectors), np.concatenate(shifts), np.concatenate(used))


def _solve(points: Array, rays: Array, method: int) -> tuple[Array, Array]:
    """All solutions of one OpenCV method as rotation vectors and translations (S, 3); S = 0 when it finds none."""
    try:
        _, rotations, translations, _ = cv2.solvePnPGeneric(
            np.ascontiguousarray(points)[:, None],
            np.ascontiguousarray(rays)[:, None],
            _IDENTITY,
            None,
            flags=method,
        )
    except cv2.error:
        # OpenCV asserts on degenerate sets. One start less is no failure; the caller checks that there is any.
        rotations, translations = (), ()
    vectors = np.asarray(rotations, dtype=np.float64).reshape(-1, 3)
    shifts = np.asarray(translations, dtype=np.float64).reshape(-1, 3)
    finite = np.isfinite(vectors).all(axis=1) & np.isfinite(shifts).all(axis=1)
    return vectors[finite], shifts[finite]


def _views(vectors: Array, shifts: Array, intrinsics: Array) -> Pinhole:
    return Pinhole(rotation_exp(vectors), shifts, np.broadcast_to(intrinsics, (len(vectors), 4)))
