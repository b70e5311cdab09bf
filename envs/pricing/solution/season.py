"""A season in periods: Poisson demand at each price, cut off by what is left in stock.

In period t, at the price p_a, the customers D are Poisson with the mean demand[t, a]; q = min(D, I)
units are sold and I' = I - q are left. The period earns

    ((1 - fee) p_a - cost) q - holding I'

and after the last period a unit left earns `salvage`, negative if throwing it away costs money. A
period's money counts `discount` times that of the period before. Units are whole; money is of any
currency, the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, gammainc, gammaln, xlogy

from rl_markets.envs.numerics.checks import (
    FloatArray,
    IntArray,
    finite,
    not_negative,
    whole,
    within,
)

GVR_PRICES = (400.0, 550.0, 700.0, 850.0, 1000.0, 1150.0, 1300.0, 1500.0, 1800.0)
PERISH_MULTIPLIERS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


@dataclass(frozen=True, eq=False)
class Season:
    """T periods and A prices; see the module for the equations.

    demand: [T, A] mean number of customers in a period. prices: [A]. stock: C, units at the start.
    cost: money per unit sold, 0 if it is sunk. salvage: money per unit left at the end. holding:
    money per unit and period kept. fee: share of the price that a platform takes. discount: weight
    of a period's money against that of the period before.
    Raises ValueError, in one line, for negative or missing numbers, and for shapes that do not fit.
    """

    demand: FloatArray
    prices: FloatArray
    stock: int
    cost: float = 0.0
    salvage: float = 0.0
    holding: float = 0.0
    fee: float = 0.0
    discount: float = 1.0

    def __post_init__(self) -> None:
        demand = not_negative("demand", self.demand, ndim=2)
        prices = not_negative("prices", self.prices, ndim=1)
        if demand.shape[1] != len(prices):
            raise ValueError(
                f"demand has shape {demand.shape}: "
                f"expected one column for each of {len(prices)} prices"
            )
        whole("stock", self.stock, 0)
        finite("cost, salvage, holding", [self.cost, self.salvage, self.holding])
        within("fee", self.fee, 0.0, 1.0, open_high=True)
        within("discount", self.discount, 0.0, 1.0, open_low=True)
        for name, array in (("demand", demand), ("prices", prices)):
            array.flags.writeable = False  # what is computed from them is kept
            object.__setattr__(self, name, array)

    @property
    def periods(self) -> int:
        """T, the number of periods."""
        return int(self.demand.shape[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, C + 1, A): of action values."""
        return self.periods, self.stock + 1, len(self.prices)

    @cached_property
    def _rows(self) -> tuple[FloatArray, IntArray]:
        """The distinct rows of demand, and which of them each period has."""
        rows, row_of = np.unique(self.demand, axis=0, return_inverse=True)
        return rows, np.asarray(row_of, dtype=np.int64).reshape(-1)

    @cached_property
    def _kernels(self) -> tuple[FloatArray, FloatArray]:
        """Transitions and earnings of each distinct row of demand.

        [R, A, C+1, C+1] stock before to stock after, and [R, A, C+1]. They take 8 R A (C+1)^2
        bytes, R being the number of distinct rows.
        """
        # Periods with the same demand share a kernel.
        transitions = censored_transitions(self._rows[0], self.stock)
        levels = np.arange(self.stock + 1)
        left = transitions @ levels
        margin = (1.0 - self.fee) * self.prices - self.cost
        return transitions, margin[:, None] * (levels - left) - self.holding * left

    def transitions(self, t: int) -> FloatArray:
        """P(I' | I, a) in period t: [A, C+1, C+1], last axis I'.

        Built once for each distinct row of demand.
        """
        return np.asarray(self._kernels[0][self._rows[1][t]])

    def earnings(self, t: int) -> FloatArray:
        """Expected money of period t at each price and stock: [A, C+1]."""
        return np.asarray(self._kernels[1][self._rows[1][t]])

    def last_value(self) -> FloatArray:
        """What the stock is worth after the last period: [C+1]."""
        return self.salvage * np.arange(self.stock + 1.0)


def censored_transitions(mean: ArrayLike, stock: int) -> FloatArray:
    """P(stock after | stock before) for Poisson demand, last axis the stock after.

    [..., C+1, C+1] for means [...] and C units of `stock`.
    """
    lam = np.asarray(mean, dtype=np.float64)[..., None]
    units = np.arange(stock + 1)
    mass = np.exp(xlogy(units, lam) - lam - gammaln(units + 1))  # P(D = k)
    sold = units[:, None] - units  # stock before less stock after
    # P(D = sold); stock does not grow.
    transitions = np.where(sold >= 0, mass[..., np.maximum(sold, 0)], 0.0)
    transitions[..., 0, 0] = 1.0
    # Sold out: P(D >= stock), exact in the tail too.
    transitions[..., 1:, 0] = gammainc(units[1:], lam)
    return np.asarray(transitions)


def gvr(periods_per_day: int = 1, prices: ArrayLike = GVR_PRICES) -> Season:
    """The instance GVR: 20 units in 30 days, 6 exp(-p / 500) customers a day, in yen.

    More periods a day and more prices bring it closer to the closed form in continuous time.
    """
    a_day = whole("periods_per_day", periods_per_day, 1)
    p = finite("prices", prices, ndim=1)
    demand = 6.0 / a_day * np.exp(-p / 500.0)
    return Season(np.tile(demand, (30 * a_day, 1)), p, stock=20)


def perish() -> Season:
    """The instance PERISH: 40 boxed lunches in 12 hours, list price 500 yen.

    Cost is sunk, and throwing one away costs 30 yen. Two peaks of customers, at hours 2 and 8; what
    they would pay falls by 14 yen an hour.
    """
    hour = np.arange(12.0)
    prices = 500.0 * np.array(PERISH_MULTIPLIERS)
    first_peak = 8.0 * np.exp(-0.5 * ((hour - 2.0) / 1.2) ** 2)
    second_peak = 10.0 * np.exp(-0.5 * ((hour - 8.0) / 1.5) ** 2)
    visitors = 6.0 + first_peak + second_peak
    bought = expit((480.0 - 14.0 * hour[:, None] - prices) / 70.0)
    return Season(visitors[:, None] * bought, prices, stock=40, salvage=-30.0)
