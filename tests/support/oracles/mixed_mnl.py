"""Mixed logit: segments of customers, each with tastes of its own.

The best prices of a catalogue are found numerically:

    profit(p) = sum over k of w_k sum over i of (p_i - c_i) s_i(p; a_k, mu_k)

Mark-ups are no longer equal, and there may be several local optima: hence many starts. Points of
x_i yen, worth kappa_k x_i to segment k, are the utilities a_k + kappa_k x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize

from rl_markets.envs.numerics.checks import FloatArray, distributions, finite, positive, whole
from rl_markets.envs.pricing.solution.mnl import LogitMarket


@dataclass(frozen=True, eq=False)
class MixedLogit:
    """K segments of customers and G products.

    weights: [K], they sum to 1. a: utilities [K, G]. mu: scales [K]. cost: of a unit [G]. outside:
    the utility of buying nothing. All but the weights are money.
    Raises ValueError, in one line, for shapes that do not fit and for numbers out of range.
    """

    weights: FloatArray
    a: FloatArray
    mu: FloatArray
    cost: FloatArray
    outside: float = 0.0

    def __post_init__(self) -> None:
        a = finite("a", self.a, ndim=2)
        cost = finite("cost", self.cost, ndim=1)
        finite("outside", self.outside)
        mu = positive("mu", self.mu, ndim=1)
        weights = distributions("weights", self.weights, a.shape[:1])
        if mu.shape != a.shape[:1] or cost.shape != a.shape[1:]:
            raise ValueError(
                f"a has shape {a.shape}: "
                f"expected mu {mu.shape} and cost {cost.shape} to be its two sides"
            )
        for name, array in (("weights", weights), ("a", a), ("mu", mu), ("cost", cost)):
            object.__setattr__(self, name, array)

    def segment_shares(self, prices: ArrayLike) -> FloatArray:
        """Probabilities of buying, by segment: [K, G] for prices [G]."""
        u = (self.a - np.asarray(prices, dtype=np.float64)) / self.mu[:, None]
        none = (self.outside / self.mu)[:, None]
        # Less the largest utility, no exponential overflows.
        top = np.maximum(u.max(axis=1, keepdims=True), none)
        odds = np.exp(u - top)
        return np.asarray(odds / (np.exp(none - top) + odds.sum(axis=1, keepdims=True)))

    def profit(self, prices: ArrayLike) -> float:
        """Profit per visitor at prices [G]."""
        margin = np.asarray(prices, dtype=np.float64) - self.cost
        return float(self.weights @ (self.segment_shares(prices) @ margin))

    def gradient(self, prices: ArrayLike) -> FloatArray:
        """Its derivative in each price: [G].

        That is sum over k of w_k s_i (1 - (m_i - sum_j m_j s_j) / mu_k), with the margins m.
        """
        s = self.segment_shares(prices)
        margin = np.asarray(prices, dtype=np.float64) - self.cost
        by_segment = s * (1.0 - (margin - (s @ margin)[:, None]) / self.mu[:, None])
        return np.asarray(self.weights @ by_segment)

    def optimum(self, starts: int = 20, seed: int = 0) -> tuple[FloatArray, float]:
        """(prices [G], profit per visitor), the best of many local optima.

        A global one is likely, not certain. The starts are the segments' own optima, then `starts`
        random mixtures of them.
        """
        markets = [
            LogitMarket(a, self.cost, float(mu), None, self.outside)
            for a, mu in zip(self.a, self.mu, strict=True)
        ]
        own = np.stack([market.monopoly() for market in markets])
        rng = np.random.default_rng(seed)
        mixed = rng.dirichlet(np.ones(len(own)), size=(whole("starts", starts, 0), own.shape[1]))
        random = np.einsum("ngk,kg->ng", mixed, own)
        optima = [self._local_optimum(start) for start in np.concatenate([own, random])]
        best = max(optima, key=self.profit)
        return np.asarray(best), self.profit(best)

    def _local_optimum(self, start: FloatArray) -> FloatArray:
        """Prices [G] that the search from `start` [G] ends at."""
        # Prices in units of taste, profit likewise: well scaled for the search.
        scale = float(self.mu.mean())
        search = minimize(
            lambda x: -self.profit(x * scale) / scale,
            start / scale,
            jac=lambda x: -self.gradient(x * scale),
            method="BFGS",
            options={"gtol": 1e-10},
        )
        return np.asarray(search.x * scale)
