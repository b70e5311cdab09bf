"""The best prices of a `Season`, and what any policy is worth.

Exact dynamic programming over the stock:

    Q(t, I, a) = earnings(t, I, a) + discount E V(t+1, I')
    V(t, I) = max over a of Q(t, I, a),   V(T, I) = salvage I

A policy is either prices' indices, integers [T, C+1], or probabilities, floats [T, C+1, A].
Everything is exact but for rounding, about 1e-12 of the value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.numerics.checks import FloatArray, IntArray, choices, distributions
from rl_markets.envs.pricing.solution.season import Season


@dataclass(frozen=True, eq=False)
class Solution:
    """The optimum of a season, in money from period t on with I units."""

    value: FloatArray  # [T+1, C+1]
    action_values: FloatArray  # [T, C+1, A]
    policy: IntArray  # [T, C+1] index of the best price; the first of equals

    @property
    def total(self) -> float:
        """The value of the whole season."""
        return float(self.value[0, -1])


@dataclass(frozen=True)
class TwoPrices:
    """A plan known beforehand: the price `first` before period `switch`, `second` from it on.

    Both are indices of prices; `value` is of the whole season, in money.
    """

    value: float
    first: int
    second: int
    switch: int


def solve(season: Season) -> Solution:
    """The optimal policy of the season, and its values."""
    T, levels, A = season.shape
    value = np.empty((T + 1, levels))
    action_values = np.empty((T, levels, A))
    value[T] = season.last_value()
    for t in range(T - 1, -1, -1):
        ahead = season.transitions(t) @ value[t + 1]
        action_values[t] = (season.earnings(t) + season.discount * ahead).T
        value[t] = action_values[t].max(axis=-1)
    return Solution(value, action_values, action_values.argmax(axis=-1))


def probabilities(season: Season, policy: ArrayLike) -> FloatArray:
    """A policy of either kind as probabilities [T, C+1, A]; ValueError if it is neither kind."""
    T, levels, A = season.shape
    array = np.asarray(policy)
    if array.ndim == 2:
        return np.eye(A)[choices("policy", array, (T, levels), A)]
    return distributions("policy", array, season.shape)


def evaluate(season: Season, policy: ArrayLike) -> FloatArray:
    """The value of a policy from each period on, at each stock: [T+1, C+1], in money.

    The whole season's stands at [0, C].
    """
    charged = probabilities(season, policy)
    value = np.empty((season.periods + 1, season.stock + 1))
    value[-1] = season.last_value()
    for t in range(season.periods - 1, -1, -1):
        ahead = season.transitions(t) @ value[t + 1]
        action_values = season.earnings(t) + season.discount * ahead
        value[t] = np.einsum("sa,as->s", charged[t], action_values)
    return value


def stock_distribution(season: Season, policy: ArrayLike) -> FloatArray:
    """Probability of each stock at the start of each period: [T+1, C+1].

    The last row is that after all periods.
    """
    charged = probabilities(season, policy)
    reached = np.zeros((season.periods + 1, season.stock + 1))
    reached[0, -1] = 1.0
    for t in range(season.periods):
        moves = season.transitions(t)
        reached[t + 1] = np.einsum("s,sa,asn->n", reached[t], charged[t], moves, optimize=True)
    return reached


def leftover(season: Season, policy: ArrayLike) -> float:
    """Expected units left after the last period; waste, where the deadline is an expiry date."""
    return float(stock_distribution(season, policy)[-1] @ np.arange(season.stock + 1))


def fixed(season: Season) -> FloatArray:
    """The value of each price, kept for the whole season: [A]."""
    return np.asarray(_constant_values(season)[0, :, -1])


def open_loop(season: Season, sequence: ArrayLike) -> float:
    """The value of prices known beforehand, whatever the sales, in money.

    sequence: [T] indices of prices.
    """
    indices = choices("sequence", sequence, (season.periods,), len(season.prices))
    value = season.last_value()
    for t in range(season.periods - 1, -1, -1):
        a = indices[t]
        value = season.earnings(t)[a] + season.discount * (season.transitions(t)[a] @ value)
    return float(value[-1])


def best_two_price(season: Season, falling: bool = True) -> TwoPrices:
    """The best plan that changes the price once at most, at a time set beforehand.

    falling: the second price is no higher than the first, as in a sale; otherwise it may also be
    higher.
    """
    T, levels, A = season.shape
    after = _constant_values(season)
    plan_values = np.full((T, A, A), -np.inf)  # by switch, first, second
    # Forward under each first price: the distribution of its stock, and what it has earned so far.
    stock = np.zeros((A, levels))
    stock[:, -1] = 1.0
    earned = np.zeros(A)
    weight = 1.0
    for t in range(T):
        # The second price from t on, at each stock that the first one leaves.
        plan_values[t] = earned[:, None] + weight * (stock @ after[t].T)
        earned = earned + weight * np.sum(stock * season.earnings(t), axis=1)
        stock = np.einsum("as,asn->an", stock, season.transitions(t))
        weight *= season.discount
    if falling:
        plan_values[:, season.prices[:, None] < season.prices] = -np.inf
    best = np.unravel_index(np.argmax(plan_values), plan_values.shape)
    switch, first, second = (int(i) for i in best)
    return TwoPrices(float(plan_values[switch, first, second]), first, second, switch)


def _constant_values(season: Season) -> FloatArray:
    """The value of keeping price a from period t on, at each stock: [T+1, A, C+1]."""
    T, levels, A = season.shape
    value = np.empty((T + 1, A, levels))
    value[T] = season.last_value()
    for t in range(T - 1, -1, -1):
        ahead = np.einsum("asn,an->as", season.transitions(t), value[t + 1])
        value[t] = season.earnings(t) + season.discount * ahead
    return value
