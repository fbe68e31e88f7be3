"""Rectified flow: the path's identities, and solvers against a distribution whose answer is known."""

import math

import pytest
import torch
from torch import Tensor

from bottega.core.errors import ControlError
from bottega.families import flow

MEAN, SPREAD = 0.7, 0.3  # of a normal distribution of "pictures" with one pixel
SAMPLERS = ("euler", "heun", "dpm")


def expected(z: Tensor, now: float, _then: float) -> Tensor:
    """The clean value expected at z when data are normal: the regression of x on z = (1 - t) x + t n."""
    keep = 1 - now
    return MEAN + SPREAD**2 * keep / (keep**2 * SPREAD**2 + now**2) * (z - keep * MEAN)


def error(sampler: str, steps: int) -> float:
    """Largest distance from the exact flow, which maps noise n to MEAN + SPREAD · n."""
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64).view(9, 1, 1, 1)
    *_, made = flow.solve(expected, noise, flow.schedule(steps), sampler)
    return float((made - (MEAN + SPREAD * noise)).abs().max())


def test_the_velocity_is_the_slope_of_the_path() -> None:
    x, noise = torch.randn(2, 3, 4, 4, dtype=torch.float64), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    t = torch.tensor([0.3, 0.9], dtype=torch.float64)
    z = flow.mix(x, noise, t)
    assert torch.allclose(flow.velocity(z, x, t), noise - x)
    assert torch.allclose((flow.mix(x, noise, t + 1e-6) - z) / 1e-6, noise - x, atol=1e-6)
    early = torch.full((2,), 0.01, dtype=torch.float64)
    assert torch.allclose(flow.velocity(z, x, early), (z - x) / flow.SMALLEST)
    assert torch.equal(flow.mix(x, noise, 0.0), x)
    assert torch.equal(flow.mix(x, noise, 1.0), noise)


def test_times_are_stratified_and_logit_normal() -> None:
    uniform = flow.stratified(1000, torch.Generator().manual_seed(1), torch.device("cpu"))
    assert sorted((uniform * 1000).long().tolist()) == list(range(1000))
    assert uniform.tolist() != sorted(uniform.tolist())
    t = flow.logit_normal(uniform, mean=0.5, spread=2.0)
    logits = torch.logit(t)
    assert float(logits.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(logits.std()) == pytest.approx(2.0, abs=0.02)
    assert float(flow.logit_normal(torch.tensor(0.5), 0.0, 1.0)) == pytest.approx(0.5)


@pytest.mark.parametrize(("sampler", "order"), [("euler", 0.95), ("heun", 1.9), ("dpm", 1.6)])
def test_more_steps_come_closer_at_the_sampler_s_order(sampler: str, order: float) -> None:
    assert math.log(error(sampler, 128) / error(sampler, 1024), 8) > order
    assert error(sampler, 16) < 0.1


def test_second_order_needs_fewer_steps() -> None:
    assert max(error("heun", 8), error("dpm", 8)) < 0.6 * error("euler", 8)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("start", [1.0, 0.4])
def test_a_constant_answer_is_reached_exactly_and_the_known_area_stays_on_its_path(sampler: str, start: float) -> None:
    known, noise = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    mask[..., :2] = True
    seen = []

    def predict(z: Tensor, now: float, _then: float) -> Tensor:
        seen.append((z, now))
        return torch.ones_like(z)

    steps = list(flow.solve(flow.keep_known(predict, known, mask), flow.mix(known, noise, start),
                            flow.schedule(5, start), sampler))
    assert len(steps) == 5
    assert torch.equal(steps[-1], torch.where(mask, torch.ones(()), known))
    for z, now in seen:
        path = flow.mix(known, noise, now)
        assert torch.allclose(torch.where(mask, path, z), path, atol=1e-5)


def test_schedule_ends_at_exactly_zero() -> None:
    assert flow.schedule(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert flow.schedule(3, 0.6)[-1] == 0
    assert len(flow.schedule(1)) == 2


def test_guidance_extrapolates_from_plain_to_wanted() -> None:
    wanted, plain = torch.tensor([2.0]), torch.tensor([1.0])
    assert [float(flow.guide(wanted, plain, scale)) for scale in (0.0, 1.0, 1.5, 3.0)] == [1.0, 2.0, 2.5, 4.0]


def test_slerp_keeps_the_length_that_a_straight_line_loses() -> None:
    a, b = torch.randn(1, 3, 16, 16), torch.randn(1, 3, 16, 16)
    half = flow.slerp(a, b, 0.5)
    assert float(half.norm()) == pytest.approx(float((a.norm() + b.norm()) / 2), rel=0.02)
    assert float(((a + b) / 2).norm()) < 0.8 * float(half.norm())
    assert torch.allclose(flow.slerp(a, b, 0.0), a, atol=1e-6)
    assert torch.allclose(flow.slerp(a, b, 1.0), b, atol=1e-6)
    assert torch.allclose(flow.slerp(a, a, 0.3), a, atol=1e-6)


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(ControlError, match="did you mean 'euler'"):
        next(flow.solve(expected, torch.zeros(1, 1, 1, 1), flow.schedule(2), "eular"))  # type: ignore[arg-type]


def test_first_step_of_dpm_from_pure_noise_is_finite() -> None:
    steps = list(flow.solve(expected, torch.zeros(1, 1, 1, 1), flow.schedule(2), "dpm"))
    assert all(math.isfinite(float(step)) for step in steps)
