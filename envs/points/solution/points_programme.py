"""A points programme of one customer whose balance is known: a decision process, solved exactly.

Once per period the customer visits, with the balance b of points. The firm offers the rate r. He
buys with probability

    s(b, r) = 1 / (1 + exp(-(a - p + kappa r p + reward 1[b full]) / mu))

and gets r p yen of points; with the balance full, he pays `reward` less for this purchase and
starts again at 0. The firm earns p - c, less the reward if it is redeemed. After the visit the
whole balance expires with probability `expiry`. Balances count in steps of `unit` yen; points
between two steps are rounded up or down at random, right on average.

A redemption costs more than a purchase earns, if reward > p - c: so the best rate falls as the
balance fills. It does not fall all the way. Points beyond a full balance are lost, yet he values
them when he buys, so that next to a full balance high rates, then nearly free, come back; at a full
balance the best rate with these parameters is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rl_markets.envs.numerics.checks import FloatArray, IntArray, finite, not_negative, within
from rl_markets.envs.numerics.decision_process import DecisionProcess
from rl_markets.errors import ConvergenceError

RATES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.10, 0.15, 0.20)


@dataclass(frozen=True, eq=False)
class PointsSolution:
    """The optimum, in discounted money from a visit on."""

    value: FloatArray  # [balances]
    action_values: FloatArray  # [balances, rates]
    policy: IntArray  # [balances] index of the best rate

    @property
    def total(self) -> float:
        """The value of a new customer, without points."""
        return float(self.value[0])


@dataclass(frozen=True)
class PointsProgramme:
    """The programme's parameters: see the module. Money in yen, rates as shares of the price.

    Raises ValueError for numbers outside their range and a reward that is not a whole number of
    units.
    """

    price: float = 1000.0
    cost: float = 700.0
    a: float = 960.0
    mu: float = 110.0
    kappa: float = 0.6
    reward: float = 500.0
    unit: float = 10.0
    expiry: float = 0.03
    discount: float = 0.98
    rates: tuple[float, ...] = RATES

    def __post_init__(self) -> None:
        money = [self.price, self.cost, self.a, self.reward, self.unit]
        finite("price, cost, a, mu, kappa, reward, unit", [*money, self.mu, self.kappa])
        not_negative("rates", self.rates, ndim=1)
        if self.mu <= 0.0 or self.unit <= 0.0 or self.reward <= 0.0:
            raise ValueError(
                f"mu = {self.mu!r}, unit = {self.unit!r}, reward = {self.reward!r}: "
                "expected positive numbers"
            )
        units = self.reward / self.unit
        if abs(units - round(units)) > 1e-9 or self.reward < self.unit:
            raise ValueError(
                f"reward = {self.reward!r}: expected a whole number of units of {self.unit!r}"
            )
        within("expiry", self.expiry, 0.0, 1.0)
        within("discount", self.discount, 0.0, 1.0, open_high=True)

    @property
    def balances(self) -> FloatArray:
        """The balances in yen, 0 to the full one: [balances]."""
        return self.unit * np.arange(round(self.reward / self.unit) + 1.0)

    @property
    def shape(self) -> tuple[int, int]:
        """(balances, rates)."""
        return len(self.balances), len(self.rates)

    @cached_property
    def buys(self) -> FloatArray:
        """Probability of a purchase at each balance and rate: [balances, rates]."""
        points = np.asarray(self.rates) * self.price
        utility = self.a - self.price + self.kappa * points + self._discounts()[:, None]
        return np.asarray(expit(utility / self.mu))

    @cached_property
    def earnings(self) -> FloatArray:
        """Expected money of one visit at each balance and rate: [balances, rates]."""
        return np.asarray(self.buys * (self.price - self.cost - self._discounts())[:, None])

    @cached_property
    def transitions(self) -> FloatArray:
        """Probability of the next balance: [balances, rates, balances]."""
        n, rates = self.shape
        here = np.arange(n)[:, None]
        rate = np.arange(rates)[None, :]
        earned = np.asarray(self.rates) * self.price / self.unit
        whole = np.round(earned)
        earned = np.where(np.abs(earned - whole) < 1e-9, whole, earned)  # 0.07 * 1000 is 70
        low = np.floor(earned).astype(np.int64)
        start = np.where(here == n - 1, 0, here)  # a purchase with the balance full redeems it
        moves = np.zeros((n, rates, n))
        for more, weight in ((0, 1.0 - (earned - low)), (1, earned - low)):
            balance = np.minimum(start + low + more, n - 1)
            np.add.at(moves, (here, rate, balance), self.buys * weight)
        moves[here, rate, here] += 1.0 - self.buys
        moves *= 1.0 - self.expiry
        moves[..., 0] += self.expiry
        return np.asarray(moves)

    @cached_property
    def process(self) -> DecisionProcess:
        """The balances as states, the rates as actions."""
        return DecisionProcess(self.earnings, self.transitions, self.discount)

    def evaluate(self, policy: ArrayLike) -> FloatArray:
        """The value of a policy at each balance, by one linear system: [balances].

        policy: probabilities [balances, rates].
        """
        return self.process.evaluate(policy)

    def constants(self) -> FloatArray:
        """The value of a new customer under each rate, kept for ever: [rates]."""
        n, rates = self.shape
        return np.array([self.evaluate(np.tile(one, (n, 1)))[0] for one in np.eye(rates)])

    def solve(self) -> PointsSolution:
        """The optimum by policy iteration: exact but for rounding.

        It needs a handful of linear systems.
        """
        policy = self.process.best()
        value = self.process.values(policy)
        return PointsSolution(value, self.process.look_ahead(value), policy)

    def value_iteration(self, tolerance: float = 1e-9, most: int = 100_000) -> FloatArray:
        """The optimal value by value iteration, to `tolerance` yen: [balances].

        An independent, slower check. Raises ConvergenceError after `most` rounds.
        """
        value = np.zeros(self.shape[0])
        for _ in range(most):
            updated = self.process.look_ahead(value).max(axis=1)
            # The contraction's bound: what is still missing is at most change g / (1 - g).
            if np.abs(updated - value).max() * self.discount <= tolerance * (1.0 - self.discount):
                return np.asarray(updated)
            value = updated
        raise ConvergenceError(
            f"value iteration of the points programme: not within {tolerance:g} in {most} rounds"
        )

    def _discounts(self) -> FloatArray:
        """What a purchase at each balance redeems, yen: [balances]."""
        full = np.zeros(self.shape[0])
        full[-1] = self.reward
        return full
