"""Laws of sampling: known integrals, orders of convergence, guidance, schedule, seeds, progress and stopping."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cupid_core.config import CupidConfig, SamplerConfig, from_mapping
from cupid_core.errors import ConfigError
from cupid_core.sampling.flow_path import FlowPath
from cupid_core.sampling.guidance import guided
from cupid_core.sampling.noise import NoiseSource
from cupid_core.sampling.sample import sample, sampling_times
from cupid_core.sampling.schedule import time_schedule
from cupid_core.sampling.solver import Step, integrate

START = torch.linspace(-2, 2, 24, dtype=torch.float64).reshape(4, 3, 2)


def rotating(x: Tensor, time: float) -> Tensor:
    """dx/dt = 3 cos(2 t) x, whose solution is x(0) = x(1) exp(-1.5 sin(2))."""
    return 3 * math.cos(2 * time) * x


def error(solver: str, steps: int) -> float:
    exact = START * math.exp(-1.5 * math.sin(2.0))
    end = integrate(rotating, START, time_schedule(steps, 3.0), solver=solver)
    return float((end - exact).abs().max())


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_order_of_convergence(solver, order):
    rates = [math.log2(error(solver, steps) / error(solver, 2 * steps)) for steps in (40, 80, 160)]
    assert rates == pytest.approx([order] * 3, abs=0.1)


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_a_constant_velocity_is_exact_whatever_the_schedule(solver):
    velocity = torch.randn(4, 3, 2, dtype=torch.float64)
    end = integrate(lambda x, time: velocity, START, time_schedule(3, 5.0), solver=solver)
    torch.testing.assert_close(end, START - velocity, atol=1e-14, rtol=0)


def test_heun_is_exact_for_a_velocity_linear_in_time():
    end = integrate(lambda x, time: torch.full_like(x, time), START, time_schedule(5, 2.0), solver="heun")
    torch.testing.assert_close(end, START - 0.5, atol=1e-14, rtol=0)


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_the_true_flow_of_one_data_point_leads_to_it(solver):
    """For one data point the exact velocity at (x, t) is known and straight, so any solver finds the point."""
    path, data = FlowPath(), torch.randn(4, 3, 2, dtype=torch.float64)

    def velocity(x: Tensor, time: float) -> Tensor:
        return path.velocity(data, path.noise_from_data(x, time, data))

    end = integrate(velocity, START, time_schedule(6, 3.0), solver=solver)
    torch.testing.assert_close(end, path.interpolate(data, START, 0.0), atol=1e-10, rtol=0)


@given(t=st.floats(0.01, 0.99), sigma=st.floats(0.0, 0.1), seed=st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_conversions_undo_each_other(t, sigma, seed):
    draw = torch.Generator().manual_seed(seed)
    data, noise = torch.randn(2, 5, generator=draw, dtype=torch.float64)
    path = FlowPath(sigma)
    x_t, v = path.interpolate(data, noise, t), path.velocity(data, noise)
    close = {"atol": 1e-9, "rtol": 1e-9}
    torch.testing.assert_close(path.data_from_velocity(x_t, t, v), data, **close)
    torch.testing.assert_close(path.noise_from_velocity(x_t, t, v), noise, **close)
    torch.testing.assert_close(path.data_from_noise(x_t, t, noise), data, **close)
    torch.testing.assert_close(path.noise_from_data(x_t, t, data), noise, **close)
    ahead = path.interpolate(data, noise, t + 1e-3)
    torch.testing.assert_close(ahead - x_t, 1e-3 * v, atol=1e-9, rtol=1e-6)


@given(steps=st.integers(1, 200), rescale=st.floats(0.1, 20.0))
@settings(max_examples=50, deadline=None)
def test_schedules_fall_from_one_to_zero(steps, rescale):
    times = time_schedule(steps, rescale)
    assert len(times) == steps + 1 and times[0] == 1.0 and times[-1] == 0.0
    assert all(a > b for a, b in pairwise(times))
    back = [t / (rescale + t * (1 - rescale)) for t in times]
    assert back == pytest.approx([1 - i / steps for i in range(steps + 1)], abs=1e-9)


@pytest.mark.parametrize(("steps", "rescale"), [(0, 1.0), (-1, 1.0), (5, 0.0), (5, -2.0)])
def test_impossible_schedules_are_refused(steps, rescale):
    with pytest.raises(ConfigError):
        time_schedule(steps, rescale)


def test_guidance_in_one_call_equals_two():
    def field(x: Tensor, time: float, level: Tensor) -> Tensor:
        return torch.sin(x + level) * (1 + time)

    def stacked(x: Tensor, time: float) -> Tensor:
        return field(x, time, torch.tensor([0.4] * 4 + [-1.1] * 4, dtype=torch.float64)[:, None, None])

    one = guided(lambda x, t: field(x, t, torch.tensor(0.4)), stacked, 2.5, (0.3, 0.8))
    for time in (0.0, 0.29, 0.3, 0.5, 0.8, 0.81, 1.0):
        under, free = field(START, time, torch.tensor(0.4)), field(START, time, torch.tensor(-1.1))
        expected = 3.5 * under - 2.5 * free if 0.3 <= time <= 0.8 else under
        torch.testing.assert_close(one(START, time), expected, atol=1e-6, rtol=1e-6)


def test_guidance_without_strength_never_asks_for_the_null_branch():
    def refuse(x: Tensor, time: float) -> Tensor:
        raise AssertionError("the null branch was asked for")

    assert torch.equal(guided(rotating, refuse, 0.0)(START, 0.7), rotating(START, 0.7))
    assert torch.equal(guided(rotating, refuse, 3.0, (0.5, 1.0))(START, 0.4), rotating(START, 0.4))


@pytest.mark.parametrize("calls", [1, 2])
def test_the_network_is_called_once_per_step(calls):
    """25 steps with CUPID's interval: 19 guided and 6 plain, each one call; Heun twice as many."""
    seen = {"plain": 0, "stacked": 0}

    def plain(x: Tensor, time: float) -> Tensor:
        seen["plain"] += 1
        return -x

    def stacked(x: Tensor, time: float) -> Tensor:
        assert len(x) == 8
        seen["stacked"] += 1
        return -x

    config = SamplerConfig(solver="euler" if calls == 1 else "heun")
    sample(plain, stacked, START, config)
    assert sum(seen.values()) == 25 * calls
    if calls == 1:
        assert seen == {"plain": 6, "stacked": 19}


