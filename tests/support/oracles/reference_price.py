"""A monopolist whose customers remember prices: the best path of prices, steady or in cycles.

Demand depends on the price p and on the reference price r, which follows past prices:

    d(p, r) = b0 - b1 p + gain (r - p)+ - loss (p - r)+,   r' = theta r + (1 - theta) p
    V(r)    = max over p of (p - c) d(p, r) + gamma V(r')

With gain = loss = beta, the optimum comes to rest at

    p_ss = (b0 + c (b1 + beta k)) / (2 b1 + beta k),   k = (1 - gamma) / (1 - gamma theta).

Loss-averse customers (loss > gain): any price between those of beta = gain and of beta = loss keeps
resting there. Gain-seeking customers (gain > loss): no rest is optimal; prices cycle for ever.

All this holds for prices at which somebody buys. Demand does not fall below 0, so that a price
which nobody pays lifts the reference for nothing: if such prices are allowed, the optimum may
alternate between them and sales, with gains that grow with the highest price allowed, whatever
customers feel about losses. Limit the prices to those of the case.
Source: Popescu and Wu (2007), Operations Research 55(3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.numerics.checks import FloatArray, finite, whole, within
from rl_markets.errors import ConvergenceError


@dataclass(frozen=True)
class ReferenceMarket:
    """The market's parameters: see the module. Prices in money, demand in units per period.

    Raises ValueError unless b0, b1 > 0, gain, loss >= 0, and theta, gamma lie in [0, 1).
    """

    b0: float = 1000.0
    b1: float = 1.0
    gain: float = 1.0
    loss: float = 1.0
    cost: float = 200.0
    theta: float = 0.8
    gamma: float = 0.95

    def __post_init__(self) -> None:
        finite("b0, b1, gain, loss, cost", [self.b0, self.b1, self.gain, self.loss, self.cost])
        if self.b0 <= 0.0 or self.b1 <= 0.0 or min(self.gain, self.loss) < 0.0:
            raise ValueError(f"{self}: expected b0, b1 > 0 and gain, loss >= 0")
        within("theta", self.theta, 0.0, 1.0, open_high=True)
        within("gamma", self.gamma, 0.0, 1.0, open_high=True)

    def demand(self, price: ArrayLike, reference: ArrayLike) -> FloatArray:
        """d(p, r), not below 0; the arguments broadcast."""
        p = np.asarray(price, dtype=np.float64)
        r = np.asarray(reference, dtype=np.float64)
        memory = self.gain * np.maximum(r - p, 0.0) - self.loss * np.maximum(p - r, 0.0)
        return np.asarray(np.maximum(self.b0 - self.b1 * p + memory, 0.0))

    def profit(self, price: ArrayLike, reference: ArrayLike) -> FloatArray:
        """(p - c) d(p, r), money per period; the arguments broadcast."""
        return (np.asarray(price, dtype=np.float64) - self.cost) * self.demand(price, reference)

    def steady_price(self, beta: float) -> float:
        """p_ss for customers with gain = loss = beta; `steady_range` for others."""
        k = (1.0 - self.gamma) / (1.0 - self.gamma * self.theta)
        return (self.b0 + self.cost * (self.b1 + beta * k)) / (2.0 * self.b1 + beta * k)

    def steady_range(self) -> tuple[float, float]:
        """(lowest, highest) price at which the optimum rests.

        Raises ValueError if customers seek gains: then it rests nowhere.
        """
        if self.gain > self.loss:
            raise ValueError(
                f"gain = {self.gain!r} > loss = {self.loss!r}: the optimal prices cycle"
            )
        return self.steady_price(self.loss), self.steady_price(self.gain)

    def best_constant(self) -> tuple[float, float]:
        """(price, profit per period) of the best price that never changes.

        The reference rests there, too.
        """
        price = 0.5 * (self.b0 / self.b1 + self.cost)
        return price, float(self.profit(price, price))


@dataclass(frozen=True, eq=False)
class ReferenceSolution:
    """The optimum on a grid of prices that serves as grid of references too."""

    market: ReferenceMarket
    grid: FloatArray  # [N] prices
    value: FloatArray  # [N] at each reference
    policy: FloatArray  # [N] price at each reference

    def path(self, start: float, periods: int) -> tuple[FloatArray, FloatArray]:
        """(prices, references) from the reference `start` on, both [periods].

        Each price is the best against the value of the next reference, not the grid point's policy.
        """
        within("start", start, float(self.grid[0]), float(self.grid[-1]))
        prices = np.empty(whole("periods", periods, 1))
        references = np.empty(periods)
        m = self.market
        r = start
        for t in range(periods):
            next_references = m.theta * r + (1.0 - m.theta) * self.grid
            later = np.interp(next_references, self.grid, self.value)
            prices[t] = self.grid[np.argmax(m.profit(self.grid, r) + m.gamma * later)]
            references[t] = r
            r = m.theta * r + (1.0 - m.theta) * prices[t]
        return prices, references

    def gain_over_constant(
        self, start: float = 700.0, settle: int = 400, periods: int = 2000
    ) -> float:
        """Average profit in the long run over that of the best constant price, less 1.

        The path from `start` on is counted for `periods` periods after `settle` ones. The optimum
        is of discounted profit, and a patient seller's average could be higher still.
        """
        prices, references = self.path(start, settle + periods)
        profits = self.market.profit(prices[settle:], references[settle:])
        return float(profits.mean()) / self.market.best_constant()[1] - 1.0


def solve_reference(
    market: ReferenceMarket, low: float = 200.0, high: float = 900.0, n: int = 601
) -> ReferenceSolution:
    """The optimum by policy iteration, with V linear between the grid points.

    n: how many, from `low` to `high`. Prices and their steady state are right to about one step of
    the grid. `high` matters: see the module about prices that nobody pays.
    Raises ValueError for an empty range, ConvergenceError if the iteration does not come to rest.
    """
    finite("low, high", [low, high])
    if not low < high:
        raise ValueError(f"low = {low!r}, high = {high!r}: expected low < high")
    grid = np.linspace(low, high, whole("n", n, 2))
    profit = market.profit(grid[None, :], grid[:, None])  # by reference, price
    # The next reference lies between two grid points: `left` and the one after, reached by `share`.
    next_reference = market.theta * grid[:, None] + (1.0 - market.theta) * grid[None, :]
    place = np.clip((next_reference - low) / (high - low) * (n - 1), 0.0, n - 1.0)
    left = np.minimum(place.astype(np.int64), n - 2)
    share = place - left
    rows = np.arange(n)
    choice = np.argmax(profit, axis=1)
    for _ in range(200):
        moves = np.zeros((n, n))
        moves[rows, left[rows, choice]] = 1.0 - share[rows, choice]
        moves[rows, left[rows, choice] + 1] = share[rows, choice]
        value = np.linalg.solve(np.eye(n) - market.gamma * moves, profit[rows, choice])
        total = profit + market.gamma * ((1.0 - share) * value[left] + share * value[left + 1])
        # By more than rounding, or equally good prices would alternate for ever.
        better = total.max(axis=1) > total[rows, choice] + 1e-9 * (1.0 + np.abs(value))
        if not better.any():
            return ReferenceSolution(market, grid, value, grid[choice])
        choice = np.where(better, np.argmax(total, axis=1), choice)
    raise ConvergenceError("policy iteration with a reference price did not come to rest")
