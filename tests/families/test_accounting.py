import math

import numpy as np
import pytest

from bottega.core.errors import InputError
from bottega.families.accounting import Budget, epsilon_of, exponential_rho, gaussian_rho, gaussian_sigma, rho_of


def test_closed_forms() -> None:
    assert gaussian_rho(2.0) == 0.125
    assert gaussian_rho(2.0, 3.0) == pytest.approx(9 / 8)
    assert gaussian_sigma(gaussian_rho(7.5, 2.0), 2.0) == pytest.approx(7.5)
    assert exponential_rho(0.4) == pytest.approx(0.02)


@pytest.mark.parametrize("rho", [1e-4, 0.01, 0.2, 1.0, 5.0, 80.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 0.01])
def test_conversion_is_the_best_of_a_grid_and_beats_the_simple_bound(rho: float, delta: float) -> None:
    alpha = 1 + np.logspace(-4, 6, 200_001)
    grid = rho * alpha + (-np.log(alpha * delta) + (alpha - 1) * np.log1p(-1 / alpha)) / (alpha - 1)
    assert epsilon_of(rho, delta) == pytest.approx(max(0, grid.min()), rel=1e-6, abs=1e-6)
    assert epsilon_of(rho, delta) <= rho + 2 * math.sqrt(rho * math.log(1 / delta))  # Bun & Steinke, Prop. 1.3


@pytest.mark.parametrize("sigma", [1.0, 3.0, 10.0])
def test_the_gaussian_mechanism_keeps_what_the_conversion_promises(sigma: float) -> None:
    """The exact delta of Gaussian noise at that epsilon, integrated numerically, is below the delta asked for."""
    delta = 1e-5
    epsilon = epsilon_of(gaussian_rho(sigma), delta)
    x = np.linspace(-20 * sigma, 20 * sigma, 400_001)
    density = np.exp(-x**2 / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    shifted = np.exp(-((x - 1) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    exact = np.maximum(shifted - math.exp(epsilon) * density, 0).sum() * (x[1] - x[0])
    assert delta / 20 < exact < delta  # zCDP is a bound, and not a loose one


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 3.0, 10.0, 1e4])
def test_inverse(epsilon: float) -> None:
    rho = rho_of(epsilon, 1e-5)
    assert epsilon_of(rho, 1e-5) <= epsilon < epsilon_of(rho * 1.001, 1e-5)


def test_budget_refuses_to_go_over_and_prints_its_ledger() -> None:
    budget = Budget(1.0, 1e-5)
    budget.charge("one", budget.total / 4)
    with pytest.raises(InputError, match="'two' costs"):
        budget.charge("two", budget.total)
    assert budget.spent == budget.total / 4
    budget.charge("rest", budget.left)
    assert budget.epsilon_spent == pytest.approx(1.0)
    assert "one" in str(budget)
    assert "epsilon 1.0000 of 1" in str(budget)
    with pytest.raises(InputError):
        budget.charge("more", 1e-3)


@pytest.mark.parametrize(("epsilon", "delta"), [(0, 0.1), (-1, 0.1), (math.inf, 0.1), (math.nan, 0.1), (1, 0), (1, 1)])
def test_guarantees_that_are_none(epsilon: float, delta: float) -> None:
    with pytest.raises(InputError):
        Budget(epsilon, delta)
