"""Estimates the upward direction of a scene from the z axes of its objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cupid_core.reconstruct.results import SceneObject

# Length of the mean of the z axes from which they count as agreeing: half of them within about 50 degrees.
_AGREEMENT = 0.8


def upward(objects: Sequence[SceneObject]) -> Tensor | None:
    """Upwards (3,) in the camera frame, unit length: the mean z axis of the objects.

    None where there is no object, where the axes disagree (objects lie on their sides), or where their mean points
    down in the image.
    """
    if not objects:
        return None
    mean = torch.stack([item.pose.matrix()[:3, 2].double() for item in objects]).mean(dim=0)
    length = float(mean.norm())
    return mean / length if length > _AGREEMENT and float(mean[1]) < 0 else None
