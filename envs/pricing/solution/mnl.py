"""Many products, many firms, multinomial logit demand: the optimum, Nash equilibrium and monopoly.

With utilities a_i - p_i over mu and an outside option a0, a visitor buys product i with probability

    s_i = exp((a_i - p_i) / mu) / (exp(a0 / mu) + sum over j of exp((a_j - p_j) / mu)).

A firm f puts the same mark-up m_f on all of its products, and its profit per visitor is
m_f sum_{i in f} s_i:

    first-order condition  m_f = mu / (1 - sum_{i in f} s_i)
    best response          m_f = mu (1 + W(sum_{i in f} exp((a_i - c_i) / mu - 1) / R_f))
    its profit             m_f - mu

with R_f = exp(a0 / mu) + the rivals' sum, and W Lambert's function. One firm that owns all is the
monopoly; it is also the optimum of a catalogue. Products that each look to their own profit, as
firms of their own, compete with each other.
Sources: Li and Huh (2011), M&SOM 13(4); Calvano et al. (2020), American Economic Review 110(10),
for the duopoly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, wrightomega

from rl_markets.envs.numerics.checks import FloatArray, IntArray, choices, finite, positive
from rl_markets.errors import ConvergenceError


def shares(prices: ArrayLike, a: ArrayLike, mu: float, outside: float = 0.0) -> FloatArray:
    """Probabilities of buying each product: [..., G].

    Prices and utilities a are [..., G], and broadcast.
    """
    u = (np.asarray(a, dtype=np.float64) - np.asarray(prices, dtype=np.float64)) / mu
    # Less the largest utility, no exponential overflows.
    top = np.maximum(u.max(axis=-1, keepdims=True), outside / mu)
    odds = np.exp(u - top)
    return np.asarray(odds / (np.exp(outside / mu - top) + odds.sum(axis=-1, keepdims=True)))


@dataclass(frozen=True, eq=False)
class LogitMarket:
    """G products of one or several firms.

    a: utilities [G]. cost: of a unit [G]. mu: scale of taste. owner: the firm of each product [G];
    without it, each is a firm of its own. outside: the outside option's utility.
    All profits are money per visitor. Raises ValueError, in one line, for shapes that do not fit
    and for numbers that are not finite.
    """

    a: FloatArray
    cost: FloatArray
    mu: float
    owner: IntArray | None = None
    outside: float = 0.0

    def __post_init__(self) -> None:
        a = finite("a", self.a, ndim=1)
        cost = finite("cost", self.cost, ndim=1)
        positive("mu", self.mu)
        finite("outside", self.outside)
        if a.shape != cost.shape:
            raise ValueError(f"a has shape {a.shape}, cost {cost.shape}: expected one shape")
        owner = np.arange(len(a))
        if self.owner is not None:
            owner = choices("owner", self.owner, a.shape, len(a))
        for name, array in (("a", a), ("cost", cost), ("owner", owner)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def firms(self) -> IntArray:
        """The numbers of the firms that own a product, rising."""
        return np.unique(self.owners)

    @property
    def owners(self) -> IntArray:
        """The firm of each product: [G]."""
        assert self.owner is not None  # set on construction
        return self.owner

    def shares(self, prices: ArrayLike) -> FloatArray:
        """[..., G] for prices [..., G]."""
        return shares(prices, self.a, self.mu, self.outside)

    def product_profits(self, prices: ArrayLike) -> FloatArray:
        """Profit per visitor of each product: [..., G] for prices [..., G]."""
        return np.asarray((np.asarray(prices, dtype=np.float64) - self.cost) * self.shares(prices))

    def profits(self, prices: ArrayLike) -> FloatArray:
        """Profit per visitor of each firm, in the order of `firms`.

        [..., firms] for prices [..., G].
        """
        by_product = self.product_profits(prices)
        return np.asarray(by_product @ (self.owners[:, None] == self.firms).astype(np.float64))

    def joint_profit(self, prices: ArrayLike) -> FloatArray:
        """Profit per visitor of all products together: [...] for prices [..., G]."""
        return np.asarray(self.product_profits(prices).sum(axis=-1))

    def best_response(self, firm: int, prices: ArrayLike) -> FloatArray:
        """`prices` [G] with those of `firm` replaced by its best ones against the others'."""
        response = finite("prices", prices, ndim=1)
        mine = self.owners == firm
        if response.shape != self.a.shape or not mine.any():
            raise ValueError(
                f"prices of shape {response.shape}, firm {firm!r}: "
                f"expected {self.a.shape}, a firm with products"
            )
        rivals = logsumexp(np.append((self.a - response)[~mine], self.outside) / self.mu)
        own = logsumexp((self.a - self.cost)[mine] / self.mu - 1.0)
        # wrightomega(x) = W(exp(x)), without the overflow of exp.
        response[mine] = self.cost[mine] + self.mu * (1.0 + wrightomega(own - rivals))
        return response

    def nash(self, tolerance: float = 1e-12, most: int = 10_000) -> FloatArray:
        """Prices of the Bertrand-Nash equilibrium, which is unique: [G].

        One firm after the other answers the rest (Gauss and Seidel). Stops when no price moves by
        more than `tolerance` of mu; ConvergenceError after `most` rounds.
        """
        prices = self.cost + self.mu
        for _ in range(most):
            before = prices
            for firm in self.firms:
                prices = self.best_response(int(firm), prices)
            # Prices far above mu cannot be told apart any finer than by rounding.
            rounding = 4.0 * np.spacing(np.abs(prices).max())
            if np.abs(prices - before).max() <= tolerance * self.mu + rounding:
                return prices
        raise ConvergenceError(f"Nash prices: no rest within {tolerance:g} of mu in {most} rounds")

    def monopoly(self) -> FloatArray:
        """Prices of one firm that owns all products, the joint optimum: [G]."""
        one = replace(self, owner=np.zeros(len(self.a), dtype=np.int64))
        return one.best_response(0, self.cost)

    def foc_residuals(self, prices: ArrayLike) -> FloatArray:
        """p_i - c_i - mu / (1 - the firm's share), 0 at the equilibrium.

        [..., G] for prices [..., G].
        """
        p = np.asarray(prices, dtype=np.float64)
        # The rest's share is added up, not taken from 1: it may be far below the rounding of a
        # share near 1. Hence the outside option as a product at the price 0.
        with_outside = np.concatenate([p, np.zeros_like(p[..., :1])], axis=-1)
        bought = shares(with_outside, np.append(self.a, self.outside), self.mu, -np.inf)
        others = (self.owners[:, None] != self.owners).astype(np.float64)
        rest = bought[..., :-1] @ others + bought[..., -1:]
        return np.asarray(p - self.cost - self.mu / rest)

    def delta(self, profit: ArrayLike) -> FloatArray:
        """Calvano's Delta of a mean profit: 0 at Nash prices, 1 at the monopoly's.

        profit: the mean over firms, per visitor, [...].
        Raises ValueError for a single firm: its Nash prices are the monopoly's.
        """
        if len(self.firms) < 2:
            raise ValueError("Delta needs two firms or more")
        competing = self.profits(self.nash()).mean()
        colluding = self.profits(self.monopoly()).mean()
        above_nash = np.asarray(profit, dtype=np.float64) - competing
        return np.asarray(above_nash / (colluding - competing))

    def selfish_ratio(self) -> float:
        """Joint profit if each product earns for itself alone, over the optimum's: at most 1.

        What a seller loses by paying each of its products, or the agent that prices it, only that
        product's profit.
        """
        selfish = replace(self, owner=np.arange(len(self.a)))
        return float(self.joint_profit(selfish.nash()) / self.joint_profit(self.monopoly()))


def catalogue(
    products: int, a: float = 2.0, cost: float = 1.0, mu: float = 0.25, outside: float = 0.0
) -> LogitMarket:
    """`products` alike products, each a firm of its own.

    Two of them with the defaults are Calvano's duopoly.
    """
    utilities = np.full(products, float(a))
    costs = np.full(products, float(cost))
    return LogitMarket(utilities, costs, mu, None, outside)
