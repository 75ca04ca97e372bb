"""Descent on pose, axis scales and surface offsets of several hypotheses of one object at once.

Each step draws rays, looks up the signed distance where they come closest to the surface, and compares the soft
silhouette with the mask; measured points pull the surface onto them. Depends on signed distances, rays and points,
not on images or on what is accepted in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cupid_core.config import ShapeFitConfig
from cupid_core.geometry import so3
from cupid_core.geometry.sim3 import Sim3
from cupid_core.mesh.normals import vertex_normals
from cupid_core.scene.observation import FitPixels, Placed
from cupid_core.scene.signed_distance import SignedDistanceGrid
from cupid_core.types import TriangleMesh

# Distances of measured points, relative to the object, at which they begin to saturate: early and late.
_EARLY_REACH, _LATE_REACH = 0.05, 0.025
_EARLY_SHARE = 0.4
# Distance, relative to the object, at which half of the pull of an outlier is left.
_OUTLIER = 0.02
# Rays to measured points stay this far outside, relative to the object, up to this distance from the point.
_FREE_MARGIN, _FREE_GAP = 0.004, 0.04
# A surface faces the camera where the distance falls over a step this long along the ray, relative to the object.
_FACING_STEP = 0.01
# Share of the steps after which the step size falls to zero, and the silhouette is no longer softened.
_CONSTANT_SHARE = 0.6
# The search along rays uses offsets that are at most this many steps old.
_OFFSET_REFRESH = 8
# A silhouette is at least as soft as this many pixels of the lattice.
_SOFT_PX = 0.7


@dataclass(frozen=True, eq=False)
class FittedMesh:
    """A mesh at a place, and how it came from the hypothesis.

    Attributes:
        mesh: canonical frame.
        S_camera_object: its place, float64.
        axis_scales: (3,) float64 that are applied to the vertices; their product is 1.
        uses_offsets: surface offsets are applied too.
    """

    mesh: TriangleMesh
    S_camera_object: Sim3
    axis_scales: Tensor = field(default_factory=lambda: torch.ones(3, dtype=torch.float64))
    uses_offsets: bool = False


class ShapeDescent:
    """The unknowns of B hypotheses and the descent on their losses, which do not depend on each other.

    A point y of a mesh lies at R s a (y - pivot) + c in the camera frame, where R = exp(turn) R_0; the axis
    scales a have product 1, and s changes only where depth is measured.

    Args:
        grid: signed distances of the B meshes; their device is that of the descent.
        starts: the meshes in the canonical frame, and their places.
        pixels: to fit.
        settings: of the fit.
    """

    def __init__(
        self, grid: SignedDistanceGrid, starts: Sequence[Placed], pixels: FitPixels, settings: ShapeFitConfig
    ) -> None:
        device, count = grid.center.device, len(starts)
        places = Sim3.stack([S for _, S in starts]).to(device=device)
        self.starts, self.grid, self.settings = starts, grid, settings
        self.size, self.doubt = pixels.size, pixels.doubt
        self.rotation, self.scale = places.rotation().float(), places.scale.float()
        self.center = places.apply(grid.center.double()).float()
        self.extent = 2 * grid.half_size.amax(dim=1) / (1 + 2 * settings.padding)
        # Random numbers are made on the CPU, so that they do not depend on the device.
        self.generator = torch.Generator().manual_seed(settings.seed)
        points = pixels.measured_points()
        chosen = torch.randperm(len(points), generator=self.generator)[: settings.points]
        self.points = points[chosen].to(device)
        rays, visible = pixels.rays()
        self.rays, self.visible = rays.to(device), visible.to(device)
        pixel = float(self.center[:, 2].median()) / float(pixels.camera.K[0, 0]) / self.size
        self.least_softness = max(settings.softness, _SOFT_PX * pixel)
        # In units of their step sizes, so that one step size serves all: rotation, translation, log-scales.
        self.units = torch.tensor(
            [[settings.rotation_rate] * 3 + [settings.translation_rate] * 3 + [settings.scale_rate] * 3],
            device=device,
        )
        self.unknowns = torch.zeros(count, 9, device=device, requires_grad=True)
        nodes = settings.offset_size
        self.offset_unknowns = torch.zeros(count, 1, nodes, nodes, nodes, device=device, requires_grad=True)

    def run(self, steps: int, *, offsets: bool) -> None:
        """Descend; the offsets stay where they are unless they are asked for."""
        values = [self.unknowns, self.offset_unknowns] if offsets else [self.unknowns]
        adam = torch.optim.Adam(values, lr=1.0, betas=(0.9, 0.98))
        search = self.grid.values
        for step in range(steps):
            done = step / steps
            adam.param_groups[0]["lr"] = min(1.0, (1 - done) / (1 - _CONSTANT_SHARE))
            if offsets and step % _OFFSET_REFRESH == 0:
                search = self._shifted_distances()
            adam.zero_grad()
            self._loss(1.0 if offsets else done, search, offsets).sum().backward()  # type: ignore[no-untyped-call]
            adam.step()

    @torch.no_grad()
    def fitted(self) -> list[FittedMesh]:
        """The meshes and places that the unknowns stand for."""
        rotation, center, scale, axis_scales = self._placement()
        smooth = bool(self.offset_unknowns.any())
        found = []
        for row, (mesh, _) in enumerate(self.starts):
            axes, pivot = axis_scales[row].double().cpu(), self.grid.center[row].double().cpu()
            vertices = mesh.vertices.double().cpu()
            if smooth:
                vertices = vertices + self._vertex_offsets(mesh, row).double().cpu()
            vertices = ((vertices - pivot) * axes + pivot).to(mesh.vertices)
            turned, grown = rotation[row].double().cpu(), scale[row].double().cpu()
            place = Sim3.from_rotation_translation(
                grown, turned, center[row].double().cpu() - grown * turned @ pivot
            )
            changed = replace(mesh, vertices=vertices, normals=vertex_normals(vertices, mesh.faces))
            found.append(FittedMesh(changed, place, axes, smooth))
        return found

    def _placement(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rotations (B, 3, 3), centers (B, 3), scales (B,) and axis scales (B, 3) of product 1."""
        turn, shift, log_scales = torch.split(self.unknowns * self.units, 3, dim=1)
        rotation = so3.to_matrix(so3.exp(turn)) @ self.rotation
        center = self.center + shift * (self.scale * self.extent)[:, None]
        growth = log_scales.mean(dim=1)
        axis_scales = (log_scales - growth[:, None]).exp()
        return rotation, center, self.scale * (growth.exp() if len(self.points) else 1.0), axis_scales

    def _bounded_offsets(self) -> Tensor:
        """Offsets (B, 1, k, k, k) in the unit of the mesh."""
        most = self.settings.max_offset
        relative = most * torch.tanh(self.offset_unknowns * (self.settings.offset_rate / most))
        return relative * self.extent[:, None, None, None, None]

    @torch.no_grad()
    def _shifted_distances(self) -> Tensor:
        size = self.grid.values.shape[-3:]
        grown = F.interpolate(self._bounded_offsets(), size=size, mode="trilinear", align_corners=True)
        return self.grid.values - grown

    def _vertex_offsets(self, mesh: TriangleMesh, row: int) -> Tensor:
        """Offsets (V, 3) of the vertices of one mesh along its outward normals."""
        vertices = mesh.vertices.to(self.grid.center)
        normals = vertex_normals(vertices, mesh.faces.to(vertices.device))
        own = SignedDistanceGrid(
            self.grid.values[row : row + 1], self.grid.center[row : row + 1], self.grid.half_size[row : row + 1]
        )
        amount = own.sample(vertices[None], self._bounded_offsets()[row : row + 1])[0]
        # A mesh whose faces are turned inside out has inward normals.
        step = 0.02 * self.extent[row]
        outward = own.sample((vertices + step * normals)[None]) - own.sample((vertices - step * normals)[None])
        return normals * amount[:, None] * (1.0 if float(outward.sum()) >= 0 else -1.0)

    def _loss(self, done: float, search: Tensor, offsets: bool) -> Tensor:
        """Loss (B,) on fresh random rays; `done` is the share of the steps behind."""
        s, count = self.settings, len(self.points)
        rotation, center, scale, axis_scales = self._placement()
        # Columns take directions of the camera frame into the frame of the mesh, scales included.
        to_mesh = rotation / (scale[:, None] * axis_scales)[:, None, :]
        origin = (self.grid.center - (center[:, None] @ to_mesh)[:, 0])[:, None]
        rows = torch.randint(len(self.rays), (s.rays_per_step,), generator=self.generator)
        # Rays to measured points first; along them 1 is the point.
        directions = torch.cat([self.points, self.rays[rows]]) @ to_mesh
        with torch.no_grad():
            along = self._nearest(origin, directions, search)
            facing = self._facing(origin, directions[:, :count], search)
        # One look-up for everything: small ones cost as much.
        points = origin + torch.cat([directions[:, :count], directions * along[..., None]], dim=1)
        distance = self.grid.sample(points)
        if offsets:
            distance = distance - self.grid.sample(points, self._bounded_offsets())
        distance = distance * (scale / self.scale / self.extent)[:, None]
        at_points, before_points, at_rays = torch.split(distance, [count, count, s.rays_per_step], dim=1)
        loss = s.silhouette_weight * self._silhouette_loss(done, at_rays, self.visible[rows]) + self._prior(
            offsets
        )
        if count:
            loss = loss + s.depth_weight * self._depth_loss(done, at_points, facing)
            blocked = (_FREE_MARGIN - before_points).clamp(min=0)
            loss = loss + s.free_space_weight * (blocked / (blocked + _OUTLIER)).mean(dim=1)
        return loss

    def _silhouette_loss(self, done: float, nearest: Tensor, visible: Tensor) -> Tensor:
        """One minus the soft IoU (B,) of the silhouette with the mask, from distances (B, N) and mask (N,)."""
        extra = max(0.0, self.settings.start_softness - self.least_softness) * max(0.0, 1 - done / _CONSTANT_SHARE)
        inside = torch.sigmoid(-nearest / (self.least_softness + extra))
        both = (inside * visible).sum(dim=1)
        return 1 - both / (inside + visible - inside * visible).sum(dim=1).clamp(min=1e-6)

    def _depth_loss(self, done: float, distance: Tensor, facing: Tensor) -> Tensor:
        """Robust distance (B,) of measured points from surface that faces the camera."""
        reach = _EARLY_REACH if done < _EARLY_SHARE else _LATE_REACH
        away = distance.abs()
        measured = 1 - torch.exp(-(away / reach).square() / 2) + away / (away + _OUTLIER)
        return 0.5 * torch.where(facing, measured, 2.0).mean(dim=1)

    def _facing(self, origin: Tensor, directions: Tensor, search: Tensor) -> Tensor:
        """Which (B, P) of the measured points are nearest to surface that faces the camera.

        Without it, the two sides of a thin wall would attract alike.
        """
        step = (_FACING_STEP * self.size / self.points[:, 2:]) * directions
        points = origin + directions
        return self.grid.sample(points + step, search) < self.grid.sample(points, search)

    def _nearest(self, origin: Tensor, directions: Tensor, search: Tensor) -> Tensor:
        """Multiples (B, N) of directions (B, N, 3) at which rays come closest to the surface, or deepest inside.

        Rays to measured points, which are the first, end a little before them.
        """
        grid, count = self.grid, self.settings.samples_per_ray
        middle, half = (grid.center - origin[:, 0])[:, None], grid.half_size[:, None]
        slope = torch.where(directions.abs() < 1e-9, 1e-9, directions)
        entry, exit_ = middle / slope - half / slope.abs(), middle / slope + half / slope.abs()
        near, far = entry.amax(dim=-1), exit_.amin(dim=-1)
        # A ray that misses the box is searched around its closest approach to the middle of the box.
        length = directions.square().sum(dim=-1)
        closest = (middle * directions).sum(dim=-1) / length
        radius = half.norm(dim=-1) / length.sqrt()
        hits = near < far
        near, far = torch.where(hits, near, closest - radius), torch.where(hits, far, closest + radius)
        end = near.new_full((len(self.points) + self.settings.rays_per_step,), torch.inf)
        end[: len(self.points)] = 1.0 - _FREE_GAP * self.size / self.points[:, 2]
        near, far = torch.minimum(near, end), torch.minimum(far, end)
        jitter = float(torch.rand((), generator=self.generator))
        share = (torch.arange(count, device=near.device) + jitter) / count
        along = near[..., None] + (far - near)[..., None] * share
        points = origin[:, :, None] + directions[:, :, None] * along[..., None]
        values = grid.sample(points.flatten(1, 2), search).view_as(along)
        beyond = ((points - grid.center[:, None, None]).abs() - half[:, :, None]).clamp(min=0)
        best = (values + beyond.amax(dim=-1)).argmin(dim=-1, keepdim=True)
        return along.gather(-1, best)[..., 0]

    def _prior(self, offsets: bool) -> Tensor:
        s = self.settings
        stiffness = 1 + s.stiffening * self.doubt
        if not len(self.points):
            stiffness *= s.no_depth_stiffening
        turn, _, log_scales = torch.split(self.unknowns * self.units, 3, dim=1)
        apart = log_scales - log_scales.mean(dim=1, keepdim=True)
        loss = s.rotation_weight * turn.square().sum(dim=1)
        loss = loss + s.anisotropy_weight * stiffness * apart.square().sum(dim=1)
        if offsets:
            values = self.offset_unknowns * s.offset_rate
            large = (values / s.offset_std).square().mean(dim=(1, 2, 3, 4))
            rough = torch.stack([values.diff(dim=axis).square().mean(dim=(1, 2, 3, 4)) for axis in (2, 3, 4)])
            loss = loss + stiffness * (s.offset_weight * large + s.smoothness_weight * rough.sum(dim=0))
        return loss
