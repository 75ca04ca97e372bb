"""Degradation: bounded, off when switched off, monotone in its strengths; JPEG and resampling keep their laws."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from cupid_core.color_space import linear_to_srgb, srgb_to_linear
from cupid_core.data.tabletop import TabletopSettings, sample_tabletop
from cupid_core.data.tabletop.degrade import degrade, draw_degradation, enlarge_matrix, shrink_matrix
from cupid_core.data.tabletop.depth_sensor import DepthSensor, measure
from cupid_core.data.tabletop.draws import Draws
from cupid_core.data.tabletop.jpeg import jpeg

SIZE = 64


def picture(seed=0):
    """A smooth random sRGB picture (1, 3, SIZE, SIZE)."""
    noise = np.random.default_rng(seed).uniform(0.1, 0.9, size=(8, 8, 3)).astype(np.float32)
    large = cv2.resize(noise, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(large).permute(2, 0, 1)[None].clamp(0, 1).contiguous()


def disc():
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return (((x - 31.5) ** 2 + (y - 31.5) ** 2) < 20**2).float()[None, None]


def test_degraded_pictures_and_masks_stay_within_bounds():
    drawn = [draw_degradation(Draws(1, i), SIZE, 2.0) for i in range(24)]
    photo = srgb_to_linear(picture()).expand(24, 3, SIZE, SIZE) * 3
    degraded, mask = degrade(photo, disc().expand(24, 1, SIZE, SIZE), drawn)
    for result in (degraded, mask):
        assert torch.isfinite(result).all()
        assert result.min() >= 0 and result.max() <= 1


def test_without_strength_only_exposure_changes():
    drawn = draw_degradation(Draws(1, 2), SIZE, 0.0)
    clean = picture()
    linear = srgb_to_linear(clean)
    level = torch.sqrt((linear**2).mean())
    degraded, mask = degrade(linear, disc(), [drawn])
    torch.testing.assert_close(degraded, linear_to_srgb(linear * drawn.exposure / level), atol=0.02, rtol=0)
    assert ((mask > 0.5) != (disc() > 0.5)).float().mean() < 0.002


@pytest.mark.parametrize("name", ["blur", "noise", "quality", "native"])
def test_more_of_it_loses_more(name):
    base = draw_degradation(Draws(1, 2), SIZE, 0.0)
    weak, strong = {
        "blur": ((0.3, 0.3), (2.0, 2.0)),
        "noise": ((0.005, 0.005), (0.08, 0.02)),
        "quality": (95.0, 15.0),
        "native": (56, 20),
    }[name]
    linear = srgb_to_linear(picture(3))
    reference, _ = degrade(linear, disc(), [base])
    errors = []
    for value in (weak, strong):
        degraded, _ = degrade(linear, disc(), [dataclasses.replace(base, **{name: value})])
        errors.append(float((degraded - reference).square().mean()))
    assert 0 < errors[0] < errors[1]


def test_mask_errors_shift_the_border_both_ways_but_keep_the_object():
    drawn = [draw_degradation(Draws(2, i), SIZE, 1.0) for i in range(60)]
    mask = disc().expand(60, 1, SIZE, SIZE)
    _, given = degrade(torch.full((60, 3, SIZE, SIZE), 0.3), mask, drawn)
    found = given > 0.5
    truth = mask > 0.5
    overlap = (found & truth).flatten(1).sum(1) / (found | truth).flatten(1).sum(1)
    assert overlap.median() > 0.88 and overlap.min() > 0.6 and overlap.median() < 0.999
    area = found.flatten(1).sum(1) / truth.flatten(1).sum(1)
    assert (area > 1.01).any() and (area < 0.99).any()


def test_the_background_is_visible_only_inside_the_mask():
    settings = TabletopSettings(image_size=64, resolution=12)
    batch = sample_tabletop(range(6), settings, seed=2)
    alpha = batch.image[:, 3:]
    torch.testing.assert_close(batch.image[:, :3], batch.photo * alpha)
    assert (batch.image[:, :3][(alpha == 0).expand(-1, 3, -1, -1)] == 0).all()


def test_jpeg_follows_the_real_codec():
    clean = picture(5)
    for quality in (90, 60, 30):
        eight = np.ascontiguousarray(np.round(clean[0].permute(1, 2, 0).numpy()[..., ::-1] * 255)).astype(np.uint8)
        _, coded = cv2.imencode(".jpg", eight, [cv2.IMWRITE_JPEG_QUALITY, quality])
        real = torch.from_numpy(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1].copy()).permute(2, 0, 1) / 255
        ours = jpeg(clean, torch.tensor([float(quality)]))[0]
        assert (ours - real).abs().mean() < 0.012, f"quality {quality}"


def test_jpeg_quality_zero_is_off_and_qualities_do_not_mix():
    both = torch.cat([picture(1), picture(2)])
    result = jpeg(both, torch.tensor([0.0, 20.0]))
    assert torch.equal(result[0], both[0])
    torch.testing.assert_close(result[1:], jpeg(both[1:], torch.tensor([20.0])))


@pytest.mark.parametrize("native", [64, 40, 17])
def test_resampling_keeps_constants_and_straight_ramps(native):
    many = torch.tensor([float(native)])
    down, up = shrink_matrix(SIZE, many, torch.tensor([0.4])), enlarge_matrix(SIZE, many)
    torch.testing.assert_close(down.sum(dim=2), torch.ones(1, SIZE))
    torch.testing.assert_close(up.sum(dim=2), torch.ones(1, SIZE))
    ramp = torch.arange(SIZE, dtype=torch.float32)[None, :, None]
    again = up @ (down @ ramp)
    inner = slice(10, SIZE - 10)
    torch.testing.assert_close(again[:, inner], ramp[:, inner], atol=0.15, rtol=0)


def test_linear_and_srgb_undo_each_other():
    values = torch.linspace(0, 1, 200)
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(values)), values, atol=2e-6, rtol=0)
    torch.testing.assert_close(srgb_to_linear(linear_to_srgb(values)), values, atol=2e-6, rtol=0)


def test_the_depth_sensor_is_unbiased_noisier_far_away_and_blind_at_edges():
    shape = (120, 160)
    facing, matt = torch.ones(shape), torch.zeros(shape)
    deviations = []
    for distance in (0.5, 1.0, 2.0):
        depth = torch.full(shape, distance)
        seen = measure(depth, facing, matt, DepthSensor(), Draws(4, int(distance * 10)))
        valid = seen > 0
        assert valid.float().mean() > 0.99
        error = (seen - depth)[valid]
        assert abs(float(error.mean())) < 0.002 * distance**2 + 0.0006
        deviations.append(float(error.std()))
    assert deviations[0] < deviations[1] < deviations[2]
    step = torch.full(shape, 0.6)
    step[:, 80:] = 0.9
    seen = measure(step, facing, matt, DepthSensor(), Draws(5))
    assert (seen[:, 78:82] == 0).float().mean() > 5 * (seen[:, :70] == 0).float().mean() + 0.2
    flat = measure(torch.full(shape, 0.6), torch.full(shape, 0.05), matt, DepthSensor(), Draws(6))
    assert (flat == 0).float().mean() > 0.6, "grazing surfaces are lost"
    shiny = measure(torch.full(shape, 0.6), facing, torch.ones(shape), DepthSensor(), Draws(7))
    assert 0.15 < (shiny == 0).float().mean() < 0.6
    nothing = measure(torch.zeros(shape), facing, matt, DepthSensor(), Draws(8))
    assert (nothing == 0).all()
