"""Light: environment, one to three lamps with soft shadows, diffuse and glossy reflection, ambient occlusion.

Works in linear color in the object frame. Gloss is the GGX microfacet model (B. Walter et al., 2007) with
Schlick's Fresnel term; shadows and ambient occlusion march through the corner grid of distances, which is exact
enough for soft light.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cupid_core.data.tabletop.draws import Draws

LAMPS = 3
SHADOW_STEPS = 10
Field = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LightDraw:
    """Random light of one view; colors are linear radiance, directions unit vectors in the camera frame.

    Attributes:
        sky, ground: (3,) environment from above and below.
        side: (3,) brighter direction of the environment, camera frame; its length is the strength.
        lamps: (LAMPS, 3) directions towards the lamps.
        colors: (LAMPS, 3); zero for lamps that are off.
        softness: apparent size of the lamps, radians.
    """

    sky: tuple[float, ...]
    ground: tuple[float, ...]
    side: tuple[float, ...]
    lamps: tuple[tuple[float, ...], ...]
    colors: tuple[tuple[float, ...], ...]
    softness: float


@dataclass(frozen=True)
class Lights:
    """Light of V views in the object frame: tensors of `LightDraw` with a leading V, and the table's normal."""

    sky: Tensor
    ground: Tensor
    side: Tensor
    lamps: Tensor
    colors: Tensor
    softness: Tensor
    up: Tensor


def draw_light(draws: Draws) -> LightDraw:
    """Draw the light of one view: mostly soft rooms, sometimes a hard lamp."""
    warm = draws.normal(0, 0.08)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    ambient = draws.uniform(0.35, 0.9)
    sky = ambient * tint * draws.uniform(0.9, 1.1)
    ground = ambient * draws.uniform(0.2, 0.8) * np.array([draws.uniform(0.8, 1.2) for _ in range(3)])
    side = draws.direction() * draws.uniform(0, 0.5)
    count = draws.choice((1, 2, 3), (0.5, 0.35, 0.15))
    lamps, colors = [], []
    for i in range(LAMPS):
        direction = draws.direction()
        direction[1] = -abs(direction[1])
        direction[2] = -abs(direction[2]) if draws.chance(0.75) else direction[2]
        strength = draws.uniform(0.2, 1.3) * (0.7**i) if i < count else 0.0
        hue = np.array([1 + draws.normal(0, 0.06), 1.0, 1 + draws.normal(0, 0.06)])
        lamps.append(tuple(float(a) for a in direction))
        colors.append(tuple(float(a) for a in strength * tint * hue))
    return LightDraw(
        tuple(float(a) for a in sky),
        tuple(float(a) for a in ground),
        tuple(float(a) for a in side),
        tuple(lamps),
        tuple(colors),
        draws.log_uniform(0.06, 0.5),
    )


def build_lights(drawn: Sequence[LightDraw], rotation: Tensor, up: Tensor) -> Lights:
    """Transform the lights of V views into the object frame.

    Args:
        drawn: V lights.
        rotation: (V, 3, 3) R_camera_object.
        up: (V, 3) table normal, object frame.
    """

    def stack(values: list[object]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=rotation.device)

    lamps = stack([d.lamps for d in drawn])
    lamps = (rotation[:, None] * lamps[..., None]).sum(dim=2)
    # Lamps are above the table.
    low = (lamps * up[:, None]).sum(dim=2, keepdim=True)
    lamps = lamps + up[:, None] * (0.25 - low).clamp(min=0) * 1.3
    lamps = lamps / torch.linalg.norm(lamps, dim=2, keepdim=True)
    side = (rotation * stack([d.side for d in drawn])[..., None]).sum(dim=1)
    return Lights(
        stack([d.sky for d in drawn]),
        stack([d.ground for d in drawn]),
        side,
        lamps,
        stack([d.colors for d in drawn]),
        stack([d.softness for d in drawn]),
        up,
    )


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product over the leading axis of length 3."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def shade(
    points: Tensor,
    normal: Tensor,
    towards_eye: Tensor,
    surface: tuple[Tensor, Tensor],
    lights: Lights,
    *,
    field: Field,
) -> Tensor:
    """Outgoing linear color (3, V, N) of surface points.

    Args:
        points: (3, V, N) canonical.
        normal: (3, V, N) unit.
        towards_eye: (3, V, N) unit.
        surface: linear albedo (3, V, N) and (3, V, N) of reflectance, roughness, metallic.
        lights: of V views.
        field: distance (V, N) at points (3, V, N), for shadows.
    """
    albedo, gloss = surface
    roughness, metallic = gloss[1].clamp(0.05, 1.0), gloss[2]
    mirror = gloss[0] * (1 - metallic) + albedo * metallic  # (3, V, N) reflectance at normal incidence
    occlusion = ambient_occlusion(points, normal, field)
    facing = dot(normal, towards_eye).clamp(min=0.02)
    diffuse = albedo * (1 - metallic) * environment(normal, lights, torch.ones_like(facing)) * occlusion
    reflected = 2 * facing * normal - towards_eye
    fresnel = mirror + (torch.maximum(1 - roughness, mirror) - mirror) * _fifth(1 - facing)
    shine = fresnel * environment(reflected, lights, roughness) * occlusion
    color = diffuse + shine
    for number in range(LAMPS):
        lamp = lights.lamps[:, number].T[..., None]
        radiance = lights.colors[:, number].T[..., None]
        if not bool((radiance > 0).any()):
            continue
        incidence = dot(normal, lamp)
        # Only the key lamp casts shadows through the object; the others are large and soft.
        lit = (
            soft_shadow(points, normal, lamp, lights.softness, field)
            if number == 0
            else torch.ones_like(incidence)
        )
        color = color + radiance * lit * (
            albedo * (1 - metallic) * incidence.clamp(min=0)
            + _ggx(normal, lamp, towards_eye, (incidence, facing, roughness), mirror)
        )
    return color


