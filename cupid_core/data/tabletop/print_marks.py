"""Marks that printers put on packages: words, small print, barcodes, tables, logos, pictures of food, bands.

Drawn into RGBA tiles with OpenCV.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.material import Color
from cupid_core.data.tabletop.palette import contrast, hsv, near

Picture = NDArray[np.uint8]
TILE = 128
FONTS = (
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
CONSONANTS, VOWELS = "BCDFGHKLMNPRSTVZ", "AEIOUY"


def word(draws: Draws, low: int = 2, high: int = 3) -> str:
    """A pronounceable invented word."""
    text = "".join(
        draws.choice(CONSONANTS) + draws.choice(VOWELS) for _ in range(draws.integer(low, high))
    ) + draws.choice(("", "N", "S", "T", "X", "RO"))
    return draws.choice((text, text.capitalize(), text.lower()), (0.6, 0.3, 0.1))


def ink(color: Color) -> tuple[int, int, int, int]:
    """Opaque 8-bit RGBA of a color."""
    return int(color[0] * 255), int(color[1] * 255), int(color[2] * 255), 255


def blank(color: Color | None, width: int = TILE) -> Picture:
    """One tile of a color, or transparent."""
    tile = np.zeros((TILE, width, 4), np.uint8)
    if color is not None:
        tile[:] = ink(color)
    return tile


def write(tile: Picture, text: str, box: tuple[float, float, float, float], color: Color, draws: Draws) -> None:
    """Write text to fill a box (x0, y0, x1, y1) in tile widths and heights, sometimes with an outline."""
    height, width = tile.shape[:2]
    x0, y0, x1, y1 = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    font = draws.choice(FONTS, (0.45, 0.2, 0.15, 0.1, 0.1))
    (w, h), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = min((x1 - x0) / max(w, 1), (y1 - y0) / max(h, 1))
    weight = max(1, round(scale * draws.uniform(1.5, 6.0)))
    origin = (round((x0 + x1 - w * scale) / 2), round((y0 + y1 + h * scale) / 2))
    if draws.chance(0.3):
        outline = ink(contrast(draws, color))
        cv2.putText(tile, text, origin, font, scale, outline, weight + 2, cv2.LINE_AA)
    cv2.putText(tile, text, origin, font, scale, ink(color), weight, cv2.LINE_AA)


def small_print(tile: Picture, box: tuple[float, float, float, float], color: Color, draws: Draws) -> None:
    """Rows of marks that look like text too small to read."""
    height, width = tile.shape[:2]
    pitch = draws.uniform(3.5, 7.0)
    y = box[1] * height
    while y < box[3] * height - 2:
        x = box[0] * width
        end = box[2] * width - draws.uniform(0, 0.3) * (box[2] - box[0]) * width
        while x < end:
            length = draws.uniform(2, 9)
            cv2.line(tile, (int(x), int(y)), (int(min(x + length, end)), int(y)), ink(color), 1)
            x += length + 2
        y += pitch


def barcode(tile: Picture, box: tuple[float, float, float, float], draws: Draws) -> None:
    """Black bars on white."""
    height, width = tile.shape[:2]
    x0, y0, x1, y1 = int(box[0] * width), int(box[1] * height), int(box[2] * width), int(box[3] * height)
    cv2.rectangle(tile, (x0, y0), (x1, y1), (250, 250, 250, 255), -1)
    x = x0 + 2
    while x < x1 - 2:
        bar = draws.integer(1, 2)
        cv2.rectangle(tile, (x, y0 + 2), (x + bar - 1, y1 - 2), (10, 10, 10, 255), -1)
        x += bar + draws.integer(1, 2)


def table(tile: Picture, box: tuple[float, float, float, float], draws: Draws) -> None:
    """A framed table of facts."""
    height, width = tile.shape[:2]
    x0, y0, x1, y1 = int(box[0] * width), int(box[1] * height), int(box[2] * width), int(box[3] * height)
    cv2.rectangle(tile, (x0, y0), (x1, y1), (245, 245, 240, 255), -1)
    cv2.rectangle(tile, (x0, y0), (x1, y1), (20, 20, 20, 255), 1)
    small_print(tile, (box[0] + 0.03, box[1] + 0.05, box[2] - 0.02, box[3]), (0.1, 0.1, 0.1), draws)


def logo(tile: Picture, center: tuple[float, float], radius: float, color: Color, draws: Draws) -> None:
    """A disc, shield, star or ring with something in it."""
    height, width = tile.shape[:2]
    middle = (round(center[0] * width), round(center[1] * height))
    size = max(3, round(radius * height))
    kind = draws.integer(0, 3)
    if kind == 0:
        axes = (round(size * draws.uniform(1.0, 1.8)), size)
        cv2.ellipse(tile, middle, axes, 0, 0, 360, ink(color), -1, cv2.LINE_AA)
    elif kind == 1:
        cv2.circle(tile, middle, size, ink(color), max(1, size // 4), cv2.LINE_AA)
    else:
        count = draws.integer(3, 8) * (2 if kind == 3 else 1)
        angles = np.arange(count) * 2 * np.pi / count + draws.uniform(0, 6)
        lengths = np.where(np.arange(count) % 2, 0.55, 1.0) if kind == 3 else np.ones(count)
        corners = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (size * lengths)[:, None] + middle
        cv2.fillPoly(tile, [corners.astype(np.int32)], ink(color), cv2.LINE_AA)
    if draws.chance(0.5):
        inside = (
            center[0] - radius * 0.8 * height / width,
            center[1] - radius * 0.4,
            center[0] + radius * 0.8 * height / width,
            center[1] + radius * 0.4,
        )
        write(tile, word(draws, 1, 2), inside, contrast(draws, color), draws)


def photo(tile: Picture, box: tuple[float, float, float, float], draws: Draws) -> None:
    """A heap of shaded blobs, like a photograph of what is in the package."""
    height, width = tile.shape[:2]
    base = hsv(draws.uniform(0.0, 0.15) if draws.chance(0.7) else draws.uniform(), draws.uniform(0.4, 0.9), 0.8)
    low, high = (box[0] * width, box[1] * height), (box[2] * width, box[3] * height)
    size = (high[1] - low[1]) * draws.uniform(0.15, 0.35)
    square = draws.chance(0.4)
    for _ in range(draws.integer(4, 14)):
        at = (draws.uniform(low[0], high[0]), draws.uniform(low[1], high[1]))
        shade = draws.uniform(0.6, 1.15)
        tint = near(draws, (base[0] * shade, base[1] * shade, base[2] * shade), 0.06)
        dark = (tint[0] * 0.55, tint[1] * 0.5, tint[2] * 0.45)
        angle = draws.uniform(0, 180)
        if square:
            corners = cv2.boxPoints((at, (size * 2, size * 1.6), angle)).astype(np.int32)
            cv2.fillPoly(tile, [corners], ink(tint), cv2.LINE_AA)
            cv2.polylines(tile, [corners], True, ink(dark), 1, cv2.LINE_AA)
        else:
            middle, axes = (int(at[0]), int(at[1])), (max(2, int(size)), max(2, int(size * draws.uniform(0.5, 1))))
            cv2.ellipse(tile, middle, axes, angle, 0, 360, ink(dark), -1, cv2.LINE_AA)
            inner = (max(1, axes[0] - 2), max(1, axes[1] - 2))
            cv2.ellipse(tile, (middle[0] - 1, middle[1] - 1), inner, angle, 0, 360, ink(tint), -1, cv2.LINE_AA)


def patch(tile: Picture, draws: Draws) -> None:
    """Color noise of several scales over a part of the tile, like a picture at a distance."""
    height, width = tile.shape[:2]
    y0, x0 = int(draws.uniform(0, 0.5) * height), int(draws.uniform(0, 0.5) * width)
    y1, x1 = int(draws.uniform(0.6, 1.0) * height), int(draws.uniform(0.6, 1.0) * width)
    cells = draws.integer(2, 7)
    coarse = draws.generator.integers(0, 256, size=(cells, cells, 3)).astype(np.uint8)
    tile[y0:y1, x0:x1, :3] = cv2.resize(coarse, (x1 - x0, y1 - y0), interpolation=cv2.INTER_CUBIC)
    tile[y0:y1, x0:x1, 3] = 255


def band(tile: Picture, draws: Draws, color: Color) -> None:
    """A straight, slanted or curved band of color across the tile."""
    height, width = tile.shape[:2]
    y, thick = draws.uniform(0, 1) * height, max(2, int(draws.uniform(0.04, 0.4) * height))
    slant = draws.choice((0.0, draws.uniform(-0.3, 0.3))) * height
    if draws.chance(0.25):
        middle = (width // 2, int(y + height * 0.9))
        cv2.ellipse(tile, middle, (int(width * 0.9), height), 0, 180, 360, ink(color), thick, cv2.LINE_AA)
    else:
        cv2.line(tile, (0, int(y - slant)), (width, int(y + slant)), ink(color), thick, cv2.LINE_AA)


def outline(draws: Draws) -> Picture:
    """Opacity of a label: rounded box, ellipse or shield (TILE, TILE)."""
    mask = np.zeros((TILE, TILE), np.uint8)
    low, high = int(draws.uniform(0.0, 0.08) * TILE), int(draws.uniform(0.92, 1.0) * TILE)
    kind = draws.integer(0, 2)
    if kind == 0:
        cv2.ellipse(mask, (TILE // 2, TILE // 2), (TILE // 2 - low, TILE // 2 - low), 0, 0, 360, 255, -1)
    elif kind == 1:
        cv2.rectangle(mask, (low, low), (high, high), 255, -1)
    else:
        corners = np.array(
            [(low, low), (high, low), (high, int(0.7 * TILE)), (TILE // 2, high), (low, int(0.7 * TILE))]
        )
        cv2.fillPoly(mask, [corners.astype(np.int32)], 255)
    return mask
