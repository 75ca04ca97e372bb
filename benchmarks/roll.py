"""How far a roll of the camera turns the poses: the same photograph and K turned about the optical axis.

    python benchmarks/roll.py --objects 40

prints, for each angle, with gravity known and without, the median change of the rotation (up to the symmetry of
the object, in the camera as it was), and the median error against the truth.
"""

from __future__ import annotations

import argparse
import math
import statistics
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cupid_core import Cupid
from cupid_core.data.tabletop import TabletopSettings
from cupid_core.errors import CupidError
from cupid_core.evaluation.pose_metrics import rotation_error_deg
from cupid_core.evaluation.tabletop_cases import UNSEEN_SEED, TabletopCase, tabletop_cases
from cupid_core.geometry import so3
from cupid_core.geometry.camera import Camera
from cupid_core.reconstruct.inputs import Frame
from cupid_core.reconstruct.pipeline import Request
from cupid_core.types import DepthMap

ANGLES_DEG = (0.0, 30.0, 90.0, 180.0)


def turned_frame(case: TabletopCase, degrees: float, up: torch.Tensor | None) -> tuple[Frame, torch.Tensor]:
    """The frame of a camera that is rolled, and its rotation (3, 3) against the camera of the case."""
    fx, fy = float(case.camera.K[0, 0]), float(case.camera.K[1, 1])
    size = math.ceil(math.hypot(case.camera.width, case.camera.height))
    center = (float(case.camera.K[0, 2]) - 0.5, float(case.camera.K[1, 2]) - 0.5)
    turn = cv2.getRotationMatrix2D(center, degrees, 1.0)
    turn[:, 2] += np.array([size / 2 - 0.5 - center[0], size / 2 - 0.5 - center[1]])

    def warped(values: NDArray[Any], how: int) -> NDArray[Any]:
        return np.asarray(cv2.warpAffine(values, turn, (size, size), flags=how))

    mask = warped(case.mask.astype(np.uint8), cv2.INTER_NEAREST) > 0
    occlusion = warped((case.occlusion & ~case.mask).astype(np.uint8), cv2.INTER_NEAREST) > 0
    depth = None
    if case.depth is not None:
        known = np.nan_to_num(case.depth.depth_m.numpy(), nan=0.0)
        measured = warped(known, cv2.INTER_NEAREST)
        measured[measured <= 0] = np.nan
        depth = DepthMap(torch.from_numpy(measured), case.depth.source)
    R = so3.to_matrix(so3.exp(torch.tensor([0.0, 0.0, -math.radians(degrees)], dtype=torch.float64)))
    frame = Frame.of(
        warped(case.image, cv2.INTER_LINEAR),
        {1: mask},
        camera=Camera.from_parameters(fx=fx, fy=fy, cx=size / 2, cy=size / 2, width=size, height=size),
        depth=depth,
        occlusion_masks={1: occlusion},
        up=None if up is None else (R @ up).tolist(),
    )
    return frame, R


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=40)
    parser.add_argument("--checkpoint", default="tabletop")
    parser.add_argument("--refine", default="none", choices=("none", "pose", "shape"))
    options = parser.parse_args()
    cupid = Cupid.from_pretrained(options.checkpoint)
    settings = TabletopSettings(resolution=cupid.networks.appearance_flow.resolution)
    changes: dict[tuple[bool, float], list[float]] = {}
    errors: dict[tuple[bool, float], list[float]] = {}
    for index in range(options.objects):
        (case,) = tabletop_cases([index], settings, seed=UNSEEN_SEED)
        for known in (False, True):
            # The generator's objects stand on their canonical z, but for those that lie.
            up = case.T_camera_object[:3, 2] if known else None
            first = None
            for degrees in ANGLES_DEG:
                frame, R = turned_frame(case, degrees, up)
                try:
                    scene = cupid.reconstruct(frame, Request(refine=options.refine))
                    pose = scene[0].pose.matrix().double()
                except CupidError:
                    continue
                pose[:3, :3] = R.mT @ pose[:3, :3]
                first = pose if first is None else first
                key = known, degrees
                changes.setdefault(key, []).append(rotation_error_deg(first, pose, case.symmetry))
                errors.setdefault(key, []).append(rotation_error_deg(case.T_camera_object, pose, case.symmetry))
    print("gravity   roll   change   error   objects")
    for (known, degrees), values in changes.items():
        error = statistics.median(errors[known, degrees])
        name = "known" if known else "unknown"
        print(f"{name:8s} {degrees:5.0f} {statistics.median(values):7.1f} {error:8.1f} {len(values):7d}")


if __name__ == "__main__":
    main()
