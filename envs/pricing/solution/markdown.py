"""The best prices of a `Season` where a price, once lowered, may not rise again.

Dynamic programming with the last price:

    Q(t, I, a) = earnings(t, I, a) + discount E V(t+1, I', a)
    V(t, I, l) = max over a >= l of Q(t, I, a)

The prices stand in falling order, so that an index may only grow; l is the last one, 0 at the
start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.numerics.checks import FloatArray, IntArray, choices, distributions
from rl_markets.envs.pricing.solution.season import Season


@dataclass(frozen=True, eq=False)
class MarkdownSolution:
    """The optimum under markdown only, from period t on with I units and the last price l.

    Values are in money.
    """

    value: FloatArray  # [T+1, C+1, A], last axis l
    # [T, C+1, A], last axis the price charged: the last price only limits the choice.
    action_values: FloatArray
    policy: IntArray  # [T, C+1, A] index of the best price, last axis l

    @property
    def total(self) -> float:
        """The value of the whole season, from the highest price on."""
        return float(self.value[0, -1, 0])


def solve_markdown(season: Season) -> MarkdownSolution:
    """The optimal markdown policy; ValueError unless the prices fall."""
    _falling(season)
    T, levels, A = season.shape
    value = np.empty((T + 1, levels, A))
    action_values = np.empty((T, levels, A))
    policy = np.empty((T, levels, A), dtype=np.int64)
    value[T] = season.last_value()[:, None]
    allowed = np.arange(A) >= np.arange(A)[:, None]  # by last price, price
    for t in range(T - 1, -1, -1):
        # The price charged is tomorrow's last one: hence V(t+1, I', a), not l.
        ahead = np.einsum("asn,na->sa", season.transitions(t), value[t + 1])
        action_values[t] = season.earnings(t).T + season.discount * ahead
        by_last = np.where(allowed, action_values[t][:, None, :], -np.inf)
        value[t] = by_last.max(axis=-1)
        policy[t] = by_last.argmax(axis=-1)
    return MarkdownSolution(value, action_values, policy)


def evaluate_markdown(season: Season, policy: ArrayLike) -> FloatArray:
    """The value of a markdown policy: [T+1, C+1, A], last axis the last price.

    The whole season's stands at [0, C, 0].
    policy: indices of prices, integers [T, C+1, A], or probabilities [T, C+1, A, A] with the price
    charged last.
    Raises ValueError if it ever raises the price.
    """
    T, levels, A = season.shape
    charged = _markdown_probabilities(season, policy)
    value = np.empty((T + 1, levels, A))
    value[T] = season.last_value()[:, None]
    for t in range(T - 1, -1, -1):
        ahead = np.einsum("asn,na->sa", season.transitions(t), value[t + 1])
        action_values = season.earnings(t).T + season.discount * ahead
        value[t] = np.einsum("sla,sa->sl", charged[t], action_values)
    return value


def leftover_markdown(season: Season, policy: ArrayLike) -> float:
    """Expected units left after the last period, of a policy as for `evaluate_markdown`."""
    charged = _markdown_probabilities(season, policy)
    reached = np.zeros((season.stock + 1, len(season.prices)))  # by stock, last price
    reached[-1, 0] = 1.0
    for t in range(season.periods):
        by_price = np.einsum("sl,sla->sa", reached, charged[t])
        reached = np.einsum("sa,asn->na", by_price, season.transitions(t))
    return float(reached.sum(axis=1) @ np.arange(season.stock + 1))


def _markdown_probabilities(season: Season, policy: ArrayLike) -> FloatArray:
    """A policy of either kind as probabilities [T, C+1, A, A]; ValueError if it is neither."""
    _falling(season)
    A = len(season.prices)
    array = np.asarray(policy)
    if array.ndim == 3:
        charged = np.eye(A)[choices("policy", array, season.shape, A)]
    else:
        charged = distributions("policy", array, (*season.shape, A))
    rises = np.arange(A) < np.arange(A)[:, None]
    if charged[..., rises].any():
        raise ValueError(
            "policy raises a price: under markdown only, an index may not be below the last one"
        )
    return charged


def _falling(season: Season) -> None:
    if np.any(np.diff(season.prices) >= 0.0):
        raise ValueError("prices must fall from the first to the last for markdown only")
