"""A `LogitMarket` whose firms may charge only prices of a grid.

Best responses, pure equilibria and the grid's loss are exact. A firm's profit per visitor against
R, the outside option and the rivals, is sum m_i e_i / (R + sum e_i), with the mark-up m_i and the
odds e_i of the level it picks for product i. It exceeds v just if sum (m_i - v) e_i > v R; there
each product may be picked by itself. Starting from any v, picking so and taking the profit as the
next v (Dinkelbach's method) is exact after a few rounds, however many products: there is no need to
try all L^G combinations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from rl_markets.envs.numerics.checks import FloatArray, IntArray, choices, finite, whole
from rl_markets.envs.pricing.solution.mnl import LogitMarket
from rl_markets.errors import ConvergenceError

MOST_PROFILES = 2_000_000  # profiles of prices that `pure_equilibria` enumerates


@dataclass(frozen=True, eq=False)
class GridMarket:
    """The market and its price levels [G, L].

    A profile is one index of a level for each product, integers [G].
    """

    market: LogitMarket
    levels: FloatArray

    def __post_init__(self) -> None:
        levels = finite("levels", self.levels, ndim=2)
        if len(levels) != len(self.market.a):
            raise ValueError(
                f"levels has shape {levels.shape}: "
                f"expected a row for each of {len(self.market.a)} products"
            )
        levels.flags.writeable = False
        object.__setattr__(self, "levels", levels)

    def prices(self, profile: ArrayLike) -> FloatArray:
        """Prices [..., G] of profiles [..., G]."""
        products = np.arange(len(self.levels))
        return np.asarray(self.levels[products, np.asarray(profile, dtype=np.int64)])

    def best_response(self, firm: int, profile: ArrayLike) -> IntArray:
        """`profile` [G] with the levels of `firm` replaced by its best ones: exact.

        Best against the others' levels in `profile`.
        """
        G, L = self.levels.shape
        response = np.array(choices("profile", profile, (G,), L))
        mine = self.market.owners == firm
        if not mine.any():
            raise ValueError(f"firm {firm!r} has no products")
        prices = self.prices(response)
        rivals = np.append((self.market.a - prices)[~mine], self.market.outside) / self.market.mu
        response[mine] = self._pick(np.flatnonzero(mine), float(logsumexp(rivals)))
        return response

    def joint_optimum(self) -> IntArray:
        """The profile with the highest profit of all products together: [G], exact."""
        return self._pick(np.arange(len(self.levels)), self.market.outside / self.market.mu)

    def _pick(self, products: IntArray, log_rest: float) -> IntArray:
        """The best levels of `products` against the odds exp(log_rest) of everything else.

        Dinkelbach's method, see the module.
        """
        levels = self.levels[products]
        rows = np.arange(len(products))
        margin = levels - self.market.cost[products, None]
        log_odds = (self.market.a[products, None] - levels) / self.market.mu
        # All odds relative to the largest, so that no exponential overflows.
        top = max(float(log_odds.max()), log_rest)
        odds = np.exp(log_odds - top)
        rest = np.exp(log_rest - top)
        best = pick = np.argmax(levels, axis=1)
        value = -np.inf
        while True:  # the value rises with every round, and there are finitely many
            picked_odds = odds[rows, pick]
            profit = float(margin[rows, pick] @ picked_odds / (rest + picked_odds.sum()))
            if not profit > value:
                return np.asarray(best)
            best = pick
            value = profit
            # Which picks earn more than `value` can be asked of each product by itself.
            pick = np.argmax((margin - value) * odds, axis=1)

    def regrets(self, profile: ArrayLike) -> FloatArray:
        """What each firm could gain per visitor by its best response: [firms].

        0 for all at an equilibrium.
        """
        profits = self.market.profits(self.prices(profile))
        gains = []
        for i, firm in enumerate(self.market.firms):
            response = self.best_response(int(firm), profile)
            gains.append(self.market.profits(self.prices(response))[i] - profits[i])
        return np.array(gains)

    def nash(self, start: ArrayLike | None = None, most: int = 1000) -> IntArray:
        """A pure equilibrium, [G], reached by the firms' best responses in turn.

        start: a profile, by default the highest prices.
        Raises ConvergenceError if they have not come to rest after `most` rounds, as they may in a
        cycle. There may be other equilibria: see `pure_equilibria`.
        """
        profile = np.argmax(self.levels, axis=1) if start is None else np.asarray(start)
        for _ in range(whole("most", most, 1)):
            before = profile
            for i, firm in enumerate(self.market.firms):
                response = self.best_response(int(firm), profile)
                both = self.prices(np.stack([profile, response]))
                stay, move = self.market.profits(both)[:, i]
                if move > stay:  # where both are equally good, a move could go round for ever
                    profile = response
            if np.array_equal(profile, before):
                return np.asarray(profile, dtype=np.int64)
        raise ConvergenceError(f"best responses on the grid did not come to rest in {most} rounds")

    def pure_equilibria(self) -> IntArray:
        """All pure equilibria, [number, G], by enumeration.

        Raises ValueError if there are more than MOST_PROFILES profiles.
        """
        G, L = self.levels.shape
        if float(L) ** G > MOST_PROFILES:
            raise ValueError(f"{L}^{G} profiles: expected at most {MOST_PROFILES} to enumerate")
        profits = np.empty((L**G, len(self.market.firms)))
        profiles = np.indices((L,) * G).reshape(G, -1).T
        parts = -(-(L**G) // 100_000)  # so many profiles at a time, to spare memory
        for part in np.array_split(np.arange(L**G), parts):
            profits[part] = self.market.profits(self.prices(profiles[part]))
        equilibrium = np.ones((L,) * G, dtype=bool)
        for i, firm in enumerate(self.market.firms):
            own = tuple(np.flatnonzero(self.market.owners == firm))
            profit = profits[:, i].reshape((L,) * G)
            # The best over the firm's own axes, but for rounding.
            equilibrium &= profit >= profit.max(axis=own, keepdims=True) * (1.0 - 1e-12)
        return np.asarray(np.argwhere(equilibrium), dtype=np.int64)

    def grid_loss(self) -> float:
        """The share of the best joint profit that the grid costs, in [0, 1].

        To show beside what is learned on it.
        """
        best = float(self.market.joint_profit(self.market.monopoly()))
        return 1.0 - float(self.market.joint_profit(self.prices(self.joint_optimum()))) / best


def level_grid(list_prices: ArrayLike, multipliers: ArrayLike) -> FloatArray:
    """Levels [G, L] from list prices [G] and multipliers [L]."""
    rows = finite("list_prices", list_prices, 1)
    columns = finite("multipliers", multipliers, 1)
    return np.asarray(np.multiply.outer(rows, columns))
