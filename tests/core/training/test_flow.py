"""Flow-matching samples: ends of the path, rows against dense, distribution of the times."""

import math

import pytest
import torch

from cupid_core.config import FlowTrainingConfig
from cupid_core.errors import InvalidTensorError
from cupid_core.sampling.flow_path import FlowPath
from cupid_core.training.flow import (
    draw_kept_conditions,
    draw_times,
    flow_sample,
    velocity_loss,
    velocity_loss_per_item,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ends_of_the_path_are_data_and_noise():
    x0, noise = random(2, 3, 4, seed=1), random(2, 3, 4, seed=2)
    sample = flow_sample(x0, noise, torch.tensor([0.0, 1.0]).double(), path=FlowPath(sigma_min=0.0))
    torch.testing.assert_close(sample.x_t[0], x0[0])
    torch.testing.assert_close(sample.x_t[1], noise[1])


def test_target_is_the_slope_of_the_path():
    x0, noise, t = random(3, 5, seed=1), random(3, 5, seed=2), torch.tensor([0.1, 0.5, 0.9]).double()
    here, there = flow_sample(x0, noise, t), flow_sample(x0, noise, t + 1e-4)
    torch.testing.assert_close((there.x_t - here.x_t) / 1e-4, here.target, atol=1e-9, rtol=1e-9)


def test_following_the_target_leads_back_to_the_data():
    x0, noise, t = random(3, 5, seed=1), random(3, 5, seed=2), torch.tensor([0.1, 0.5, 0.9]).double()
    sample, path = flow_sample(x0, noise, t), FlowPath()
    torch.testing.assert_close(path.data_from_velocity(sample.x_t, t[:, None], sample.target), x0)


def test_rows_take_the_time_of_their_item():
    x0, noise = random(6, 4, seed=1), random(6, 4, seed=2)
    t, item = torch.tensor([0.2, 0.8]).double(), torch.tensor([0, 0, 1, 1, 1, 0])
    rows = flow_sample(x0, noise, t, item)
    dense = flow_sample(x0, noise, t[item])
    assert torch.equal(rows.x_t, dense.x_t) and torch.equal(rows.target, dense.target)
    assert torch.equal(rows.t, t)


def test_times_are_logit_normal_and_repeat_with_their_seed():
    config = FlowTrainingConfig(time_mean=0.4, time_std=0.7)
    times = draw_times(40_000, config, torch.Generator().manual_seed(3))
    assert torch.equal(times, draw_times(40_000, config, torch.Generator().manual_seed(3)))
    logits = torch.logit(times.double())
    assert float(logits.mean()) == pytest.approx(0.4, abs=0.015)
    assert float(logits.std()) == pytest.approx(0.7, abs=0.015)
    assert float(times.min()) > 0 and float(times.max()) < 1


def test_conditions_are_dropped_at_the_given_rate():
    kept = draw_kept_conditions(
        40_000, FlowTrainingConfig(condition_dropout=0.3), torch.Generator().manual_seed(1)
    )
    assert float(kept.double().mean()) == pytest.approx(0.7, abs=0.01)
    assert draw_kept_conditions(1000, FlowTrainingConfig(condition_dropout=0.0)).all()


def test_loss_is_zero_on_the_target_and_known_on_an_offset():
    target = random(4, 3, seed=1)
    assert float(velocity_loss(target, target)) == 0.0
    assert float(velocity_loss(target + 0.5, target)) == pytest.approx(0.25)


def test_loss_per_item_averages_to_the_whole_when_items_are_equal():
    prediction, target = random(6, 4, seed=1), random(6, 4, seed=2)
    per_item = velocity_loss_per_item(prediction, target, 3, torch.tensor([2, 0, 0, 2, 1, 1]))
    torch.testing.assert_close(per_item.mean(), velocity_loss(prediction, target))
    dense = velocity_loss_per_item(prediction, target, 6)
    torch.testing.assert_close(per_item, torch.stack([dense[1:3].mean(), dense[4:].mean(), dense[[0, 3]].mean()]))
    empty = velocity_loss_per_item(prediction, target, 4, torch.zeros(6, dtype=torch.int64))
    assert empty[1:].tolist() == [0.0, 0.0, 0.0] and math.isfinite(float(empty[0]))


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InvalidTensorError):
        flow_sample(random(3, 4), random(3, 5), torch.ones(3))
    with pytest.raises(InvalidTensorError):
        flow_sample(random(3, 4), random(3, 4), torch.ones(2))