def environment(direction: Tensor, lights: Lights, roughness: Tensor) -> Tensor:
    """Radiance (3, V, N) from a direction, blurred by roughness (1: the cosine lobe of a diffuse surface)."""
    height = dot(direction, lights.up.T[..., None])
    sharp = 1.0 + 4.0 * (1 - roughness)
    share = 1 / (1 + torch.exp(-2.5 * sharp * height))
    sky, ground = lights.sky.T[..., None], lights.ground.T[..., None]
    glow = dot(direction, lights.side.T[..., None])
    # Large light areas (windows, ceilings) are reflected in glossy surfaces: the lamps widened by roughness.
    color = (ground + (sky - ground) * share) * (1 + glow)
    if bool((roughness < 0.999).any()):
        for number in range(LAMPS):
            lamp = lights.lamps[:, number].T[..., None]
            wide = 1.0 / (0.02 + 0.5 * roughness * roughness)
            spot = torch.exp((dot(direction, lamp) - 1) * wide)
            color = color + 0.35 * lights.colors[:, number].T[..., None] * spot
    return color


def _fifth(base: Tensor) -> Tensor:
    square = base * base
    return square * square * base


def _ggx(
    normal: Tensor, lamp: Tensor, eye: Tensor, angles: tuple[Tensor, Tensor, Tensor], mirror: Tensor
) -> Tensor:
    """Specular lobe times cosine, (3, V, N), scaled so that diffuse albedo 1 reflects radiance 1."""
    incidence, facing, roughness = angles
    half = lamp + eye
    half = half / torch.sqrt(dot(half, half)).clamp(min=1e-6)
    alpha = roughness * roughness
    nh, vh = dot(normal, half).clamp(min=0), dot(eye, half).clamp(min=0)
    spread = nh * nh * (alpha * alpha - 1) + 1
    peak = alpha * alpha / (spread * spread).clamp(min=1e-7)
    k = alpha / 2
    cosine = incidence.clamp(min=0)
    visible = 1 / ((facing * (1 - k) + k) * (cosine * (1 - k) + k) * 4).clamp(min=1e-4)
    fresnel = mirror + (1 - mirror) * _fifth(1 - vh)
    return (fresnel * (peak * visible * cosine)).clamp(max=6.0)


def ambient_occlusion(points: Tensor, normal: Tensor, field: Field) -> Tensor:
    """Share of the environment that reaches the points (V, N), from distances along the normal."""
    blocked = torch.zeros_like(points[0])
    for reach, weight in ((0.04, 0.45), (0.1, 0.35), (0.2, 0.2)):
        blocked = blocked + weight * (1 - field(points + normal * reach) / reach).clamp(0, 1)
    return 1 - 0.75 * blocked


def soft_shadow(points: Tensor, normal: Tensor, lamp: Tensor, softness: Tensor, field: Field) -> Tensor:
    """Share of a lamp that is visible (V, N): the narrowest passage on the way, over the lamp's apparent size."""
    travel = torch.full_like(points[0], 0.035)
    visible = torch.ones_like(travel)
    start = points + normal * 0.02
    wide = torch.tan(softness)[:, None]
    for _ in range(SHADOW_STEPS):
        free = field(start + lamp * travel)
        visible = torch.minimum(visible, 0.5 + 0.5 * free / (wide * travel))
        travel = travel + free.clamp(0.03, 0.15)
    visible = visible.clamp(0, 1)
    return visible * visible * (3 - 2 * visible)
