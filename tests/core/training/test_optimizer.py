"""Laws of schedule, clipping, averaging and both update rules."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from cupid_core.training.muon import Muon, orthogonalized, orthogonalized_kernel, split_into_squares
from cupid_core.training.optimizer import AdaptiveClip, MasterOptimizer, WeightAverage
from cupid_core.training.run_settings import OptimizerSettings
from cupid_core.training.schedule import stable_then_decay


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_the_rate_rises_stays_and_falls_without_a_jump(shape):
    settings = OptimizerSettings(warmup_steps=10, decay_share=0.4, decay_shape=shape, final_share=0.1)
    shares = [stable_then_decay(step, 100, settings) for step in range(1, 121)]
    assert all(a < b for a, b in pairwise(shares[:11]))
    assert shares[10:60] == [1.0] * 50
    assert all(a > b for a, b in pairwise(shares[60:100]))
    assert shares[99:] == [pytest.approx(0.1)] * 21
    assert max(abs(a - b) for a, b in pairwise(shares)) < 0.1


def test_a_longer_run_is_the_same_until_the_shorter_one_decays():
    settings = OptimizerSettings(warmup_steps=10, decay_share=0.4)
    for step in range(1, 61):
        assert stable_then_decay(step, 100, settings) == stable_then_decay(step, 1000, settings)


def test_without_decay_the_rate_stays():
    settings = OptimizerSettings(warmup_steps=0, decay_share=0.0)
    assert {stable_then_decay(step, 10, settings) for step in range(1, 20)} == {1.0}


def test_the_clip_follows_its_percentile_once_it_knows_enough():
    clip = AdaptiveClip(max_norm=1.0, history=100, percentile=95.0)
    for norm in range(99):
        clip.remember(norm / 1000)
        assert clip.bound == 1.0
    clip.remember(0.099)
    assert clip.bound == pytest.approx(0.094, abs=1e-3)
    for _ in range(100):
        clip.remember(50.0)
    assert clip.bound == 1.0, "never above the largest norm allowed"


def test_the_average_of_a_constant_is_that_constant_and_of_a_ramp_lags_by_its_memory():
    weights = {"w": torch.zeros(3)}
    average = WeightAverage(weights, decay=0.9)
    for step in range(1, 400):
        weights["w"] = torch.full((3,), float(step))
        average.update(weights, step)
    # In the limit the average of a ramp stays decay / (1 - decay) behind.
    torch.testing.assert_close(average.values["w"], torch.full((3,), 399 - 9.0), atol=1e-3, rtol=0)
    for step in range(400, 700):
        weights["w"] = torch.full((3,), 5.0)
        average.update(weights, step)
    torch.testing.assert_close(average.values["w"], torch.full((3,), 5.0))


def test_the_first_random_weights_are_forgotten_quickly():
    average = WeightAverage({"w": torch.full((1,), 1e6)}, decay=0.9999)
    for step in range(1, 101):
        average.update({"w": torch.ones(1)}, step)
    assert float(average.values["w"]) < 10.0


def test_orthogonalized_matrices_are_nearly_so_whatever_their_scale():
    matrices = (
        torch.randn(5, 32, 32, generator=torch.Generator().manual_seed(0))
        * torch.logspace(-6, 3, 5)[:, None, None]
    )
    values = torch.linalg.svdvals(orthogonalized(matrices))
    # The iteration is made for speed: it brings all but the smallest few near 1.
    assert float(values.max()) < 1.35
    assert float((values > 0.6).float().mean()) > 0.9
    assert not orthogonalized(torch.zeros(1, 8, 8)).any()


@pytest.mark.parametrize("shape", [(16, 24, 3, 3), (48, 16, 1, 1), (64, 32, 1, 1)])
def test_orthogonalized_kernels_are_those_of_the_matrix_they_are(shape):
    kernel = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = orthogonalized_kernel(1e-4 * kernel)
    values = torch.linalg.svdvals(made.flatten(1))
    assert float(values.min()) > 0.6 and float(values.max()) < 1.35
    left, _, right = torch.linalg.svd(kernel.flatten(1), full_matrices=False)
    turned = left.T @ made.flatten(1) @ right.T
    torch.testing.assert_close(turned, torch.diag(turned.diagonal()), atol=1e-3, rtol=0)
    assert not orthogonalized_kernel(torch.zeros(shape)).any()


def test_muon_takes_kernels_where_it_is_told_to_but_not_those_that_read_an_image():
    network = nn.ModuleDict({"net": nn.Sequential(nn.Conv2d(4, 16, 3), nn.Conv2d(16, 16, 3))})
    for convolutions in (False, True):
        settings = OptimizerSettings(kind="muon", muon_convolutions=convolutions)
        state = MasterOptimizer(network, settings).state_dict()["muon"]
        assert (state is not None) == convolutions
        if state is not None:
            assert len(state["param_groups"][0]["params"]) == 1


@pytest.mark.parametrize("shape", [(32, 32), (96, 32), (32, 96), (32, 24, 3, 3)])
def test_an_update_of_muon_has_the_size_of_the_rate(shape):
    parameter = torch.zeros(shape)
    parameter.grad = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    Muon([parameter], lr=0.01).step()
    rms = float(parameter.square().mean().sqrt())
    assert 0.6 * 0.01 < rms < 1.2 * 0.01
    assert float((parameter * parameter.grad).sum()) < 0, "against the gradient"


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")
def test_on_a_square_matrix_muon_equals_that_of_torch():
    ours, theirs = torch.zeros(64, 64), torch.zeros(64, 64)
    # Theirs scales the rate by 0.2 sqrt(edge), ours by sqrt(edge).
    steps = (
        Muon([ours], lr=0.01, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.05, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        gradient = torch.randn(64, 64, generator=generator)
        for parameter, optimizer in zip((ours, theirs), steps, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    # The iteration amplifies small singular values, and theirs rounds to bfloat16 on the way.
    assert float((ours - theirs).norm() / theirs.norm()) < 0.05


def test_matrices_that_are_no_row_of_squares_are_left_to_adamw():
    assert split_into_squares(torch.zeros(30, 20)) is None
    pieces = split_into_squares(torch.arange(12.0).view(2, 6))
    assert pieces is not None and pieces.tolist() == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]


def _regression(precision, kind, steps=300):
    torch.manual_seed(0)
    network = nn.ModuleDict(
        {"net": nn.ModuleDict({"blocks": nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))})}
    )
    network.to(precision)
    settings = OptimizerSettings(
        kind=kind,
        learning_rate=0.01,
        muon_learning_rate=0.01,
        warmup_steps=0,
        weight_decay=0.0,
        max_grad_norm=10.0,
    )
    optimizer = MasterOptimizer(network, settings)
    x = torch.randn(64, 16)
    target = torch.tanh(x @ torch.randn(16, 16) / 4)
    losses = []
    for step in range(1, steps + 1):
        loss = (network["net"]["blocks"](x.to(precision)).float() - target).square().mean()
        loss.backward()
        optimizer.step(stable_then_decay(step, steps, settings))
        losses.append(float(loss))
    return network, optimizer, losses


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_both_rules_solve_a_regression_in_either_precision(precision, kind):
    network, optimizer, losses = _regression(precision, kind)
    assert losses[-1] < 0.02 * losses[0]
    for name, parameter in network.named_parameters():
        assert parameter.dtype == precision
        assert torch.equal(optimizer.masters[name].to(precision), parameter), "networks show their masters"


def test_small_steps_are_not_lost_to_half_precision():
    network = nn.ModuleDict({"net": nn.Linear(1, 1, bias=False)}).to(torch.bfloat16)
    with torch.no_grad():
        network["net"].weight.fill_(1.0)
    optimizer = MasterOptimizer(network, OptimizerSettings(learning_rate=1e-4, weight_decay=0.0))
    for _ in range(100):
        network["net"].weight.grad = torch.ones(1, 1, dtype=torch.bfloat16)
        optimizer.step(1.0)
    assert float(network["net"].weight) == pytest.approx(0.99, abs=2e-3)


def test_a_gradient_that_is_not_finite_moves_nothing_and_lowers_the_loss_scale():
    network = nn.ModuleDict({"net": nn.Linear(2, 2)}).to(torch.float16)
    optimizer = MasterOptimizer(network, OptimizerSettings(), half=True)
    before, scale = {n: v.clone() for n, v in optimizer.masters.items()}, optimizer.loss_scale
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    report = optimizer.step(1.0)
    assert report.skipped
    assert optimizer.loss_scale == scale / 2
    for name, value in optimizer.masters.items():
        assert torch.equal(value, before[name])
    assert optimizer.clip.state_dict()["count"] == 0
