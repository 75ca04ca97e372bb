"""Random colors and materials: plastic, ceramic, metal, wood, cardboard, rubber, paper, skin of fruit."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from typing import Any

from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.material import Color, Material

# Common hues of packaging and household plastic: reds, oranges, yellows, greens, blues.
BRAND_HUES = (0.0, 0.01, 0.02, 0.98, 0.06, 0.09, 0.13, 0.15, 0.3, 0.38, 0.47, 0.55, 0.6, 0.64, 0.7, 0.8, 0.92)


def hsv(hue: float, saturation: float, value: float) -> Color:
    """Color of hue, saturation, value in [0, 1] (hue wraps)."""
    return colorsys.hsv_to_rgb(hue % 1.0, min(max(saturation, 0.0), 1.0), min(max(value, 0.0), 1.0))


def near(draws: Draws, color: Color, spread: float = 0.05) -> Color:
    """A color close to the given one."""
    return (
        min(max(color[0] + draws.uniform(-spread, spread), 0.0), 1.0),
        min(max(color[1] + draws.uniform(-spread, spread), 0.0), 1.0),
        min(max(color[2] + draws.uniform(-spread, spread), 0.0), 1.0),
    )


def bright(draws: Draws) -> Color:
    """A saturated color as of packaging or toys."""
    hue = draws.choice(BRAND_HUES) + draws.uniform(-0.02, 0.02)
    return hsv(hue, draws.uniform(0.6, 1.0), draws.uniform(0.45, 0.98))


def gray(draws: Draws) -> Color:
    """White, gray or black, barely tinted."""
    value = draws.choice(
        (draws.uniform(0.85, 0.97), draws.uniform(0.3, 0.8), draws.uniform(0.04, 0.2)), (0.5, 0.2, 0.3)
    )
    return hsv(draws.uniform(), draws.uniform(0, 0.06), value)


def muted(draws: Draws) -> Color:
    """A dull color as of ceramics and cloth."""
    return hsv(draws.uniform(), draws.uniform(0.1, 0.5), draws.uniform(0.3, 0.9))


def any_color(draws: Draws) -> Color:
    """Any of them."""
    return draws.choice((bright, gray, muted), (0.5, 0.3, 0.2))(draws)


def contrast(draws: Draws, color: Color) -> Color:
    """A color that stands out against the given one."""
    for _ in range(8):
        other = draws.choice((bright, gray), (0.6, 0.4))(draws)
        if sum(abs(a - b) for a, b in zip(color, other, strict=True)) > 0.9:
            return other
    return (0.05, 0.05, 0.05) if sum(color) > 1.5 else (0.95, 0.95, 0.95)


def plastic(draws: Draws, color: Color | None = None, **more: Any) -> Material:
    """Colored plastic, from satin to glossy."""
    values: dict[str, Any] = {
        "color": bright(draws) if color is None else color,
        "grain": draws.uniform(0, 0.04),
        "roughness": draws.uniform(0.15, 0.6),
        "reflectance": 0.045,
    }
    return Material(**{**values, **more})


def ceramic(draws: Draws, color: Color | None = None, **more: Any) -> Material:
    """Glazed ceramic or enamel."""
    values: dict[str, Any] = {
        "color": any_color(draws) if color is None else color,
        "grain": draws.uniform(0, 0.05),
        "roughness": draws.uniform(0.08, 0.35),
        "reflectance": draws.uniform(0.04, 0.07),
    }
    return Material(**{**values, **more})


def metal(draws: Draws, **more: Any) -> Material:
    """Steel, aluminium, sometimes brass or copper."""
    color = draws.choice(
        ((0.78, 0.78, 0.8), (0.6, 0.61, 0.63), (0.85, 0.7, 0.4), (0.8, 0.5, 0.38)), (0.5, 0.36, 0.1, 0.04)
    )
    values: dict[str, Any] = {
        "color": near(draws, color, 0.04),
        "grain": draws.uniform(0.0, 0.1),
        "roughness": draws.uniform(0.18, 0.5),
        "metallic": 1.0,
    }
    return Material(**{**values, **more})


def wood(draws: Draws, direction: tuple[float, float, float] = (0.0, 1.0, 0.0), **more: Any) -> Material:
    """Wood with rings; `direction` points across the grain."""
    light = hsv(draws.uniform(0.05, 0.11), draws.uniform(0.3, 0.65), draws.uniform(0.4, 0.85))
    values: dict[str, Any] = {
        "color": light,
        "second": (light[0] * 0.65, light[1] * 0.6, light[2] * 0.55),
        "pattern": "wood",
        "frequency": draws.uniform(4, 14),
        "amount": draws.uniform(0.3, 0.9),
        "phase": draws.uniform(),
        "direction": direction,
        "grain": draws.uniform(0.05, 0.15),
        "roughness": draws.uniform(0.4, 0.9),
    }
    return Material(**{**values, **more})


def cardboard(draws: Draws, color: Color | None = None, **more: Any) -> Material:
    """Printed or plain board and paper."""
    values: dict[str, Any] = {
        "color": any_color(draws) if color is None else color,
        "grain": draws.uniform(0.02, 0.08),
        "roughness": draws.uniform(0.35, 0.8),
        "reflectance": 0.04,
    }
    return Material(**{**values, **more})


def rubber(draws: Draws, color: Color | None = None, **more: Any) -> Material:
    """Matt rubber or foam, mostly dark."""
    dark = draws.choice((hsv(0.6, 0.1, draws.uniform(0.05, 0.2)), bright(draws)), (0.6, 0.4))
    values: dict[str, Any] = {
        "color": dark if color is None else color,
        "grain": draws.uniform(0.03, 0.15),
        "roughness": draws.uniform(0.6, 1.0),
        "reflectance": 0.03,
    }
    return Material(**{**values, **more})


def patterned(draws: Draws, base: Material, *, about_z: bool) -> Material:
    """Sometimes give a material a second color; `about_z` allows only patterns that depend on z and radius."""
    kinds = (
        ("plain", "gradient", "stripes", "rings")
        if about_z
        else ("plain", "gradient", "stripes", "checker", "mottle")
    )
    weights = (0.55, 0.2, 0.15, 0.1) if about_z else (0.5, 0.15, 0.15, 0.1, 0.1)
    kind = draws.choice(kinds, weights)
    if kind == "plain":
        return base
    phase = draws.uniform(-0.2, 0.2) if kind == "gradient" else draws.uniform()
    return replace(
        base,
        pattern=kind,
        second=contrast(draws, base.color),
        frequency=1.0 if kind == "gradient" else draws.uniform(1.5, 7.0),
        amount=draws.uniform(0.2, 0.6) if kind != "gradient" else draws.uniform(0.4, 1.0),
        phase=phase,
    )
