"""Random cameras: poses, focal lengths, rolls and square crops as a robot's camera would give them.

A view is generated as a real one arises: an object rests on a table, a camera of 24-200 mm (36 mm sensor) views it
from some elevation with a little roll, the object is somewhere in its image, and a square crop with some margin is
cut around it. So the principal point of the crop is off its center.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.settings import TabletopSettings
from cupid_core.data.tabletop.shape import Rest
from cupid_core.data.tabletop.symmetry import to_fundamental_domain

SENSOR_MM = 36.0
# Smallest depth of any corner of the canonical cube.
NEAREST = 0.12


@dataclass(frozen=True)
class ViewDraw:
    """The random numbers of one view's camera.

    Attributes:
        rest: rotation world <- object, row-major; world z is up.
        elevation, azimuth, roll: radians, of the camera above the table plane and around its own axis.
        focal: focal length over crop width.
        share: width of the crop over the width of the image; focal * share belongs to a lens of 24-200 mm.
        offset: position of the object in the real image, in [-1, 1]^2 of the possible range.
        margin: edge of the crop over the larger edge of the silhouette's box.
        shift: offset of the crop's center from the box center, in box edges.
        cut: how far the crop is shifted so that its border truncates the object, in box edges; 0 for none.
        cut_angle: direction of that shift, radians.
    """

    rest: tuple[float, ...]
    elevation: float
    azimuth: float
    roll: float
    focal: float
    share: float
    offset: tuple[float, float]
    margin: float
    shift: tuple[float, float]
    cut: float
    cut_angle: float


@dataclass(frozen=True)
class Views:
    """B views.

    Attributes:
        rotation: (B, 3, 3) R_camera_object.
        translation: (B, 3) canonical units.
        intrinsics: (B, 3, 3) normalized K of the square crop (u, v in [0, 1], corner convention).
        up: (B, 3) the table's normal, in the object frame.
        table: (B,) height of the table along `up`.
    """

    rotation: Tensor
    translation: Tensor
    intrinsics: Tensor
    up: Tensor
    table: Tensor

    def matrix(self) -> Tensor:
        """T_camera_object as (B, 4, 4)."""
        matrix = torch.zeros(*self.rotation.shape[:-2], 4, 4, device=self.rotation.device)
        matrix[..., :3, :3], matrix[..., :3, 3], matrix[..., 3, 3] = self.rotation, self.translation, 1
        return matrix


def draw_view(draws: Draws, rests: Sequence[Rest], settings: TabletopSettings) -> ViewDraw:
    """Draw one camera."""
    rest = draws.choice(rests, [r.weight for r in rests])
    low, high = settings.elevation_low_deg, settings.elevation_high_deg
    # Robot cameras mostly have elevations of 15 to 75 degrees; the rest of the range is rarer.
    elevation = draws.uniform(15.0, min(75.0, high)) if draws.chance(0.8) else draws.uniform(low, high)
    # Most crops are a small part of a robot's wide image, the others most of a photograph.
    shortest, longest = settings.focal_low_mm / SENSOR_MM, settings.focal_high_mm / SENSOR_MM
    if draws.chance(0.7):
        lens, share = draws.log_uniform(shortest, min(2.9 * shortest, longest)), draws.log_uniform(0.12, 0.5)
    else:
        lens, share = draws.log_uniform(shortest, longest), draws.log_uniform(0.4, 1.0)
    cut = draws.uniform(0.05, 0.35) if draws.chance(settings.truncated) else 0.0
    margin = draws.uniform(settings.margin_low, settings.margin_high)
    jitter = (margin - 1) / 2
    return ViewDraw(
        rest=rest.turn,
        elevation=math.radians(elevation),
        azimuth=draws.uniform(-math.pi, math.pi),
        roll=math.radians(_draw_roll_deg(draws, settings)),
        focal=lens / share,
        share=share,
        offset=(draws.uniform(-1, 1), draws.uniform(-1, 1)),
        margin=margin,
        shift=(draws.uniform(-jitter, jitter) * 0.7, draws.uniform(-jitter, jitter) * 0.7),
        cut=cut,
        cut_angle=draws.uniform(0, 2 * math.pi),
    )


def _draw_roll_deg(draws: Draws, settings: TabletopSettings) -> float:
    if settings.any_roll > 0 and draws.chance(settings.any_roll):
        return draws.uniform(-180.0, 180.0)
    return float(np.clip(draws.normal(0, settings.roll_deg / 2), -settings.roll_deg, settings.roll_deg))


def build_views(views: Sequence[ViewDraw], groups: Tensor, surface: Tensor, valid: Tensor) -> Views:
    """Compute cameras and crops from their random numbers.

    Args:
        views: random numbers of B views.
        groups: (B, 3) symmetry rows of the viewed objects.
        surface: (B, N, 3) points near the surface of each object, canonical; they place the crop.
        valid: (B, N) which of them are.

    Returns:
        Views whose poses lie in the fundamental domain of the objects' symmetry.
    """
    device = surface.device

    def column(values: list[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    rest = torch.tensor([v.rest for v in views], dtype=torch.float32, device=device).view(-1, 3, 3)
    elevation, azimuth = column([v.elevation for v in views]), column([v.azimuth for v in views])
    rotation = _look_at_origin(rest, elevation, azimuth, column([v.roll for v in views]))
    share = column([v.share for v in views])
    focal = column([v.focal for v in views]) * share
    room = 0.5 * (1 - share) / focal
    tilt_x = torch.atan(column([v.offset[0] for v in views]) * room)
    tilt_y = torch.atan(column([v.offset[1] for v in views]) * room * 0.75)
    direction = torch.stack(
        [torch.tan(tilt_x), torch.tan(tilt_y) / torch.cos(tilt_x), torch.ones_like(tilt_x)], dim=1
    )
    rotation = _multiply(_about_y(tilt_x), _multiply(_about_x(-tilt_y), rotation))
    norm = direction / torch.linalg.norm(direction, dim=1, keepdim=True)
    radius = torch.where(valid, torch.linalg.norm(surface, dim=2), torch.zeros_like(surface[..., 0])).amax(dim=1)
    # The bounding sphere then takes about `share` of the image width; the whole cube stays in front of the
    # camera, so that every voxel has a projection.
    nearest = (0.5 * rotation[:, 2].abs().sum(dim=1) + NEAREST) / norm[:, 2]
    distance = torch.maximum(2 * radius * focal / share, nearest)
    translation = norm * distance[:, None]
    camera_object = -(rotation * translation[:, :, None]).sum(dim=1)
    _, fold = to_fundamental_domain(camera_object.T, groups, with_mirror=False)
    rotation = _multiply(rotation, fold.permute(2, 1, 0))  # R g^-1; g is orthogonal
    up = _multiply(fold.permute(2, 0, 1), rest[:, 2, :, None])[..., 0]
    points = (fold.permute(2, 0, 1)[:, None] * surface[:, :, None, :]).sum(dim=3)
    height = (points * up[:, None]).sum(dim=2)
    table = torch.where(valid, height, torch.full_like(height, 1e9)).amin(dim=1)
    eye = torch.eye(3, device=device).expand(len(views), 3, 3)
    return crop(Views(rotation, translation, eye, up, table), views, points, valid)


def project(points: Tensor, views: Views) -> tuple[Tensor, Tensor]:
    """Normalized image coordinates (B, N, 2) and depths (B, N) of canonical points (B or 1, N, 3)."""
    r, t, k = views.rotation, views.translation, views.intrinsics
    camera = [
        r[:, i, 0:1] * points[..., 0]
        + r[:, i, 1:2] * points[..., 1]
        + r[:, i, 2:3] * points[..., 2]
        + t[:, i : i + 1]
        for i in range(3)
    ]
    u = k[:, 0, 0:1] * camera[0] / camera[2] + k[:, 0, 2:3]
    v = k[:, 1, 1:2] * camera[1] / camera[2] + k[:, 1, 2:3]
    return torch.stack([u, v], dim=2), camera[2]


def _look_at_origin(rest: Tensor, elevation: Tensor, azimuth: Tensor, roll: Tensor) -> Tensor:
    """R_camera_object of a camera aimed at the origin; without roll, world z points up in its image."""
    ce, se, ca, sa = torch.cos(elevation), torch.sin(elevation), torch.cos(azimuth), torch.sin(azimuth)
    zero = torch.zeros_like(ce)
    forward = torch.stack([-ce * ca, -ce * sa, -se], dim=1)
    right = torch.stack([-sa, ca, zero], dim=1)
    down = torch.stack([se * ca, se * sa, -ce], dim=1)
    cr, sr = torch.cos(roll)[:, None], torch.sin(roll)[:, None]
    camera_world = torch.stack([cr * right + sr * down, cr * down - sr * right, forward], dim=1)
    return _multiply(camera_world, rest)


def crop(views: Views, drawn: Sequence[ViewDraw], points: Tensor, visible: Tensor) -> Views:
    """The same views, cropped around their visible points.

    Args:
        views: B views.
        drawn: their random numbers.
        points: (B, N, 3) canonical.
        visible: (B, N) which of them are visible.
    """
    uv, _ = project(points, views)
    k = views.intrinsics
    tangent = torch.stack(
        [(uv[..., 0] - k[:, 0, 2:3]) / k[:, 0, 0:1], (uv[..., 1] - k[:, 1, 2:3]) / k[:, 1, 1:2]], dim=2
    )
    low = torch.where(visible[..., None], tangent, torch.full_like(tangent, 1e9)).amin(dim=1)
    high = torch.where(visible[..., None], tangent, torch.full_like(tangent, -1e9)).amax(dim=1)
    edge = (high - low).amax(dim=1)
    numbers = torch.tensor([_placement(view) for view in drawn], dtype=torch.float32, device=points.device)
    center = (low + high) / 2 + numbers[:, :2] * edge[:, None]
    focal = 1 / (edge * numbers[:, 2])
    zero, one = torch.zeros_like(focal), torch.ones_like(focal)
    rows = [
        torch.stack([focal, zero, 0.5 - focal * center[:, 0]], dim=1),
        torch.stack([zero, focal, 0.5 - focal * center[:, 1]], dim=1),
        torch.stack([zero, zero, one], dim=1),
    ]
    return replace(views, intrinsics=torch.stack(rows, dim=1))


def _placement(view: ViewDraw) -> tuple[float, float, float]:
    """Offset of the crop's center and its edge, in edges of the silhouette's box."""
    x, y = view.shift[0] + view.cut * math.cos(view.cut_angle), view.shift[1] + view.cut * math.sin(view.cut_angle)
    return x, y, view.margin if view.cut == 0 else max(1.0, view.margin - view.cut)


def _multiply(a: Tensor, b: Tensor) -> Tensor:
    """Product of 3x3 matrices without BLAS, so that it does not depend on what else is in the batch."""
    return (a[:, :, :, None] * b[:, None, :, :]).sum(dim=2)


def _about_x(angle: Tensor) -> Tensor:
    c, s = torch.cos(angle), torch.sin(angle)
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    return torch.stack([one, zero, zero, zero, c, -s, zero, s, c], dim=1).view(-1, 3, 3)


def _about_y(angle: Tensor) -> Tensor:
    c, s = torch.cos(angle), torch.sin(angle)
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    return torch.stack([c, zero, s, zero, one, zero, -s, zero, c], dim=1).view(-1, 3, 3)