def test_equal_branches_make_guidance_vanish():
    strong = sample(rotating, rotating, START, SamplerConfig(guidance_strength=9.0, guidance_from_t=0.0))
    none = sample(rotating, rotating, START, SamplerConfig(guidance_strength=0.0))
    torch.testing.assert_close(strong, none, atol=1e-12, rtol=1e-9)


def test_progress_reports_every_step_and_the_trajectory():
    steps: list[Step] = []
    config = SamplerConfig(steps=7, rescale_t=2.0)
    end = sample(rotating, rotating, START, config, steps.append)
    assert [step.index for step in steps] == list(range(7))
    assert [step.time for step in steps] == list(sampling_times(config)[:-1])
    assert steps[-1].fraction == 1.0 and torch.equal(steps[-1].end, end)
    assert torch.equal(steps[0].start, START)
    for before, after in pairwise(steps):
        assert torch.equal(before.end, after.start)


def test_an_error_of_the_callback_stops_at_once_and_arrives_unchanged():
    class Cancelled(Exception):
        pass

    calls = 0

    def velocity(x: Tensor, time: float) -> Tensor:
        nonlocal calls
        calls += 1
        return -x

    def stop(step: Step) -> None:
        if step.index == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        sample(velocity, velocity, START, SamplerConfig(), stop)
    assert calls == 3


def test_seeds_reproduce_bit_for_bit_and_streams_continue():
    first, again, other = NoiseSource(42), NoiseSource(42), NoiseSource(43)
    a, b = first.draw((2, 3)), first.draw((4,))
    torch.randn(5)  # the global generator is not used
    assert torch.equal(again.draw((2, 3)), a) and torch.equal(again.draw((4,)), b)
    assert not torch.equal(other.draw((2, 3)), a)
    torch.manual_seed(42)
    assert torch.equal(torch.randn(2, 3), a)
    many = NoiseSource(0).draw((100_000,))
    assert abs(float(many.mean())) < 0.01 and abs(float(many.std()) - 1) < 0.01


def test_the_start_is_not_changed():
    start = START.clone()
    sample(rotating, rotating, start, SamplerConfig())
    assert torch.equal(start, START)


def test_stage_defaults_are_those_of_the_paper():
    config = CupidConfig()
    assert config.structure_sampler.guidance_strength == 7.5
    assert config.appearance_sampler.guidance_strength == 3.0
    partial = from_mapping(CupidConfig, {"structure_sampler": {"steps": 12}})
    assert partial.structure_sampler.guidance_strength == 7.5
    with pytest.raises(ConfigError, match="above guidance_to_t"):
        from_mapping(CupidConfig, {"appearance_sampler": {"guidance_from_t": 0.9, "guidance_to_t": 0.5}})
