"""A batch of generated samples with its truth."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class TabletopBatch:
    """O objects in B = O * views_per_object views, object by object.

    Frames: canonical object frame (z up, cube [-0.5, 0.5]^3, longest side 0.96), camera frame (x right, y down, z
    forward) in canonical units. u, v are normalized coordinates of the square crop, [0, 1] at its borders. Grids
    are indexed [x, y, z].

    Attributes:
        image: (B, 4, S, S) in [0, 1], input of the networks: degraded sRGB times the given mask, and that mask.
        image_clean: (B, 4, S, S) rendered sRGB on black and the full silhouette.
        photo: (B, 3, S, S) degraded sRGB with its background, before masking.
        mask_full: (B, 1, S, S) silhouette of the object inside the crop, occluded parts included; 0 or 1.
        mask_visible: (B, 1, S, S) the silhouette without occluded parts; 0 or 1.
        occluder: (B, 1, S, S) where an occluder is; 0 or 1.
        depth: (B, 1, S, S) camera z of the surface in canonical units; 0 off the object.
        normal: (B, 3, S, S) outward unit normals, object frame; 0 off the object.
        xyz: (B, 3, S, S) canonical surface points; 0 off the object.
        uv: (B, r, r, r, 2) projected voxel centers, not clamped.
        intrinsics: (B, 3, 3) normalized K of the crop.
        T_camera_object: (B, 4, 4).
        up: (B, 3) against gravity, object frame.
        view_object: (B,) int64 row of the object in each view.
        sdf: (O, r + 1, r + 1, r + 1) signed distance at voxel corners, canonical units.
        shell: (O, r, r, r) bool, voxels that the surface passes through ("occupied" in the published models).
        solid: (O, r, r, r) bool, shell and inside.
        color: (O, 3, r, r, r) unlit sRGB albedo at shell voxels, 0 elsewhere.
        symmetry: (O, 3) int64 (fold about z with 0 = continuous, mirror at y = 0, flip about x).
        family: (O,) int64 number in `splits.FAMILY_NAMES`.
        half_extents: (O, 3) of the canonical bounding box.
        scale_m: (O,) metres per canonical unit at the family's realistic size.
        index: (O,) int64 the object's index under the seed.
    """

    image: Tensor
    image_clean: Tensor
    photo: Tensor
    mask_full: Tensor
    mask_visible: Tensor
    occluder: Tensor
    depth: Tensor
    normal: Tensor
    xyz: Tensor
    uv: Tensor
    intrinsics: Tensor
    T_camera_object: Tensor
    up: Tensor
    view_object: Tensor
    sdf: Tensor
    shell: Tensor
    solid: Tensor
    color: Tensor
    symmetry: Tensor
    family: Tensor
    half_extents: Tensor
    scale_m: Tensor
    index: Tensor

    def to(self, device: torch.device | str) -> TabletopBatch:
        """The same batch on another device."""
        return TabletopBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def mirrored(batch: TabletopBatch) -> TabletopBatch:
    """The mirror image of every sample: y -> -y in the object, u -> 1 - u in the image.

    Every mirrored object is an object of its family (with mirrored print), viewed from the mirrored side. The
    canonical frame, whose features lie on +x, stays canonical. This doubles the data at no cost.
    """
    flip_y = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0], device=batch.image.device))
    flip_x = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0], device=batch.image.device))
    intrinsics = batch.intrinsics.clone()
    intrinsics[:, 0, 2] = 1 - intrinsics[:, 0, 2]
    changed = {f.name: getattr(batch, f.name) for f in fields(batch)}
    flipped_images = (
        "image",
        "image_clean",
        "photo",
        "mask_full",
        "mask_visible",
        "occluder",
        "depth",
        "normal",
        "xyz",
    )
    for name in flipped_images:
        changed[name] = changed[name].flip(3)
    for name in ("normal", "xyz"):
        changed[name] = changed[name] * flip_y.diagonal()[:3].view(1, 3, 1, 1)
    for name in ("sdf", "shell", "solid"):
        changed[name] = changed[name].flip(2)
    uv = batch.uv.flip(2).clone()
    uv[..., 0] = 1 - uv[..., 0]
    changed.update(
        uv=uv,
        color=batch.color.flip(3),
        intrinsics=intrinsics,
        T_camera_object=flip_x @ batch.T_camera_object @ flip_y,
        up=batch.up * flip_y.diagonal()[:3],
    )
    return TabletopBatch(**changed)
