"""Batches of generated tabletop views: which shards a batch samples from, and the truth of augmented views."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from cupid_core.config import Settings, setting
from cupid_core.data.tabletop import TabletopSettings
from cupid_core.geometry.grid import all_voxel_centers
from cupid_core.models.conv_image_encoder import mark_occlusion
from cupid_core.models.encoder_planes import central_frame, gravity_planes, point_planes
from cupid_core.training.shards import ShardRows, ShardStore
from cupid_core.training.structure_batch import (
    PosedViews,
    StructureBatch,
    StructureTruth,
    SurfaceBatch,
    project_normalized,
)
from cupid_core.training.tabletop_views import DEPTH_STRIDE, TabletopViewRecipe, absolute_depth, unpack_bits
from cupid_core.training.view_change import (
    ViewChange,
    ViewChangeSettings,
    change_color,
    change_image,
    draw_change,
    draw_depth_known,
    draw_occlusion_known,
)

# Tensors of a shard with a row per view, and those with a row per object.
_OF_VIEWS = ("image", "occluder", "depth", "measured", "intrinsics", "T_camera_object", "up")
_OF_OBJECTS = ("shell", "symmetry")
# Views with more roll are not rotated upright, nor are those of a camera that looks along gravity.
_MAX_TILT_DEG = 20.0
_MIN_UP_IN_IMAGE = 0.05


class TabletopSourceSettings(Settings):
    """Generated views as training data."""

    objects: TabletopSettings = TabletopSettings(views_per_object=4)
    change: ViewChangeSettings = ViewChangeSettings()
    objects_per_shard: int = setting(128, "count", "Objects in a shard.", ge=1)
    first_shards: int = setting(8, "count", "Shards that have to exist before the first batch.", ge=1)
    most_shards: int = setting(400, "count", "No more shards than these are made.", ge=1)
    uses_per_view: float = setting(
        4.0, "count", "Mean uses of a view over a long run; more means fewer new shards.", gt=0.0
    )
    validation_objects: int = setting(128, "count", "Unseen objects for validation.", ge=1)
    resident: bool = setting(
        True, "switch", "Keep shards in the memory of an accelerator, about 40 MB each; of no effect on a CPU."
    )
    cells: int = setting(32, "count", "Cells along an image edge with a surface point.", ge=1)


class TabletopSource:
    """`StructureSource` and `SurfaceSource` of generated views.

    The pool of shards that a batch samples from grows with the number of the batch, not with time, so that batches
    are the same on a fast machine and on a slow one; a slow one waits.

    Args:
        root: folder of the shards.
        settings: of views and shards.
        seed: of the data; validation uses the next one.
        workers: background processes; they make shards on the CPU.
        deadline: `time.monotonic()` after which a shard that is not there is not waited for.
        device: where batches are made and, without workers, shards.
    """

    def __init__(
        self,
        root: Path,
        settings: TabletopSourceSettings,
        *,
        seed: int = 0,
        workers: int = 0,
        device: str = "cpu",
        deadline: float = math.inf,
    ) -> None:
        self._settings, self._seed = settings, seed
        self._device = torch.device(device)
        recipe = TabletopViewRecipe(
            settings.objects, settings.objects_per_shard, seed, device="cpu" if workers else device
        )
        self._store = ShardStore(root, recipe, workers, deadline=deadline)
        self._store.request(settings.first_shards)
        unseen = settings.objects.model_copy(update={"views_per_object": 1})
        self._unseen = ShardStore(
            root, TabletopViewRecipe(unseen, settings.validation_objects, seed + 1, device=device)
        )
        self._views = settings.objects_per_shard * settings.objects.views_per_object
        resident = settings.resident and self._device.type != "cpu"
        self._rows = ShardRows(self._store, (*_OF_VIEWS, *_OF_OBJECTS), self._device, resident=resident)
        self._unseen_rows = ShardRows(self._unseen, (*_OF_VIEWS, *_OF_OBJECTS), self._device, resident=False)
        self._centers = all_voxel_centers(settings.objects.resolution).to(self._device)

    def pool(self, number: int, size: int) -> int:
        """Shards that batch `number` may sample from."""
        grown = int(number * size / (self._settings.uses_per_view * self._views))
        return min(self._settings.first_shards + grown, self._settings.most_shards)

    def batch(self, number: int, size: int) -> StructureBatch:
        """Views sampled uniformly from the pool, each augmented anew; on the device of the source."""
        return self._structure_batch(*self._sample_stored(number, size))

    def surfaces(self, number: int, size: int) -> SurfaceBatch:
        """The same views with their surface points alone."""
        return self._augmented_views(*self._sample_stored(number, size))[0]

    def _sample_stored(
        self, number: int, size: int
    ) -> tuple[dict[str, Tensor], ViewChangeSettings | None, torch.Generator]:
        generator = torch.Generator().manual_seed((self._seed << 40) + number)
        count = self.pool(number, size)
        self._store.request(min(count + 2, self._settings.most_shards))
        shards = torch.randint(count, (size,), generator=generator).tolist()
        views = torch.randint(self._views, (size,), generator=generator)
        good = [self._store.next_good(shard, count) for shard in shards]
        stored = self._rows.gather(good, row_numbers(views, self._settings.objects.views_per_object))
        return stored, self._settings.change, generator

    def validation(self, size: int) -> tuple[StructureBatch, StructureTruth | None]:
        """The first `size` validation views, not augmented."""
        stored, truth = self._stored_validation(size)
        return self._structure_batch(stored, None, torch.Generator().manual_seed(0)), truth

    def validation_surfaces(self, size: int) -> tuple[SurfaceBatch, StructureTruth]:
        """The same views with their surface points alone."""
        stored, truth = self._stored_validation(size)
        return self._augmented_views(stored, None, torch.Generator().manual_seed(0))[0], truth

    def _stored_validation(self, size: int) -> tuple[dict[str, Tensor], StructureTruth]:
        size = min(size, self._settings.validation_objects)
        stored = self._unseen_rows.gather(
            [self._unseen.next_good(0, 1)] * size, row_numbers(torch.arange(size), 1)
        )
        truth = StructureTruth(
            stored["intrinsics"].cpu(), stored["T_camera_object"].cpu(), stored["symmetry"].cpu()
        )
        return stored, truth

    def close(self) -> None:
        """Stop the workers."""
        self._store.close()

    def posed_views(self, number: int, size: int) -> PosedViews:
        """The same views with measured depth, camera and pose."""
        return self._posed_views(*self._sample_stored(number, size))

    def validation_posed_views(self, size: int) -> PosedViews:
        """The first `size` validation views, not augmented."""
        stored, _ = self._stored_validation(size)
        return self._posed_views(stored, None, torch.Generator().manual_seed(0))

    def _posed_views(
        self, stored: dict[str, Tensor], settings: ViewChangeSettings | None, generator: torch.Generator
    ) -> PosedViews:
        views, change, depth = self._augmented_views(stored, settings, generator)
        resolution = self._settings.objects.resolution
        shell = unpack_bits(stored["shell"], resolution**3).view(-1, *(resolution,) * 3)
        intrinsics, R_changed_camera = change.camera(stored["intrinsics"])
        T = stored["T_camera_object"]
        # Where the view is mirrored, so is the object: both reflections together are a rotation again.
        R = change.flip_object(R_changed_camera @ T[:, :3, :3])
        mirrored = change.mirrored.view(-1, 1, 1, 1)
        return PosedViews(
            image=views.image,
            depth=depth,
            intrinsics=intrinsics,
            rotation=R,
            translation=(R_changed_camera @ T[:, :3, 3:])[..., 0],
            shell=torch.where(mirrored, shell.flip(2), shell),
            symmetry=stored["symmetry"],
        )

    def _structure_batch(
        self, stored: dict[str, Tensor], settings: ViewChangeSettings | None, generator: torch.Generator
    ) -> StructureBatch:
        count, resolution = len(stored["image"]), self._settings.objects.resolution
        views, change, _ = self._augmented_views(stored, settings, generator)
        shell = unpack_bits(stored["shell"], resolution**3).view(count, 1, *(resolution,) * 3)
        occupancy = torch.where(change.mirrored.view(-1, 1, 1, 1, 1), shell.flip(3), shell)
        centers = change.flip_object(self._centers[None].expand(count, *self._centers.shape))
        uv = change.forwards(project_normalized(centers, stored["T_camera_object"], stored["intrinsics"]))
        inside = ((uv >= 0) & (uv <= 1)).all(dim=-1)
        return StructureBatch(
            image=views.image,
            occupancy=occupancy,
            uv=uv.clamp(0, 1).permute(0, 4, 1, 2, 3).contiguous(),
            flag=inside[:, None],
            xyz=views.xyz,
            visible_mask=views.visible_mask,
        )

    def _augmented_views(
        self, stored: dict[str, Tensor], settings: ViewChangeSettings | None, generator: torch.Generator
    ) -> tuple[SurfaceBatch, ViewChange, Tensor]:
        """The augmented images, the surface that is visible in them, the augmentations, and measured depth."""
        count, size = len(stored["image"]), stored["image"].shape[-1]
        upright = _upright_rotations(stored, settings, generator)
        change = draw_change(count, settings, generator, upright=upright).to(self._device)
        known = draw_occlusion_known(count, settings, generator).to(self._device)
        occluder = unpack_bits(stored["occluder"], size * size).view(count, 1, size, size).float()
        image, hidden = change_image(stored["image"].float() / 255, occluder, change)
        if settings is not None:
            image = change_color(image, settings, generator)
        image = mark_occlusion(image, hidden * known.view(-1, 1, 1, 1))
        depth_known = draw_depth_known(count, settings, generator).to(self._device)
        depth = _measured_depth(stored, change, depth_known)
        measured = _measured_planes(stored, change, depth, ~upright.isnan().to(self._device))
        surface = SurfaceBatch(torch.cat([image, measured], dim=1), *self._surface_points(stored, change))
        return surface, change, depth

    def _surface_points(self, stored: dict[str, Tensor], change: ViewChange) -> tuple[Tensor, Tensor]:
        """Surface points and visible mask at the cell centers of augmented views, from the nearest depth pixel."""
        count, cells = len(stored["depth"]), self._settings.cells
        axis = (torch.arange(cells, device=self._device) + 0.5) / cells
        v, u = torch.meshgrid(axis, axis, indexing="ij")
        old = change.backwards(torch.stack([u, v], dim=-1).expand(count, cells, cells, 2))
        edge = stored["depth"].shape[-1]
        step = DEPTH_STRIDE / stored["image"].shape[-1]
        first = 0.5 / stored["image"].shape[-1]
        nearest = torch.round((old - first) / step).long()
        inside = ((nearest >= 0) & (nearest < edge)).all(dim=-1)
        column, row = nearest.clamp(0, edge - 1).unbind(-1)
        depth = (
            absolute_depth(stored["depth"], stored["T_camera_object"][:, 2, 3])
            .flatten(1)
            .gather(1, (row * edge + column).flatten(1))
            .view_as(row)
        )
        pixel = torch.stack([column, row], dim=-1) * step + first
        rays = _homogeneous(pixel) @ stored["intrinsics"].inverse().mT[:, None]
        T = stored["T_camera_object"]
        points = (rays * depth[..., None] - T[:, None, None, :3, 3]) @ T[:, None, :3, :3]
        return change.flip_object(points).permute(0, 3, 1, 2), (inside & (depth > 0))[:, None]


def _upright_rotations(
    stored: dict[str, Tensor], settings: ViewChangeSettings | None, generator: torch.Generator
) -> Tensor:
    """Radians (B,) that rotate views upright, on the CPU; NaN where up is not given to the network.

    Views that are far from upright would lose their corners, so their up stays unknown. Without settings every up
    is known and nothing is rotated.
    """
    if settings is None:
        return torch.zeros(len(stored["up"]))
    R_crop_object = central_frame(stored["intrinsics"]) @ stored["T_camera_object"][:, :3, :3]
    up = (R_crop_object @ stored["up"][..., None])[..., 0].cpu()
    tilt = torch.atan2(up[:, 0], -up[:, 1])
    known = torch.rand(len(up), generator=generator) < settings.up_known
    upright = (tilt.abs() < math.radians(_MAX_TILT_DEG)) & (up[:, :2].norm(dim=1) > _MIN_UP_IN_IMAGE)
    return torch.where(known & upright, -tilt, torch.nan)


def _measured_depth(stored: dict[str, Tensor], change: ViewChange, depth_known: Tensor) -> Tensor:
    """Measured depth (B, S, S) of the augmented views, from the nearest pixel; 0 where there is none."""
    size = stored["image"].shape[-1]
    distance = stored["T_camera_object"][:, 2, 3]
    axis = (torch.arange(size, device=distance.device) + 0.5) / size
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    old = change.backwards(torch.stack([u, v], dim=-1).expand(len(distance), size, size, 2))
    column, row = torch.floor(old * size).long().unbind(-1)
    inside = ((old >= 0) & (old < 1)).all(dim=-1)
    place = (row.clamp(0, size - 1) * size + column.clamp(0, size - 1)).flatten(1)
    depth = absolute_depth(stored["measured"], distance).flatten(1).gather(1, place).view_as(row)
    return depth * (inside & depth_known.view(-1, 1, 1))


def _measured_planes(stored: dict[str, Tensor], change: ViewChange, depth: Tensor, up_known: Tensor) -> Tensor:
    """Planes "points" and "gravity" (B, 6, S, S) of the augmented views."""
    intrinsics, R_changed_camera = change.camera(stored["intrinsics"])
    R_camera_object = stored["T_camera_object"][:, :3, :3]
    up = (R_changed_camera @ R_camera_object @ stored["up"][..., None])[..., 0]
    points = point_planes(depth, intrinsics, up, up_known)
    return torch.cat([points, gravity_planes(intrinsics, up, up_known, depth.shape[-1])], dim=1)


def _homogeneous(uv: Tensor) -> Tensor:
    """(..., 2) to (..., 3) with 1 appended."""
    return torch.cat([uv, torch.ones_like(uv[..., :1])], dim=-1)


def row_numbers(views: Tensor, views_per_object: int) -> dict[str, Tensor]:
    """Rows of a shard that belong to views (B,), by name of the tensor; the views of an object are adjacent."""
    objects = views // views_per_object
    return dict.fromkeys(_OF_VIEWS, views) | dict.fromkeys(_OF_OBJECTS, objects)
