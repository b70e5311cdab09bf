"""The Krusell-Smith (1998) economy: parameters, prices, chains of productivity and employment.

    max E sum_t beta^t log c_t,   c + k' = a = w hours employed + (1 - delta + kappa r) k,   k' >= 0
    Y = A K^alpha L^(1-alpha),   r = alpha Y / K,   w = (1-alpha) Y / L
    K = sum_j weight_j kappa_j E[k | type j]  (effective capital),   L = hours (1 - u)

Productivity A and the unemployment rate u switch together between a good and a bad state; given the
switch, households draw employment independently, and as there is a continuum of them, u holds
exactly. Households take prices as given. Krusell and Smith have one type, kappa = 1; types with
permanently different returns on capital are MARL-BC's, arXiv 2510.12272.

States: z = 0 good, 1 bad; e = 0 employed, 1 unemployed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl_markets.envs.numerics.checks import FloatArray

IntArray = NDArray[np.int64]
Rates = tuple[tuple[float, float], tuple[float, float]]  # [e][e'] a chain of employment
EmploymentChain = tuple[tuple[Rates, Rates], tuple[Rates, Rates]]  # [z][z'][e][e']

GOOD = 0
BAD = 1
EMPLOYED = 0
UNEMPLOYED = 1
# Of Krusell and Smith (1998): unemployment lasts 1.5 quarters in good times and 2.5 in bad ones.
KS98: EmploymentChain = (
    (((35 / 36, 1 / 36), (2 / 3, 1 / 3)), ((89 / 96, 7 / 96), (1 / 4, 3 / 4))),
    (((59 / 60, 1 / 60), (3 / 4, 1 / 4)), ((43 / 45, 2 / 45), (2 / 5, 3 / 5))),
)
CHAIN_TOLERANCE = 1e-9  # of probabilities that must add up


@dataclass(frozen=True)
class Economy:
    """Parameters of the economy; one period is a quarter.

    Raises ValueError, naming the field, for a value out of range, for weights that do not add up to
    1, and for an employment chain that does not lead from each state's unemployment rate to the
    next one's.
    """

    alpha: float = 0.36  # capital share of output
    beta: float = 0.95  # discount factor a period
    delta: float = 0.025  # depreciation a period
    hours: float = 1.11  # of an employed household
    productivity: tuple[float, float] = (1.01, 0.99)  # A by state
    unemployment: tuple[float, float] = (0.04, 0.10)  # u by state
    persistence: float = 0.875  # probability that the state stays
    employment: EmploymentChain = KS98
    kappa: tuple[float, ...] = (1.0,)  # productivity of each type's capital
    weights: tuple[float, ...] = (1.0,)  # share of each type in the population

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "persistence"):
            value = getattr(self, name)
            _require(0.0 < value < 1.0, name, value, "a number in (0, 1)")
        _require(0.0 < self.delta <= 1.0, "delta", self.delta, "a number in (0, 1]")
        _require(self.hours > 0.0, "hours", self.hours, "a positive number")
        for name in ("productivity", "kappa", "weights"):
            values = getattr(self, name)
            _require(min(values) > 0.0, name, values, "positive numbers")
        rates = all(0.0 < u < 1.0 for u in self.unemployment)
        _require(rates, "unemployment", self.unemployment, "rates in (0, 1)")
        for name in ("productivity", "unemployment"):
            values = getattr(self, name)
            _require(len(values) == 2, name, values, "one number for each of two states")
        same_length = len(self.weights) == len(self.kappa)
        shares = same_length and abs(sum(self.weights) - 1.0) < CHAIN_TOLERANCE
        _require(shares, "weights", self.weights, "one share for each kappa, 1 in all")
        self._check_employment()

    def _check_employment(self) -> None:
        name = "employment"
        value = self.employment
        chain = np.asarray(value, dtype=np.float64)
        _require(chain.shape == (2, 2, 2, 2), name, value, "probabilities [z][z'][e][e']")
        proper = bool(np.all(chain >= 0.0)) and _close(chain.sum(axis=-1), 1.0)
        _require(proper, name, value, "probabilities that add up to 1 over e'")
        # From each state's head-count [z][e], that of the next [z][z'][e'].
        next_count = np.einsum("ze,zyef->zyf", self.head_count, chain)
        expected = f"chains that lead to unemployment {self.unemployment}"
        _require(_close(next_count, self.head_count), name, value, expected)

    @property
    def types(self) -> int:
        """Number of kappa types, J."""
        return len(self.kappa)

    @cached_property
    def head_count(self) -> FloatArray:
        """Shares of employed and unemployed in each state: [Z, E]."""
        u = np.asarray(self.unemployment)
        return np.stack([1.0 - u, u], axis=-1)

    @cached_property
    def labour(self) -> FloatArray:
        """Hours worked per head in each state, L: [Z]."""
        return np.asarray(self.hours * self.head_count[:, EMPLOYED])

    @cached_property
    def transitions(self) -> FloatArray:
        """Probability of (z', e') after (z, e): [Z, E, Z', E']."""
        stay = self.persistence
        states = np.array([[stay, 1.0 - stay], [1.0 - stay, stay]])
        jobs = np.asarray(self.employment).transpose(0, 2, 1, 3)
        return np.asarray(states[:, None, :, None] * jobs)

    @cached_property
    def capital_scale(self) -> float:
        """The size of K: that of an economy of the most productive type alone, without risk."""
        rental = (1.0 / self.beta - 1.0 + self.delta) / max(self.kappa)
        return float((self.alpha / rental) ** (1.0 / (1.0 - self.alpha)) * self.labour.mean())

    def output(self, K: ArrayLike, z: ArrayLike) -> FloatArray:
        """Output per head, Y, at effective capital `K` in state `z`; shapes broadcast."""
        state = np.asarray(z)
        tfp = np.asarray(self.productivity)[state]
        labour = self.labour[state]
        return np.asarray(tfp * np.power(K, self.alpha) * labour ** (1.0 - self.alpha))

    def prices(self, K: ArrayLike, z: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Rental rate of effective capital before depreciation, and hourly wage: (r, w).

        Shapes broadcast.
        """
        y = self.output(K, z)
        r = self.alpha * y / np.asarray(K)
        w = (1.0 - self.alpha) * y / self.labour[np.asarray(z)]
        return r, w

    def wealth(
        self, k: ArrayLike, K: ArrayLike, z: ArrayLike, e: ArrayLike, kind: ArrayLike = 0
    ) -> FloatArray:
        """What a household can spend, a, with own capital `k` when effective capital is `K`.

        `kind` is its kappa type; shapes broadcast.
        """
        r, w = self.prices(K, z)
        earnings = np.where(np.asarray(e) == EMPLOYED, w * self.hours, 0.0)
        gross_return = 1.0 - self.delta + np.asarray(self.kappa)[np.asarray(kind)] * r
        return np.asarray(earnings + gross_return * np.asarray(k))


def _close(values: FloatArray, expected: ArrayLike) -> bool:
    return np.allclose(values, expected, rtol=0.0, atol=CHAIN_TOLERANCE)


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} = {value!r}: expected {expected}")
