"""Mixed logit: segments of customers, each with tastes of its own. The best prices of a catalogue,
found numerically.

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
    """K segments and G products: weights [K] that sum to 1, utilities a [K, G], scales mu [K], unit
    costs [G].

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
                f"a has shape {a.shape}: expected mu {mu.shape} and cost {cost.shape} to be its "
                "two sides"
            )
        for name, array in (("weights", weights), ("a", a), ("mu", mu), ("cost", cost)):
            object.__setattr__(self, name, array)

    def segment_shares(self, prices: ArrayLike) -> FloatArray:
        """Probabilities of buying, by segment: [K, G] for prices [G]."""
        u = (self.a - np.asarray(prices, dtype=np.float64)) / self.mu[:, None]
        none = (self.outside / self.mu)[:, None]
        top = np.maximum(u.max(axis=1, keepdims=True), none)
        odds = np.exp(u - top)
        return np.asarray(odds / (np.exp(none - top) + odds.sum(axis=1, keepdims=True)))

    def profit(self, prices: ArrayLike) -> float:
        """Profit per visitor at prices [G]."""
        margin = np.asarray(prices, dtype=np.float64) - self.cost
        return float(self.weights @ (self.segment_shares(prices) @ margin))

    def gradient(self, prices: ArrayLike) -> FloatArray:
        """Its derivative in each price: [G], sum over k of w_k s_i (1 - (m_i - sum_j m_j s_j) /
        mu_k)."""
        s = self.segment_shares(prices)
        margin = np.asarray(prices, dtype=np.float64) - self.cost
        each = s * (1.0 - (margin - (s @ margin)[:, None]) / self.mu[:, None])
        return np.asarray(self.weights @ each)

    def optimum(self, starts: int = 20, seed: int = 0) -> tuple[FloatArray, float]:
        """(prices [G], profit per visitor), the best of many local optima; a global one is likely,
        not certain.

        The starts are the segments' own optima, then `starts` random mixtures of them.
        """
        own = np.stack(
            [
                LogitMarket(a, self.cost, float(mu), None, self.outside).monopoly()
                for a, mu in self._segments()
            ]
        )
        rng = np.random.default_rng(seed)
        mixed = rng.dirichlet(np.ones(len(own)), size=(whole("starts", starts, 0), own.shape[1]))
        random = np.einsum("ngk,kg->ng", mixed, own)
        scale = float(
            self.mu.mean()
        )  # prices in units of taste, profit likewise: well scaled for the search
        found = [
            minimize(
                lambda x: -self.profit(x * scale) / scale,
                start / scale,
                jac=lambda x: -self.gradient(x * scale),
                method="BFGS",
                options={"gtol": 1e-10},
            ).x
            * scale
            for start in np.concatenate([own, random])
        ]
        best = max(found, key=self.profit)
        return np.asarray(best), self.profit(best)

    def _segments(self) -> list[tuple[FloatArray, float]]:
        return [(a, float(mu)) for a, mu in zip(self.a, self.mu, strict=True)]
