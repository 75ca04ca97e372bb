"""Losses: zero on the truth, known on known errors, finite where the target is empty."""

import pytest
import torch

from cupid_core.config import StructureVaeLossConfig
from cupid_core.errors import InvalidTensorError
from cupid_core.training.losses import (
    UvTarget,
    classification_loss,
    kl_divergence,
    masked_regression_loss,
    occupancy_vae_loss,
    uv_vae_loss,
)

SURE = 60.0


def volume(seed, channels=1):
    return torch.rand(2, channels, 4, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["dice", "bce", "l1"])
def test_classification_is_zero_when_sure_and_right_and_large_when_sure_and_wrong(kind):
    truth = volume(1) > 0.5
    logits = torch.where(truth, SURE, -SURE).double()
    assert float(classification_loss(logits, truth, kind)) == pytest.approx(0.0, abs=1e-12)
    assert float(classification_loss(-logits, truth, kind)) > 0.9


def test_dice_of_a_half_overlap_is_known():
    truth, logits = torch.zeros(1, 1, 1, 1, 4), torch.full((1, 1, 1, 1, 4), -SURE)
    truth[..., :2] = 1
    logits[..., 1:3] = SURE
    assert float(classification_loss(logits, truth, "dice")) == pytest.approx(1 - 3 / 5)


def test_dice_of_nothing_predicted_as_nothing_is_zero():
    assert float(classification_loss(torch.full((2, 3), -SURE), torch.zeros(2, 3), "dice")) == pytest.approx(0.0)


@pytest.mark.parametrize(("kind", "expected"), [("l1", 0.6), ("mse", 0.18), ("huber", 0.09)])
def test_regression_sums_channels_and_averages_over_the_mask(kind, expected):
    target, mask = volume(2, channels=2), volume(3) > 0.4
    prediction = torch.where(mask, target + 0.3, target - 100)
    assert float(masked_regression_loss(prediction, target, mask, kind)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["l1", "mse", "huber"])
def test_an_empty_mask_costs_nothing_and_has_finite_gradients(kind):
    prediction = volume(2, channels=2).requires_grad_(True)
    loss = masked_regression_loss(prediction, volume(4, channels=2), torch.zeros(2, 1, 4, 4, 4), kind)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert prediction.grad is not None and float(prediction.grad.abs().max()) == 0.0


def test_kl_is_zero_for_the_standard_normal_only():
    zero = torch.zeros(2, 8, 3)
    assert float(kl_divergence(zero, zero)) == 0.0
    assert float(kl_divergence(zero + 2, zero)) == pytest.approx(2.0)
    normal = torch.distributions.Normal(torch.tensor(0.3), torch.tensor(0.5))
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    assert float(kl_divergence(torch.full((5,), 0.3), torch.full((5,), 0.25).log())) == pytest.approx(
        float(expected)
    )


def test_weights_make_the_total():
    config = StructureVaeLossConfig(uv_weight=3.0, kl_weight=0.5)
    logits, mean, logvar = volume(5, 3), volume(6, 8), volume(7, 8)
    target = UvTarget(volume(8) > 0.5, volume(9, 2), volume(10) > 0.5)
    loss = uv_vae_loss(logits, target, mean, logvar, config)
    assert loss.regression is not None
    torch.testing.assert_close(loss.total, loss.classification + 3 * loss.regression + 0.5 * loss.kl)
    plain = occupancy_vae_loss(logits[:, :1], target.occupancy, mean, logvar, config)
    torch.testing.assert_close(plain.total, plain.classification + 0.5 * plain.kl)
    assert plain.regression is None


def test_half_precision_volumes_do_not_overflow():
    logits = torch.full((1, 1, 64, 64, 64), 8.0, dtype=torch.float16)
    assert float(classification_loss(logits, torch.ones_like(logits), "dice")) == pytest.approx(0.0, abs=1e-3)


def test_shapes_that_differ_are_refused():
    with pytest.raises(InvalidTensorError):
        classification_loss(volume(1), volume(1, 2), "dice")
    with pytest.raises(InvalidTensorError):
        masked_regression_loss(volume(1, 2), volume(1, 2), volume(1, 2), "l1")
