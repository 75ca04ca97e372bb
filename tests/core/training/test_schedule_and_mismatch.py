"""The learning rate is continuous and bounded; mismatched checkpoints start networks as promised."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from cupid_core.config import LearningRateConfig, from_mapping
from cupid_core.errors import CheckpointError, ConfigError
from cupid_core.training.fine_tune import fit_state
from cupid_core.training.schedule import learning_rate


def test_rate_rises_to_its_base_falls_to_its_end_and_stays():
    config = LearningRateConfig(base=1e-3, warmup_steps=10, max_steps=100, initial=0.0, final=1e-5)
    rates = [learning_rate(step, config) for step in range(1, 151)]
    assert rates[9] == pytest.approx(1e-3)
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[9:100]))
    assert rates[99:] == [pytest.approx(1e-5)] * 51


def test_no_warm_up_starts_near_the_base():
    config = LearningRateConfig(base=1e-3, warmup_steps=0, max_steps=1000)
    assert learning_rate(1, config) == pytest.approx(1e-3, rel=1e-3)


def test_a_warm_up_that_never_ends_is_refused():
    with pytest.raises(ConfigError):
        from_mapping(LearningRateConfig, {"warmup_steps": 10, "max_steps": 10})


def networks():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2))


def test_zeropad_makes_new_inputs_do_nothing_at_first():
    small, wide = networks()
    wide.load_state_dict(fit_state(small.state_dict(), wide.state_dict(), "zeropad").state, strict=True)
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(wide(x), small(x[:, :3]))


class WithBranch(nn.Module):
    """A linear layer that reads the input and, where the branch exists, the outputs of a second layer."""

    def __init__(self, branch_channels):
        super().__init__()
        self.branch = nn.Linear(3, branch_channels) if branch_channels else None
        self.read = nn.Linear(3 + branch_channels, 2)

    def forward(self, x):
        return self.read(x if self.branch is None else torch.cat([x, self.branch(x)], dim=1))


@pytest.mark.parametrize("old_channels", [0, 2])
def test_zeropad_leaves_a_new_or_wider_branch_able_to_learn(old_channels):
    torch.manual_seed(0)
    old, new = WithBranch(old_channels), WithBranch(6)
    new.load_state_dict(fit_state(old.state_dict(), new.state_dict(), "zeropad").state, strict=True)
    x = torch.randn(7, 3)
    torch.testing.assert_close(new(x), old(x))
    optimizer = torch.optim.SGD(new.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (new(x) - 1.0).square().mean().backward()
        optimizer.step()
    # The first step moves the columns that read the branch, so that the second one reaches all of its units.
    assert bool((new.branch.weight.grad.abs().sum(dim=1) > 0).all())


def test_zeropad_zeroes_no_bias_and_no_norm():
    torch.manual_seed(0)
    small, wide = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 2)), nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3))
    state = fit_state(small.state_dict(), wide.state_dict(), "zeropad").state
    assert torch.equal(state["0.weight"], torch.ones(4))
    assert torch.equal(state["1.bias"][2:], wide[1].bias[2:])


def test_partial_keeps_the_fresh_rest_and_skip_keeps_all():
    small, wide = networks()
    fresh = {name: tensor.clone() for name, tensor in wide.state_dict().items()}
    partial = fit_state(small.state_dict(), wide.state_dict(), "partial")
    assert torch.equal(partial.state["0.weight"][:, :3], small[0].weight)
    assert torch.equal(partial.state["0.weight"][:, 3:], fresh["0.weight"][:, 3:])
    skip = fit_state(small.state_dict(), wide.state_dict(), "skip")
    assert torch.equal(skip.state["0.weight"], fresh["0.weight"])
    assert skip.fitted == ("0.weight",) and set(skip.copied) == {"0.bias", "1.weight", "1.bias"}
    assert all(torch.equal(wide.state_dict()[name], tensor) for name, tensor in fresh.items())


def test_partial_cuts_what_is_too_large():
    small, wide = networks()
    state = fit_state(wide.state_dict(), small.state_dict(), "partial").state
    assert torch.equal(state["0.weight"], wide[0].weight[:, :3])


def test_missing_and_unexpected_names_are_listed():
    small, _ = networks()
    checkpoint = {**small.state_dict(), "old": torch.zeros(1)}
    del checkpoint["1.bias"]
    for strategy in ("zeropad", "partial", "skip"):
        fitted = fit_state(checkpoint, small.state_dict(), strategy)
        assert fitted.missing == ("1.bias",) and fitted.unexpected == ("old",)
        assert torch.equal(fitted.state["1.bias"], small[1].bias)


def test_types_follow_the_network():
    small, _ = networks()
    half = {name: tensor.half() for name, tensor in small.state_dict().items()}
    assert all(t.dtype == torch.float32 for t in fit_state(half, small.state_dict(), "skip").state.values())


def test_checkpoints_of_something_else_are_refused():
    small, _ = networks()
    with pytest.raises(CheckpointError):
        fit_state({"other": torch.zeros(2)}, small.state_dict(), "skip")
    wrong = {**small.state_dict(), "0.weight": torch.zeros(4)}
    with pytest.raises(CheckpointError):
        fit_state(wrong, small.state_dict(), "partial")
    assert fit_state(wrong, small.state_dict(), "skip").fitted == ("0.weight",)
