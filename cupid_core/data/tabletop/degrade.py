"""Degrades a rendered image and mask to what a robot's camera and segmentation deliver.

Order as in a camera: exposure and white balance, blur, low resolution, sensor noise, tone curve, 8 bits, JPEG,
then the crop is enlarged to the network's size and multiplied by a mask that is eroded, dilated, ragged, has holes
or includes some background. Everything is batched and differs per sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cupid_core.color_space import linear_to_srgb, power
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.jpeg import jpeg

Fields = NDArray[np.float32]
FIELD_CELLS = 24
# Samples at a time on a CPU, so that they stay in its cache.
CPU_CHUNK = 4
BLOBS = 4


@dataclass(frozen=True)
class DegradationDraw:
    """Random numbers of one sample's degradation.

    Attributes:
        native: pixels of the camera across the crop.
        blur: (2,) blur in camera pixels along x and y (standard deviation).
        exposure: root-mean-square brightness of the image, linear.
        balance: (3,) white-balance gains.
        tone: (contrast exponent, saturation, haze).
        noise: (shot, read) standard deviations at linear 1 and 0.
        quality: JPEG quality; 0 is none.
        pattern: (3, S, S) Gaussian sensor noise.
        mask: (blur in camera pixels, threshold, raggedness, edge softness).
        border_noise: (FIELD_CELLS, FIELD_CELLS) noise of the mask's border.
        blobs: (BLOBS, 4) center, radius, sign of holes (-1) and false patches (+1); 0 is none.
    """

    native: int
    blur: tuple[float, float]
    exposure: float
    balance: tuple[float, float, float]
    tone: tuple[float, float, float]
    noise: tuple[float, float]
    quality: float
    pattern: Fields
    mask: tuple[float, float, float, float]
    border_noise: Fields
    blobs: tuple[tuple[float, float, float, float], ...]


def draw_degradation(draws: Draws, size: int, strength: float) -> DegradationDraw:
    """Draw the degradation of one sample.

    Args:
        draws: the view's stream.
        size: edge of the image, pixels.
        strength: 0 switches everything off but resampling to full size; 1 is the usual amount.
    """
    native = min(size, round(draws.log_uniform(64, 400) * size / 128)) if strength > 0 else size
    blur = [draws.uniform(0.1, 0.45)] * 2
    if draws.chance(0.15):
        blur = [blur[0] + draws.uniform(0.2, 0.9)] * 2
    if draws.chance(0.08):  # motion
        blur[draws.integer(0, 1)] += draws.uniform(0.4, 1.5)
    balance = [math.exp(draws.normal(0, 0.09 * strength)) for _ in range(3)]
    blobs = []
    for _ in range(BLOBS):
        on = draws.chance(0.03 * strength)
        sign = draws.choice((-1.0, 1.0)) if on else 0.0
        blobs.append((draws.uniform(0.15, 0.85), draws.uniform(0.15, 0.85), draws.log_uniform(0.02, 0.1), sign))
    spread = 0.14 * strength
    ragged = draws.choice((0.03, 0.1, 0.25), (0.5, 0.4, 0.1)) * strength
    return DegradationDraw(
        native=native,
        blur=(blur[0] * strength, blur[1] * strength),
        exposure=0.27 * math.exp(draws.normal(0, 0.3 * strength)),
        balance=(balance[0], balance[1], balance[2]),
        tone=(
            math.exp(draws.normal(0, 0.12 * strength)),
            1 + draws.uniform(-0.35, 0.25) * strength,
            max(0.0, draws.uniform(-0.05, 0.08)) * strength,
        ),
        noise=(draws.log_uniform(0.003, 0.03) * strength, draws.log_uniform(0.001, 0.008) * strength),
        quality=draws.uniform(35, 97) if strength > 0 and draws.chance(0.75) else 0.0,
        pattern=draws.generator.standard_normal((3, size, size), dtype=np.float32),
        mask=(
            draws.log_uniform(0.5, 1.6) * strength,
            float(np.clip(draws.normal(0.47, spread), 0.12, 0.85)),
            ragged,
            draws.uniform(0.5, 1.0),
        ),
        border_noise=draws.generator.standard_normal((FIELD_CELLS, FIELD_CELLS), dtype=np.float32),
        blobs=tuple(blobs),
    )


def degrade(photo: Tensor, mask: Tensor, drawn: Sequence[DegradationDraw]) -> tuple[Tensor, Tensor]:
    """Degraded image and mask.

    Args:
        photo: (B, 3, S, S) linear color of object and background.
        mask: (B, 1, S, S) visible silhouette, 0..1.
        drawn: B degradations.

    Returns:
        (B, 3, S, S) sRGB in [0, 1], not yet masked, and (B, 1, S, S) the given mask in [0, 1].
    """
    width = CPU_CHUNK if photo.device.type == "cpu" else len(drawn)
    pieces = [
        _degrade_chunk(photo[i : i + width], mask[i : i + width], drawn[i : i + width])
        for i in range(0, len(drawn), width)
    ]
    return torch.cat([p for p, _ in pieces]), torch.cat([m for _, m in pieces])


def _degrade_chunk(photo: Tensor, mask: Tensor, drawn: Sequence[DegradationDraw]) -> tuple[Tensor, Tensor]:
    device, size = photo.device, photo.shape[-1]

    def column(values: list[object]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    native = column([d.native for d in drawn])
    down_x = shrink_matrix(size, native, column([d.blur[0] for d in drawn]))
    down_y = shrink_matrix(size, native, column([d.blur[1] for d in drawn]))
    up = enlarge_matrix(size, native)
    level = torch.sqrt((photo * photo).double().mean(dim=(1, 2, 3)).float()).clamp(min=1e-3)
    gain = column([d.exposure for d in drawn]) / level
    picture = photo * gain[:, None, None, None] * column([d.balance for d in drawn])[:, :, None, None]
    picture = down_y[:, None] @ picture @ down_x[:, None].transpose(2, 3)
    noise = torch.from_numpy(np.stack([d.pattern for d in drawn])).to(device)
    shot, read = column([d.noise[0] for d in drawn]), column([d.noise[1] for d in drawn])
    deviation = torch.sqrt(
        picture.clamp(0, 2) * (shot * shot)[:, None, None, None] + (read * read)[:, None, None, None]
    )
    picture = _tone(picture + noise * deviation, column([d.tone for d in drawn]))
    picture = torch.round(picture * 255) / 255
    picture = jpeg(picture, column([d.quality for d in drawn]))
    picture = (up[:, None] @ picture @ up[:, None].transpose(2, 3)).clamp(0, 1)
    return picture, _degrade_mask(mask, drawn, native, up)


def shrink_matrix(size: int, native: Tensor, blur: Tensor) -> Tensor:
    """Blur and resample lines of `size` pixels to `native` ones: (B, size, size); rows beyond repeat the last.

    Each camera pixel is the mean under a Gaussian of the given deviation (camera pixels), joined with its own
    width.
    """
    pitch = size / native
    sigma = pitch * torch.sqrt(blur * blur + 0.08) * (native < size) + blur * (native >= size)
    row = torch.minimum(torch.arange(size, device=native.device)[None], native[:, None] - 1)
    center = (row + 0.5) * pitch[:, None] - 0.5
    offset = torch.arange(size, device=native.device)[None, None] - center[..., None]
    weight = torch.exp(-0.5 * (offset / sigma.clamp(min=0.12)[:, None, None]) ** 2)
    return weight / weight.sum(dim=2, keepdim=True).clamp(min=1e-20)


def enlarge_matrix(size: int, native: Tensor) -> Tensor:
    """Bilinear enlargement of the first `native` of `size` pixels to all: (B, size, size)."""
    place = (torch.arange(size, device=native.device)[None] + 0.5) * (native / size)[:, None] - 0.5
    place = torch.minimum(place.clamp(min=0), native[:, None] - 1)
    offset = (torch.arange(size, device=native.device)[None, None] - place[..., None]).abs()
    return (1 - offset).clamp(min=0)


def _tone(linear: Tensor, tone: Tensor) -> Tensor:
    """Camera curve: soft highlights, sRGB, contrast, saturation, haze."""
    soft = torch.where(linear > 0.8, 0.8 + 0.35 * torch.tanh((linear - 0.8) / 0.5), linear)
    picture = power(linear_to_srgb(soft), tone[:, 0, None, None, None])
    gray = (0.299 * picture[:, 0] + 0.587 * picture[:, 1] + 0.114 * picture[:, 2])[:, None]
    picture = gray + (picture - gray) * tone[:, 1, None, None, None]
    haze = tone[:, 2, None, None, None]
    return (picture * (1 - haze) + haze).clamp(0, 1)


def _degrade_mask(mask: Tensor, drawn: Sequence[DegradationDraw], native: Tensor, up: Tensor) -> Tensor:
    """Shift the border of a mask, roughen it and add holes at the camera's resolution, then enlarge the mask."""
    device, size = mask.device, mask.shape[-1]
    numbers = torch.tensor([d.mask for d in drawn], dtype=torch.float32, device=device)
    down = shrink_matrix(size, native, numbers[:, 0])
    small = down @ mask[:, 0] @ down.transpose(1, 2)
    border_noise = torch.from_numpy(np.stack([d.border_noise for d in drawn])).to(device)
    # Cells of the border noise are a few camera pixels wide; the same field serves every size.
    cell = enlarge_matrix(size, torch.full_like(native, FIELD_CELLS))[:, :, :FIELD_CELLS]
    frayed = small + numbers[:, 2, None, None] * (cell @ border_noise @ cell.transpose(1, 2))
    steady = torch.where((small > 0.02) & (small < 0.98), frayed, small)
    given = (steady > numbers[:, 1, None, None]).to(mask.dtype)
    place = (torch.arange(size, device=device)[None] + 0.5) / native[:, None]
    for blob in range(BLOBS):
        b = torch.tensor([d.blobs[blob] for d in drawn], dtype=torch.float32, device=device)
        apart = (place[:, None] - b[:, 0, None, None]) ** 2 + (place[:, :, None] - b[:, 1, None, None]) ** 2
        inside = (apart < (b[:, 2] ** 2)[:, None, None]) & (b[:, 3] != 0)[:, None, None]
        given = torch.where(inside, (b[:, 3, None, None] > 0).to(given.dtype).expand_as(given), given)
    return (up @ given @ up.transpose(1, 2)).clamp(0, 1)[:, None]
