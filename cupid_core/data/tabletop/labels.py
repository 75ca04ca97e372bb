"""Printed label sheets: the layout of front, back, sides and top of packages, and of labels.

Makes one RGBA atlas of 2 x 3 square tiles per object.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.material import Color
from cupid_core.data.tabletop.palette import bright, contrast, gray, near
from cupid_core.data.tabletop.print_marks import (
    TILE,
    Picture,
    band,
    barcode,
    blank,
    ink,
    logo,
    outline,
    patch,
    photo,
    small_print,
    table,
    word,
    write,
)

FACES = ("front", "back", "left", "right", "top", "bottom")


def front(draws: Draws, base: Color, width: int = TILE) -> Picture:
    """The front: brand word, bands, logo, picture."""
    tile = blank(base, width)
    accent, text = contrast(draws, base), contrast(draws, base)
    if draws.chance(0.5):
        cut = draws.uniform(0.3, 0.75)
        upper = draws.chance(0.5)
        rows = slice(0, int(TILE * cut)) if upper else slice(int(TILE * cut), TILE)
        tile[rows] = ink(bright(draws) if draws.chance(0.7) else gray(draws))
    for _ in range(draws.integer(0, 2)):
        band(tile, draws, draws.choice((accent, bright(draws))))
    if draws.chance(0.12):
        patch(tile, draws)
    if draws.chance(0.65):
        top = draws.uniform(0.4, 0.6)
        photo(
            tile, (draws.uniform(0.1, 0.3), top, draws.uniform(0.7, 0.9), top + draws.uniform(0.15, 0.35)), draws
        )
    if draws.chance(0.6):
        logo(tile, (draws.uniform(0.15, 0.85), draws.uniform(0.15, 0.85)), draws.uniform(0.06, 0.2), accent, draws)
    y = draws.uniform(0.05, 0.35)
    margin = draws.uniform(0.02, 0.12)
    tall = draws.uniform(0.16, 0.32)
    if draws.chance(0.95):
        write(tile, word(draws), (margin, y, 1 - margin, y + tall), text, draws)
    at = y + tall + draws.uniform(0.03, 0.1)
    for _ in range(draws.integer(0, 3)):  # the lines below the brand: kind, flavour, weight
        left, high = draws.uniform(0.05, 0.4), draws.uniform(0.05, 0.13)
        color = draws.choice((text, contrast(draws, base), bright(draws)))
        write(tile, word(draws, 2, 5), (left, at, left + draws.uniform(0.3, 0.55), at + high), color, draws)
        at += high + draws.uniform(0.02, 0.08)
    if draws.chance(0.35):  # a burst or coupon in a corner
        corner = (draws.choice((0.12, 0.88)), draws.uniform(0.6, 0.92))
        logo(tile, corner, draws.uniform(0.06, 0.12), contrast(draws, base), draws)
    if draws.chance(0.5):
        small_print(tile, (0.08, draws.uniform(0.8, 0.9), 0.92, 0.98), text, draws)
    return tile


def side(draws: Draws, base: Color) -> Picture:
    """A narrow side: facts, barcode, small brand."""
    tile = blank(base if draws.chance(0.7) else near(draws, base, 0.15))
    text = contrast(draws, base)
    if draws.chance(0.6):
        table(tile, (0.12, draws.uniform(0.1, 0.3), 0.88, draws.uniform(0.5, 0.75)), draws)
    else:
        small_print(tile, (0.1, 0.25, 0.9, 0.7), text, draws)
    if draws.chance(0.7):
        write(tile, word(draws), (0.1, 0.04, 0.9, 0.16), text, draws)
    if draws.chance(0.5):
        barcode(tile, (0.2, 0.8, 0.8, 0.94), draws)
    return tile


def back(draws: Draws, base: Color) -> Picture:
    """The back: mostly text."""
    tile = blank(base)
    text = contrast(draws, base)
    write(tile, word(draws), (0.1, 0.04, 0.9, 0.14), text, draws)
    small_print(tile, (0.08, 0.2, 0.5, 0.8), text, draws)
    table(tile, (0.54, 0.22, 0.94, 0.75), draws)
    barcode(tile, (0.6, 0.82, 0.92, 0.95), draws)
    return tile


def lid(draws: Draws, base: Color) -> Picture:
    """Top of a package."""
    tile = blank(base if draws.chance(0.6) else bright(draws))
    if draws.chance(0.7):
        write(tile, word(draws), (0.1, 0.2, 0.6, 0.7), contrast(draws, base), draws)
    if draws.chance(0.4):
        logo(tile, (0.8, 0.5), 0.2, contrast(draws, base), draws)
    return tile


def assemble(tiles: dict[str, Picture]) -> Picture:
    """Put tiles of `FACES` together into one atlas (2 TILE, 3 TILE, 4); missing ones are transparent."""
    sheet = np.zeros((2 * TILE, 3 * TILE, 4), np.uint8)
    for number, name in enumerate(FACES):
        if name in tiles:
            row, column = divmod(number, 3)
            sheet[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] = tiles[name]
    return sheet


def package(draws: Draws, base: Color) -> Picture:
    """All six faces of a printed box."""
    plain = draws.chance(0.3)
    makers: dict[str, Callable[[Draws, Color], Picture]] = {
        "front": front,
        "back": back,  # never a second front: the canonical azimuth must be recognizable
        "left": side,
        "right": side,
        "top": lid,
        "bottom": lid,
    }
    skip = {"bottom"} | ({"left", "right"} if plain else set())
    return assemble({name: maker(draws, base) for name, maker in makers.items() if name not in skip})


def wrap(draws: Draws, base: Color, lid_color: Color | None = None) -> Picture:
    """A label that goes all the way round (upper row), front in its middle, and perhaps a printed lid."""
    strip = blank(base, 3 * TILE)
    strip[:, :TILE] = side(draws, base)
    strip[:, 2 * TILE :] = side(draws, base) if draws.chance(0.5) else back(draws, base)
    for _ in range(draws.integer(0, 2)):
        band(strip, draws, contrast(draws, base))
    strip[:, TILE - 8 : 2 * TILE + 8] = front(draws, base, TILE + 16)
    sheet = np.zeros((2 * TILE, 3 * TILE, 4), np.uint8)
    sheet[:TILE] = strip
    if lid_color is not None:
        sheet[TILE:, TILE : 2 * TILE] = lid(draws, lid_color)
    return sheet


def decal(draws: Draws, base: Color | None) -> Picture:
    """One label of box, oval or shield outline on a transparent ground, or (base None) sometimes only a word."""
    if base is None and draws.chance(0.4):
        tile = blank(None)
        write(tile, word(draws), (0.1, 0.35, 0.9, 0.6), draws.choice((bright(draws), gray(draws))), draws)
        return tile
    tile = front(draws, base if base is not None else bright(draws))
    tile[..., 3] = outline(draws)
    return tile


def sticker(draws: Draws, base: Color | None) -> Picture:
    """A decal in front and small print at the back."""
    rear = back(draws, base if base is not None else gray(draws))
    rear[..., 3] = outline(draws)
    tiles = {"front": decal(draws, base)}
    return assemble({**tiles, "back": rear} if draws.chance(0.6) else tiles)


def cheeks(draws: Draws, base: Color | None) -> Picture:
    """Decals on both sides, +y and -y, as on mugs whose handle is at +x."""
    tiles = {"left": decal(draws, base)}
    return assemble({**tiles, "right": decal(draws, base)} if draws.chance(0.6) else tiles)
