"""Takes the color of a placed mesh from the photograph; knows the mesh, its place and pixels, no networks.

Where the surface is seen well it has the pixels of the photograph themselves, as a texture. Towards the edges of
the mask and where it is seen at a grazing angle, these fade into the color of hidden surface (`hidden_color`): the
color of the mesh, shifted to meet the photograph, or of what is opposite where the object is symmetric.

All colors are sRGB. The light of the photograph stays in its colors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from cupid_core.geometry.camera import Camera
from cupid_core.geometry.sim3 import Sim3
from cupid_core.mesh.normals import vertex_normals
from cupid_core.render.raycast import MeshCaster, Rendering
from cupid_core.render.silhouette import nearest_of, signed_distance
from cupid_core.scene.hidden_color import SeenVertices, hidden_colors
from cupid_core.scene.photo_texture import photo_texture
from cupid_core.types import TriangleMesh

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# The outermost pixel of a mask shows the background too; then the photograph fades in over a share of the size.
_BORDER_PX = 1.0
_FADE = 0.01
# Cosine of the angle between line of sight and normal, between which the photograph fades in.
_GRAZING = (0.1, 0.3)
# A step of depth, as a share of the object's size: beside it a small error of the pose shows another part.
_STEP = 0.05
# A vertex is seen if no surface is further in front of it than this share of the object's size.
_TOLERANCE = 0.005
# Fewer vertices than this that are seen well say nothing about the rest.
_FEWEST_SEEN = 12
_GRAY = 0.5


@dataclass(frozen=True, eq=False)
class PhotoView:
    """The part of a photograph that shows an object, and how much each pixel counts.

    Attributes:
        camera: of the part.
        image: (h, w, 3) in [0, 1].
        weight: (h, w) in [0, 1]; 0 where it does not show the object.
    """

    camera: Camera
    image: Floats
    weight: Floats


def color_from_photo(
    mesh: TriangleMesh,
    S_camera_object: Sim3,
    camera: Camera,
    image: npt.NDArray[np.uint8],
    mask: Mask,
    *,
    caster: MeshCaster | None = None,
    largest_px: int = 1024,
) -> TriangleMesh:
    """Give a mesh the colors that a photograph shows, as a texture and at its vertices.

    Args:
        mesh: any frame; its colors are those that hidden surface keeps, gray where it has none. Of triangles as
            large as many pixels the texture is a little out of place: perspective inside a triangle is not
            corrected.
        S_camera_object: its place.
        camera: of the image, without lens distortion.
        image: (H, W, 3) sRGB.
        mask: (H, W) the visible pixels of the object; what hides it is not in the mask.
        caster: of the same surface, where there is one already.
        largest_px: longest side of the part of the photograph in the texture; a larger part is made smaller.

    Returns:
        The same geometry with other colors and a texture; as it was where the photograph shows too little of it.

    Raises:
        EmptyMeshError: it has no triangle.
        InvalidTensorError: a vertex or the place is not finite.
    """
    if mesh.normals is None:
        mesh = replace(mesh, normals=vertex_normals(mesh.vertices, mesh.faces))
    caster = (caster or MeshCaster(mesh)).with_attributes_of(replace(mesh, colors=None, texture=None))
    points = S_camera_object.apply(mesh.vertices.to(S_camera_object.translation))
    view = _photo_view(caster.render(S_camera_object, camera), camera, image, mask, largest_px)
    if view is None:
        return mesh
    px = view.camera.project(points).numpy().astype(np.float32)
    visible = _visible(caster, S_camera_object, px, view)
    weight = np.where(visible, _sampled(view.weight[..., None], px)[:, 0], 0)
    if int((weight > 0.5).sum()) < _FEWEST_SEEN:
        return mesh
    photo = _sampled(view.image, px)
    own = np.full_like(photo, _GRAY) if mesh.colors is None else mesh.colors.detach().float().cpu().numpy()
    hidden = hidden_colors(caster, own, SeenVertices(photo, weight))
    colors = hidden + weight[:, None] * (photo - hidden)
    base = caster.with_attributes_of(replace(mesh, colors=torch.from_numpy(hidden), texture=None))
    front = _front(base, S_camera_object, view)
    faces = caster.faces
    # Of a large triangle the corners may be at a border, and its middle seen well.
    middle = _sampled(view.weight[..., None], px[faces].mean(axis=1))[:, 0]
    shown = visible[faces].all(axis=1) & (np.maximum(weight[faces].max(axis=1), middle) > 0)
    texture = photo_texture(front, px[faces], shown, caster.vertices[faces], colors[faces])
    like = mesh.vertices
    return replace(mesh, colors=torch.from_numpy(colors).to(like), texture=texture.to(like.device))


def _photo_view(
    rendering: Rendering, camera: Camera, image: npt.NDArray[np.uint8], mask: Mask, largest_px: int
) -> PhotoView | None:
    """The part of the photograph that the mesh covers; None where that shows nothing of the object."""
    if not (rendering.mask & mask).any():
        return None
    x0, y0, x1, y1 = rendering.box
    margin = 2 + math.ceil(_BORDER_PX + _FADE * max(x1 - x0, y1 - y0))  # the mask's border may be that far away
    x0, y0 = max(x0 - margin, 0), max(y0 - margin, 0)
    x1, y1 = min(x1 + margin, camera.width), min(y1 + margin, camera.height)
    window = (slice(y0, y1), slice(x0, x1))
    part = camera.crop(x0, y0, x1 - x0, y1 - y0)
    weight = _weight(rendering.depth[window], rendering.normals[window], part, mask[window])
    picture: Floats = image[window].astype(np.float32) / np.float32(255)
    ratio = largest_px / max(part.width, part.height)
    if ratio < 1:
        part = part.resize(max(1, round(part.width * ratio)), max(1, round(part.height * ratio)))
        both = torch.from_numpy(np.dstack([picture, weight])).permute(2, 0, 1)[None]
        small = F.interpolate(both, (part.height, part.width), mode="bilinear", antialias=True)[0]
        picture, weight = small[:3].permute(1, 2, 0).contiguous().numpy(), small[3].numpy()
    return PhotoView(part, picture, weight)


def _weight(depth: Floats, normals: Floats, camera: Camera, mask: Mask) -> Floats:
    """How far each pixel (h, w) counts: not at the mask's border, at grazing angles, beside steps of depth."""
    both = np.isfinite(depth) & mask
    y, x = np.nonzero(both)
    extent_px = max(float(np.ptp(x)), float(np.ptp(y))) + 1
    size = extent_px * float(np.median(depth[both])) / float(camera.K[0, 0])
    fade = _BORDER_PX, 2 * _BORDER_PX + _FADE * extent_px
    inside = _ramp(-signed_distance(mask), *fade)
    beside = _ramp(signed_distance(_depth_steps(depth, _STEP * size)), *fade)
    rays = camera.rays().numpy()[both]
    cosine = -(normals[both] * rays).sum(axis=1) / np.linalg.norm(rays, axis=1)
    weight = np.zeros(mask.shape, np.float32)
    weight[both] = (inside * beside)[both] * _ramp(cosine, *_GRAZING)
    return weight


