"""The Krusell-Smith (1998) economy: parameters, prices and the chains of productivity and
employment.

    max E sum_t beta^t log c_t,   c + k' = a = w hours employed + (1 - delta + kappa r) k,   k' >= 0
    Y = A K^alpha L^(1-alpha),   r = alpha Y / K,   w = (1-alpha) Y / L
    K = sum_j weight_j kappa_j E[k | type j]  (effective capital),   L = hours (1 - u)

Productivity A and the unemployment rate u switch together between a good and a bad state; given the
switch, households draw employment independently, and as there is a continuum of them, u holds
exactly. Households take prices as given. Krusell and Smith have one type, kappa = 1; types with
permanently different returns on capital are MARL-BC's, arXiv 2510.12272. States: z = 0 good, 1 bad;
e = 0 employed, 1 unemployed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rl_markets.envs.households.solution.economy import FloatArray

IntArray = NDArray[np.int64]
Rates = tuple[tuple[float, float], tuple[float, float]]  # [e][e'] a chain of employment
EmploymentChain = tuple[tuple[Rates, Rates], tuple[Rates, Rates]]  # [z][z'][e][e']

GOOD = 0
BAD = 1
EMPLOYED = 0
UNEMPLOYED = 1
KS98: EmploymentChain = (
    (((35 / 36, 1 / 36), (2 / 3, 1 / 3)), ((89 / 96, 7 / 96), (1 / 4, 3 / 4))),
    (((59 / 60, 1 / 60), (3 / 4, 1 / 4)), ((43 / 45, 2 / 45), (2 / 5, 3 / 5))),
)  # of Krusell and Smith (1998): unemployment lasts 1.5 quarters in good times and 2.5 in bad ones
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
            _require(
                0.0 < getattr(self, name) < 1.0, name, getattr(self, name), "a number in (0, 1)"
            )
        _require(0.0 < self.delta <= 1.0, "delta", self.delta, "a number in (0, 1]")
        _require(self.hours > 0.0, "hours", self.hours, "a positive number")
        for name in ("productivity", "kappa", "weights"):
            _require(min(getattr(self, name)) > 0.0, name, getattr(self, name), "positive numbers")
        _require(
            all(0.0 < u < 1.0 for u in self.unemployment),
            "unemployment",
            self.unemployment,
            "rates in (0, 1)",
        )
        for name in ("productivity", "unemployment"):
            _require(
                len(getattr(self, name)) == 2,
                name,
                getattr(self, name),
                "one number for each of two states",
            )
        same = (
            len(self.weights) == len(self.kappa) and abs(sum(self.weights) - 1.0) < CHAIN_TOLERANCE
        )
        _require(same, "weights", self.weights, "one share for each kappa, 1 in all")
        self._check_employment()

    def _check_employment(self) -> None:
        chain = np.asarray(self.employment, dtype=np.float64)
        _require(
            chain.shape == (2, 2, 2, 2),
            "employment",
            self.employment,
            "probabilities [z][z'][e][e']",
        )
        proper = bool(np.all(chain >= 0.0)) and np.allclose(
            chain.sum(axis=-1), 1.0, rtol=0.0, atol=CHAIN_TOLERANCE
        )
        _require(proper, "employment", self.employment, "probabilities that add up to 1 over e'")
        after = np.einsum("ze,zyef->zyf", self.head_count, chain)
        kept = np.allclose(after, self.head_count, rtol=0.0, atol=CHAIN_TOLERANCE)
        _require(
            kept,
            "employment",
            self.employment,
            f"chains that lead to unemployment {self.unemployment}",
        )

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
        return np.asarray(
            states[:, None, :, None] * np.asarray(self.employment).transpose(0, 2, 1, 3)
        )

    @cached_property
    def capital_scale(self) -> float:
        """Effective capital of an economy of the most productive type alone, without risk: K's
        size."""
        rental = (1.0 / self.beta - 1.0 + self.delta) / max(self.kappa)
        return float((self.alpha / rental) ** (1.0 / (1.0 - self.alpha)) * self.labour.mean())

    def output(self, K: ArrayLike, z: ArrayLike) -> FloatArray:
        """Output per head, Y, at effective capital `K` in state `z`; shapes broadcast."""
        tfp = np.asarray(self.productivity)[np.asarray(z)]
        return np.asarray(
            tfp * np.power(K, self.alpha) * self.labour[np.asarray(z)] ** (1.0 - self.alpha)
        )

    def prices(self, K: ArrayLike, z: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Rental rate of effective capital before depreciation and hourly wage, (r, w); shapes
        broadcast."""
        y = self.output(K, z)
        return self.alpha * y / np.asarray(K), (1.0 - self.alpha) * y / self.labour[np.asarray(z)]

    def wealth(
        self, k: ArrayLike, K: ArrayLike, z: ArrayLike, e: ArrayLike, kind: ArrayLike = 0
    ) -> FloatArray:
        """What a household can spend, a, with capital `k` when effective capital is `K`; `kind`:
        its kappa type."""
        r, w = self.prices(K, z)
        earnings = np.where(np.asarray(e) == EMPLOYED, w * self.hours, 0.0)
        gross = 1.0 - self.delta + np.asarray(self.kappa)[np.asarray(kind)] * r
        return np.asarray(earnings + gross * np.asarray(k))


def _require(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name} = {value!r}: expected {expected}")
