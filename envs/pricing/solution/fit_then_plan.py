"""The baseline that learning has to beat: fit demand to logged sales, then plan by the exact
dynamic programme.

    D ~ Poisson(lambda),   log lambda = b0 + b1 p,   sales = min(D, stock)

A row that sold out says only that demand was no less than the stock: it contributes P(D >= stock),
    which makes this a
censored regression. Two common ways are wrong: `naive` takes sales for demand, `dropped` leaves the
    sold-out rows out
and so the best days with them. All are here, so that their errors can be shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammainc, gammaln, xlogy

from rl_markets.envs.numerics.checks import BoolArray, FloatArray, IntArray, not_negative, whole
from rl_markets.envs.pricing.solution.finite_horizon import Solution, probabilities, solve
from rl_markets.envs.pricing.solution.season import Season
from rl_markets.errors import ConvergenceError

Mode: TypeAlias = Literal["censored", "naive", "dropped"]


@dataclass(frozen=True, eq=False)
class SeasonLog:
    """N seasons as a shop would have written them down: all arrays are [T, N]."""

    action: IntArray  # index of the price
    price: FloatArray
    sales: IntArray  # units
    stock: IntArray  # at the period's start

    @property
    def sold_out(self) -> float:
        """Share of the rows with stock that sold out."""
        return float(np.mean((self.sales >= self.stock)[self.stock > 0]))


@dataclass(frozen=True, eq=False)
class DemandFit:
    """Fitted demand: coefficients (b0, b1), b1 per money, and their covariance [2, 2] from the
    likelihood's Hessian."""

    coefficients: FloatArray
    covariance: FloatArray
    log_likelihood: float
    rows: int

    @property
    def standard_errors(self) -> FloatArray:
        """[2], of (b0, b1); right only for the model that the rows came from."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    def mean(self, prices: ArrayLike) -> FloatArray:
        """lambda at an array of prices, in customers per period."""
        b0, b1 = self.coefficients
        return np.asarray(np.exp(b0 + b1 * np.asarray(prices, dtype=np.float64)))


def simulate(
    season: Season, behaviour: ArrayLike, seasons: int, rng: np.random.Generator
) -> SeasonLog:
    """`seasons` draws of the season under a behaviour policy: indices [T, C+1] or probabilities [T,
    C+1, A]."""
    chosen = np.cumsum(probabilities(season, behaviour), axis=-1)
    chosen /= chosen[..., -1:]
    N = whole("seasons", seasons, 1)
    action, sales, stock = (np.zeros((season.periods, N), dtype=np.int64) for _ in range(3))
    left = np.full(N, season.stock, dtype=np.int64)
    for t in range(season.periods):
        stock[t] = left
        action[t] = (rng.random(N)[:, None] >= chosen[t, left]).sum(axis=1)
        sales[t] = np.minimum(rng.poisson(season.demand[t, action[t]]), left)
        left = left - sales[t]
    return SeasonLog(action, season.prices[action], sales, stock)


def fit(price: ArrayLike, sales: ArrayLike, stock: ArrayLike, mode: Mode = "censored") -> DemandFit:
    """Demand fitted by maximum likelihood to rows of any one shape; rows without stock say nothing
    and are left out.

    Newton's method: the likelihood is concave. Raises ValueError for bad rows, and for rows that do
    not determine b0 and
    b1: a single price, no sale at all, or nothing but sold-out rows. Where a price never sold, or
        always sold out, the
    optimum may lie at infinity: the fit then ends far out, with huge standard errors, or raises
        ConvergenceError.
    """
    p, q, n = _rows(price, sales, stock)
    if mode not in get_args(Mode):
        raise ValueError(f"mode = {mode!r}: expected one of {', '.join(get_args(Mode))}")
    full = q >= n
    if mode == "dropped":
        p = p[~full]
        q = q[~full]
        n = n[~full]
        full = np.zeros(int((~full).sum()), dtype=bool)
    elif mode == "naive":
        full = np.zeros_like(full)
    if len(np.unique(p)) < 2 or not q.any() or full.all():
        raise ValueError(
            "the rows do not determine demand: expected two prices or more, a sale, and a row not "
            "sold out"
        )
    centre = p.mean()
    spread = p.std()  # Newton's steps are better scaled in standard units
    coefficients, hessian, best = _newton((p - centre) / spread, q, n, full)
    back = np.array([[1.0, -centre / spread], [0.0, 1.0 / spread]])
    return DemandFit(back @ coefficients, back @ np.linalg.inv(-hessian) @ back.T, best, len(p))


def fit_log(log: SeasonLog, mode: Mode = "censored") -> DemandFit:
    """`fit` to a log of seasons."""
    return fit(log.price, log.sales, log.stock, mode)


def planned_season(fitted: DemandFit, season: Season) -> Season:
    """The season with fitted demand in place of its own: what the shop believes."""
    return replace(season, demand=np.tile(fitted.mean(season.prices), (season.periods, 1)))


def plan(fitted: DemandFit, season: Season) -> Solution:
    """The optimum against fitted demand: evaluate its policy on `season` to know what it is
    worth."""
    return solve(planned_season(fitted, season))


def _rows(
    price: ArrayLike, sales: ArrayLike, stock: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    p, q, n = (
        not_negative(k, v) for k, v in (("price", price), ("sales", sales), ("stock", stock))
    )
    if not p.shape == q.shape == n.shape:
        raise ValueError(
            f"price, sales and stock have shapes {p.shape}, {q.shape}, {n.shape}: expected one "
            "shape"
        )
    if np.any(q > n):
        raise ValueError("sales above the stock")
    if np.any(q != np.round(q)) or np.any(n != np.round(n)):
        raise ValueError("sales and stock: expected whole numbers")
    there = n > 0
    return p[there], q[there], n[there]


def _newton(
    x: FloatArray, q: FloatArray, n: FloatArray, full: BoolArray
) -> tuple[FloatArray, FloatArray, float]:
    """(coefficients, Hessian, log likelihood) at the optimum of log lambda = b0 + b1 x."""
    table, weight = np.unique(
        np.stack([x, q, np.where(full, n, 0.0)], axis=1), axis=0, return_counts=True
    )
    x, q, n = table.T
    design = np.stack([np.ones_like(x), x], axis=1)
    b = np.array([np.log(q.max() + 1.0), 0.0])  # so high that no sold-out row is out of reach
    value, score, curvature = censored_poisson(design @ b, q, n)
    total = float(weight @ value)
    for _ in range(100):
        gradient = design.T @ (weight * score)
        hessian = (design * (weight * curvature)[:, None]).T @ design
        step = -np.linalg.solve(hessian, gradient)
        if float(gradient @ step) < 1e-12 * (1.0 + abs(total)):
            return b, np.asarray(hessian), total
        new = -inf
        size = 1.0
        while not new >= total and size > 1e-12:
            value, score, curvature = censored_poisson(design @ (b + size * step), q, n)
            new = float(weight @ value)
            b_new = b + size * step
            size = 0.5 * size
        b = b_new
        total = new
    raise ConvergenceError("the demand fit did not converge: its optimum may lie at infinity")


def censored_poisson(
    eta: FloatArray, q: FloatArray, n: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Log likelihood of each row and its two derivatives in eta = log lambda; n > 0 marks a row
    that sold out."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        lam = np.exp(eta)
        value = xlogy(q, lam) - lam - gammaln(q + 1.0)
        score = q - lam
        curvature = -lam
        out = n > 0
        lam = lam[out]
        n = n[out]
        tail = gammainc(n, lam)  # P(D >= n)
        # E[D | D >= n] - lambda = lambda P(D = n-1) / P(D >= n); the derivative is Var[D | D >= n]
        # - lambda < 0.
        excess = lam * np.exp(xlogy(n - 1.0, lam) - lam - gammaln(n)) / tail
        value[out] = np.log(tail)
        score[out] = excess
        curvature[out] = excess * (n - lam - excess)
    return value, score, curvature
