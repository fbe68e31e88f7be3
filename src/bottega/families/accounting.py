"""What noisy statistics cost in privacy (zero-concentrated); `pytest tests/families/test_accounting.py`.

rho-zCDP (Bun & Steinke 2016, arXiv 1605.02658) adds up: the costs of all mechanisms that saw the rows are summed, and
the sum is turned into (epsilon, delta) once, at the end. Prices are in rho until then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bottega.core.errors import InputError

_HALVINGS = 200  # of a bracket: more than float64 can tell apart
_SLACK = 1e-9  # relative; sums of shares may exceed their whole by rounding


def gaussian_rho(sigma: float, sensitivity: float = 1.0) -> float:
    """Return the cost of Gaussian noise of this deviation: sensitivity^2 / (2 sigma^2), Bun & Steinke Prop. 1.6.

    Args:
        sigma: standard deviation of the noise on every number.
        sensitivity: largest Euclidean change of all numbers together when a row comes or goes.

    Raises:
        InputError: one is not positive.
    """
    _positive(sigma=sigma, sensitivity=sensitivity)
    return (sensitivity / sigma) ** 2 / 2


def gaussian_sigma(rho: float, sensitivity: float = 1.0) -> float:
    """Return the deviation of Gaussian noise that costs rho (the inverse of `gaussian_rho`).

    Raises:
        InputError: an argument is not positive.
    """
    _positive(rho=rho, sensitivity=sensitivity)
    return sensitivity / math.sqrt(2 * rho)


def exponential_rho(epsilon: float) -> float:
    """Return the cost of an epsilon-DP exponential mechanism: epsilon^2 / 8 (Cesar & Rogers 2020, arXiv 2004.07223).

    Raises:
        InputError: epsilon is not positive.
    """
    _positive(epsilon=epsilon)
    return epsilon**2 / 8


def epsilon_of(rho: float, delta: float) -> float:
    """Return the least epsilon at which rho-zCDP is (epsilon, delta)-DP by Canonne, Kamath & Steinke 2020, Prop. 12.

    That is the infimum over alpha > 1 of
    rho alpha + (log(1 / (alpha delta)) + (alpha - 1) log(1 - 1 / alpha)) / (alpha - 1),
    found where its derivative rho + log(alpha delta) / (alpha - 1)^2 changes sign.

    Args:
        rho: cost; 0 is no access to the rows at all.
        delta: in (0, 1).

    Raises:
        InputError: rho is negative or delta not in (0, 1).
    """
    _delta(delta)
    if rho < 0 or not math.isfinite(rho):
        raise InputError(f"rho is {rho}", fix="give a cost of zero or more")
    if rho == 0:
        return 0.0
    low, high = 0.0, 1.0  # alpha - 1
    while rho * high**2 + math.log1p(high) + math.log(delta) < 0:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if rho * middle**2 + math.log1p(middle) + math.log(delta) < 0:
            low = middle
        else:
            high = middle
    alpha = 1 + high
    return max(0.0, rho * alpha - (math.log(alpha) + math.log(delta)) / high + math.log(high / alpha))


def rho_of(epsilon: float, delta: float) -> float:
    """Return the largest rho whose zCDP is (epsilon, delta)-DP: the inverse of `epsilon_of`, never above it.

    Raises:
        InputError: epsilon is not positive or delta not in (0, 1).
    """
    _positive(epsilon=epsilon)
    _delta(delta)
    low, high = 0.0, epsilon + 1  # epsilon_of is at least about rho
    while epsilon_of(high, delta) <= epsilon:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if epsilon_of(middle, delta) <= epsilon:
            low = middle
        else:
            high = middle
    return low


@dataclass
class Budget:
    """What may be spent on one table, and what was; a fixed total, so prices may depend on answers bought before.

    Args:
        epsilon, delta: the guarantee to keep.
    """

    epsilon: float
    delta: float
    total: float = field(init=False)
    ledger: list[tuple[str, float]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.total = rho_of(self.epsilon, self.delta)

    @property
    def spent(self) -> float:
        """Rho that was charged."""
        return math.fsum(rho for _, rho in self.ledger)

    @property
    def left(self) -> float:
        """Rho that may still be charged."""
        return max(0.0, self.total - self.spent)

    @property
    def epsilon_spent(self) -> float:
        """Epsilon at the budget's delta of what was charged."""
        return epsilon_of(self.spent, self.delta)

    def charge(self, name: str, rho: float) -> None:
        """Enter a price before its mechanism sees the rows.

        Raises:
            InputError: rho is not positive, or more than is left; nothing is entered then.
        """
        _positive(rho=rho)
        if self.spent + rho > self.total * (1 + _SLACK):
            raise InputError(f"'{name}' costs rho {rho:.6g} but {self.left:.6g} is left", where="privacy budget",
                             fix="measure less, with more noise, or ask for a larger epsilon")
        self.ledger.append((name, min(rho, self.left) if rho > self.left else rho))

    def __str__(self) -> str:
        lines = [f"{rho:12.6f}  {name}" for name, rho in self.ledger]
        end = f"{self.spent:12.6f}  of {self.total:.6f} rho: epsilon {self.epsilon_spent:.4f} of {self.epsilon:g}"
        return "\n".join([*lines, f"{end} at delta {self.delta:g}"])


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} is {value}", fix=f"give a {name} above zero")


def _delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise InputError(f"delta is {delta}", fix="give a delta between 0 and 1, below 1 / number of rows")
