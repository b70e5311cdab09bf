"""The baseline that learning has to beat: fit demand to logged sales, then plan with it.

    D ~ Poisson(lambda),   log lambda = b0 + b1 p,   sales = min(D, stock)

A row that sold out says only that demand was no less than the stock: it contributes P(D >= stock),
which makes this a censored regression. Two common ways are wrong: `naive` takes sales for demand,
`dropped` leaves the sold-out rows out and so the best days with them. All are here, so that their
errors can be shown. The plan is the exact dynamic programme.
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
    """Fitted demand: coefficients (b0, b1), b1 per money, from so many rows.

    Their covariance [2, 2] is the inverse of the likelihood's negative Hessian.
    """

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
    """`seasons` draws of the season under a behaviour policy.

    behaviour: indices [T, C+1] or probabilities [T, C+1, A].
    """
    cumulative = np.cumsum(probabilities(season, behaviour), axis=-1)
    cumulative /= cumulative[..., -1:]  # to end at 1 exactly, or a draw close to 1 has no price
    N = whole("seasons", seasons, 1)
    action, sales, stock = (np.zeros((season.periods, N), dtype=np.int64) for _ in range(3))
    left = np.full(N, season.stock, dtype=np.int64)
    for t in range(season.periods):
        stock[t] = left
        # By inversion: how many prices have their cumulative probability at or below the draw.
        action[t] = (rng.random(N)[:, None] >= cumulative[t, left]).sum(axis=1)
        sales[t] = np.minimum(rng.poisson(season.demand[t, action[t]]), left)
        left = left - sales[t]
    return SeasonLog(action, season.prices[action], sales, stock)


def fit(price: ArrayLike, sales: ArrayLike, stock: ArrayLike, mode: Mode = "censored") -> DemandFit:
    """Demand fitted by maximum likelihood to rows of any one shape.

    Rows without stock say nothing and are left out. Newton's method: the likelihood is concave.
    Raises ValueError for bad rows, and for rows that do not determine b0 and b1: a single price, no
    sale at all, or nothing but sold-out rows. Where a price never sold, or always sold out, the
    optimum may lie at infinity: the fit then ends far out, with huge standard errors, or raises
    ConvergenceError.
    """
    p, q, n = _rows(price, sales, stock)
    if mode not in get_args(Mode):
        raise ValueError(f"mode = {mode!r}: expected one of {', '.join(get_args(Mode))}")
    sold_out = q >= n
    if mode == "dropped":
        p = p[~sold_out]
        q = q[~sold_out]
        n = n[~sold_out]
        sold_out = np.zeros(int((~sold_out).sum()), dtype=bool)
    elif mode == "naive":
        sold_out = np.zeros_like(sold_out)
    if len(np.unique(p)) < 2 or not q.any() or sold_out.all():
        raise ValueError(
            "the rows do not determine demand: "
            "expected two prices or more, a sale, and a row not sold out"
        )
    # Newton's steps are better scaled in standard units; `back` turns its results into money's.
    centre = p.mean()
    spread = p.std()
    coefficients, hessian, best = _newton((p - centre) / spread, q, n, sold_out)
    back = np.array([[1.0, -centre / spread], [0.0, 1.0 / spread]])
    return DemandFit(back @ coefficients, back @ np.linalg.inv(-hessian) @ back.T, best, len(p))


def fit_log(log: SeasonLog, mode: Mode = "censored") -> DemandFit:
    """`fit` to a log of seasons."""
    return fit(log.price, log.sales, log.stock, mode)


def planned_season(fitted: DemandFit, season: Season) -> Season:
    """The season with fitted demand in place of its own: what the shop believes."""
    return replace(season, demand=np.tile(fitted.mean(season.prices), (season.periods, 1)))


def plan(fitted: DemandFit, season: Season) -> Solution:
    """The optimum against fitted demand.

    Its value is what the shop believes: evaluate its policy on `season` to know what it is worth.
    """
    return solve(planned_season(fitted, season))


def _rows(
    price: ArrayLike, sales: ArrayLike, stock: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Price, sales and stock of the rows with stock, [rows] each; ValueError for bad ones."""
    p = not_negative("price", price)
    q = not_negative("sales", sales)
    n = not_negative("stock", stock)
    if not p.shape == q.shape == n.shape:
        raise ValueError(
            f"price, sales and stock have shapes {p.shape}, {q.shape}, {n.shape}: "
            "expected one shape"
        )
    if np.any(q > n):
        raise ValueError("sales above the stock")
    if np.any(q != np.round(q)) or np.any(n != np.round(n)):
        raise ValueError("sales and stock: expected whole numbers")
    stocked = n > 0
    return p[stocked], q[stocked], n[stocked]


def _newton(
    x: FloatArray, q: FloatArray, n: FloatArray, sold_out: BoolArray
) -> tuple[FloatArray, FloatArray, float]:
    """(coefficients, Hessian, log likelihood) at the optimum of log lambda = b0 + b1 x."""
    # Equal rows are counted, not repeated; a stock of 0 marks those that do not count as sold out.
    rows = np.stack([x, q, np.where(sold_out, n, 0.0)], axis=1)
    table, weight = np.unique(rows, axis=0, return_counts=True)
    x, q, n = table.T
    design = np.stack([np.ones_like(x), x], axis=1)
    b = np.array([np.log(q.max() + 1.0), 0.0])  # so high that no sold-out row is out of reach
    value, score, curvature = censored_poisson(design @ b, q, n)
    total = float(weight @ value)
    for _ in range(100):
        gradient = design.T @ (weight * score)
        hessian = (design * (weight * curvature)[:, None]).T @ design
        step = -np.linalg.solve(hessian, gradient)
        # Twice what a full step gains on the quadratic model: rounding, when it is so small.
        if float(gradient @ step) < 1e-12 * (1.0 + abs(total)):
            return b, np.asarray(hessian), total
        # Halve the step until the likelihood does not fall; `>=` of a NaN is False, too.
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
    """Log likelihood of each row and its two derivatives in eta = log lambda: [rows] each.

    q: units sold. n: the stock of a row that sold out, 0 for one that did not.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        lam = np.exp(eta)
        value = xlogy(q, lam) - lam - gammaln(q + 1.0)
        score = q - lam
        curvature = -lam
        sold_out = n > 0
        lam = lam[sold_out]
        n = n[sold_out]
        tail = gammainc(n, lam)  # P(D >= n)
        # E[D | D >= n] - lambda = lambda P(D = n-1) / P(D >= n);
        # the derivative is Var[D | D >= n] - lambda < 0.
        excess = lam * np.exp(xlogy(n - 1.0, lam) - lam - gammaln(n)) / tail
        value[sold_out] = np.log(tail)
        score[sold_out] = excess
        curvature[sold_out] = excess * (n - lam - excess)
    return value, score, curvature