def _depth_steps(depth: Floats, least: float) -> Mask:
    """Pixels (h, w) beside one whose depth differs by more; beside one that shows nothing there is no step."""
    steps = np.zeros(depth.shape, bool)
    with np.errstate(invalid="ignore"):
        down = np.abs(np.diff(depth, axis=0)) > least
        right = np.abs(np.diff(depth, axis=1)) > least
    steps[1:] |= down
    steps[:-1] |= down
    steps[:, 1:] |= right
    steps[:, :-1] |= right
    return steps


def _visible(caster: MeshCaster, S_camera_object: Sim3, px: Floats, view: PhotoView) -> Mask:
    """Vertices (V,) inside the part of the photograph that face the camera with nothing of the mesh in front."""
    eye = S_camera_object.inverse().translation.numpy().astype(np.float32)
    assert caster.normals is not None
    facing = (caster.normals * (eye - caster.vertices)).sum(axis=1) > 0
    with np.errstate(invalid="ignore"):
        inside = ((px >= 0) & (px <= (view.camera.width - 1, view.camera.height - 1))).all(axis=1)
    seen: Mask = facing & inside & caster.sees(caster.vertices, eye, _TOLERANCE * caster.longest_side())
    return seen


def _front(base: MeshCaster, S_camera_object: Sim3, view: PhotoView) -> Floats:
    """The photograph, faded into the colors of `base`, beyond the outline what is nearest (h, w, 3)."""
    rendering = base.render(S_camera_object, view.camera)
    assert rendering.colors is not None
    shown = rendering.colors + view.weight[..., None] * (view.image - rendering.colors)
    if not rendering.mask.any():
        return view.image
    return np.asarray(shown.reshape(-1, 3)[nearest_of(rendering.mask)])


def _sampled(image: Floats, px: Floats) -> Floats:
    """(N, C) of an image (h, w, C) at pixels (N, 2), linearly; that of the border outside."""
    height, width = image.shape[:2]
    place = torch.from_numpy(np.nan_to_num(px)) * torch.tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)]) - 1
    source = torch.from_numpy(image).permute(2, 0, 1)[None]
    found = F.grid_sample(source, place[None, None].float(), padding_mode="border", align_corners=True)
    return np.asarray(found[0, :, 0].T.numpy())


def _ramp(values: Floats, low: float, high: float) -> Floats:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)
