"""Families of demand as regressions: the log of mean sales of every row, and its derivatives in the
parameters.

Sales are Poisson around the mean, cut off by the stock: a row that sold out contributes P(D >=
    sales). Stores differ by a
factor; where visitors are known, demand is in proportion to them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rl_markets.sales.calibration.sales import SalesLog

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """What a regression needs of a log of R rows in N cells (a store's period).

    `visitors` [R], NaN where not known; `exposure` [R], log visitors over their mean, or 0;
    `others` [R], sum of the cell's other prices, and `log_others` that of their logs; `outside`
    [N], visitors who bought nothing, NaN where not known; `outside_period` [N]; `covariates` [R, F]
    of the logit.
    """

    log: SalesLog
    cell: Index
    visitors: Array
    exposure: Array
    others: Array
    log_others: Array
    outside: Array
    outside_period: Index
    covariates: Array

    @property
    def limit(self) -> Array:
        """[R] sales of the rows that sold out, 0 for others."""
        return np.where(self.log.sold_out, self.log.sales, 0.0)


def rows_of(log: SalesLog, visitors: float | None = None, covariates: Array | None = None) -> Rows:
    """The rows of a log; `visitors` per period, a mean, stands in where the log does not tell
    them."""
    cell = log.cells
    number = int(cell.max()) + 1

    def total(x: Array) -> Array:
        return np.asarray(np.bincount(cell, x, minlength=number), dtype=np.float64)

    told = not np.isnan(log.visitors).any()
    each = log.visitors if told else np.full(log.rows, np.nan if visitors is None else visitors)
    first = np.unique(cell, return_index=True)[1]
    exposure = np.log(np.maximum(each, 1e-9) / each[first].mean()) if told else np.zeros(log.rows)
    known = told & ~(
        total(log.sold_out.astype(float)) > 0
    )  # lost customers would count as such who wanted nothing
    outside = np.where(known, each[first] - total(log.sales), np.nan)
    log_price = np.log(log.price)
    return Rows(
        log,
        cell,
        each,
        exposure,
        total(log.price)[cell] - log.price,
        total(log_price)[cell] - log_price,
        outside,
        log.period[first],
        np.empty((log.rows, 0)) if covariates is None else covariates,
    )


class Family(ABC):
    """A family of demand of P products in S stores, with K parameters theta."""

    name: ClassVar[str]

    def __init__(self, rows: Rows) -> None:
        self.products = len(rows.log.products)
        self.stores = len(rows.log.stores)

    @abstractmethod
    def start(self, rows: Rows) -> Array:
        """[K] parameters so high in demand that no sold-out row is out of reach."""

    @abstractmethod
    def terms(self, theta: Array, rows: Rows) -> tuple[Array, Array]:
        """Log means [M] of what is observed, and their derivatives [M, K]; the log's R rows come
        first."""

    def observed(self, rows: Rows) -> tuple[Array, Array, Index]:
        """Counts [M], those of them that sold out (others 0) [M], and their periods [M]."""
        return rows.log.sales, rows.limit, rows.log.period

    @property
    @abstractmethod
    def own(self) -> slice:
        """The parameters that must be positive for demand to fall in the own price."""

    @abstractmethod
    def elasticities(self, theta: Array, price: Array) -> Array:
        """[P] own elasticities at the prices [P]."""

    @abstractmethod
    def demand(self, theta: Array, rows: Rows) -> dict[str, Any]:
        """The market's section `demand`, of the average store."""


def highest(rows: Rows, products: int) -> Array:
    """[P] a little more than each product ever sold."""
    found = np.ones(products)
    np.maximum.at(found, rows.log.product, rows.log.sales + 1.0)
    return found


class LogLinear(Family):
    """log mean = level_i - slope_i x_i + cross sum_{j != i} x_j + store; x is the price, or its
    log."""

    def __init__(self, rows: Rows, cross: bool = False) -> None:
        super().__init__(rows)
        self.cross = int(cross)

    @property
    def size(self) -> int:
        """Parameters without those of stores."""
        return 2 * self.products + self.cross

    @property
    def own(self) -> slice:
        """The slopes."""
        return slice(self.products, 2 * self.products)

    def x(self, rows: Rows) -> tuple[Array, Array]:
        """[R] own regressor, [R] sum of the others'."""
        return rows.log.price, rows.others

    def design(self, rows: Rows) -> Array:
        """[R, K]."""
        x, others = self.x(rows)
        found = np.zeros((rows.log.rows, self.size + self.stores - 1))
        each = np.arange(rows.log.rows)
        found[each, rows.log.product] = 1.0
        found[each, self.products + rows.log.product] = -x
        if self.cross:
            found[:, self.size - 1] = others
        later = rows.log.store > 0
        found[each[later], self.size - 1 + rows.log.store[later]] = 1.0
        return found

    def start(self, rows: Rows) -> Array:
        """Levels alone."""
        theta = np.zeros(self.size + self.stores - 1)
        theta[: self.products] = np.log(highest(rows, self.products))
        return theta

    def terms(self, theta: Array, rows: Rows) -> tuple[Array, Array]:
        """Linear in theta."""
        design = self.design(rows)
        return design @ theta + rows.exposure, design

    def elasticities(self, theta: Array, price: Array) -> Array:
        """-slope p."""
        return -theta[self.own] * price

    def factor(self, theta: Array) -> float:
        """The average store's size, over the first one's."""
        return float(np.exp(np.append(0.0, theta[self.size :])).mean())

    def _cross(self, theta: Array) -> float:
        return float(theta[self.size - 1]) if self.cross else 0.0

    def demand(self, theta: Array, rows: Rows) -> dict[str, Any]:
        """Sizes, slopes and the cross effect."""
        size = np.exp(theta[: self.products]) * self.factor(theta)
        return {
            "family": self.name,
            "size": size,
            "slope": theta[self.own],
            "cross": self._cross(theta),
        }


class Exponential(LogLinear):
    """size e^(-slope p)."""

    name = "exponential"


class Isoelastic(LogLinear):
    """size p^(-slope)."""

    name = "isoelastic"

    def x(self, rows: Rows) -> tuple[Array, Array]:
        """Logs of prices."""
        return np.log(rows.log.price), rows.log_others

    def elasticities(self, theta: Array, price: Array) -> Array:
        """-slope."""
        return -theta[self.own] * np.ones_like(price)


class Linear(LogLinear):
    """max(0, size_i - slope_i p_i + cross sum_{j != i} p_j), times the store's factor."""

    name = "linear"

    def start(self, rows: Rows) -> Array:
        """Sizes alone."""
        theta = super().start(rows)
        theta[: self.products] = highest(rows, self.products)
        return theta

    def terms(self, theta: Array, rows: Rows) -> tuple[Array, Array]:
        """The log of what is linear in theta; minus infinity where that is not positive."""
        design = self.design(rows)
        units = design[:, : self.size] @ theta[: self.size]
        positive = units > 0
        with np.errstate(divide="ignore"):
            eta = np.log(np.where(positive, units, 0.0))
        slopes = design.copy()
        slopes[:, : self.size] *= np.where(positive, 1 / np.where(positive, units, 1.0), 0.0)[
            :, None
        ]
        return eta + design[:, self.size :] @ theta[self.size :] + rows.exposure, slopes

    def elasticities(self, theta: Array, price: Array) -> Array:
        """-slope p / units."""
        units = (
            theta[: self.products]
            - theta[self.own] * price
            + self._cross(theta) * (price.sum() - price)
        )
        return np.asarray(-theta[self.own] * price / np.maximum(units, 1e-12))

    def demand(self, theta: Array, rows: Rows) -> dict[str, Any]:
        """All in units of the average store."""
        factor = self.factor(theta)
        found = {"size": theta[: self.products] * factor, "slope": theta[self.own] * factor}
        return {"family": self.name, **found, "cross": self._cross(theta) * factor}


class Logit(Family):
    """visitors e^(u_i) / (1 + sum_j e^(u_j)), u_i = level_i - b p_i + covariates; the sum is over
    the cell's products.

    Poisson thinning makes sales independent given the mean number of visitors. Where their number
    itself is known, those who bought nothing are one more count, and the likelihood is the
    multinomial's but for a constant.

    Args:
        rows: their visitors must be known.
        outside: whether visitors may buy nothing; without it, the first product's level is 0.
    """

    name = "logit"

    def __init__(self, rows: Rows, outside: bool = True) -> None:
        super().__init__(rows)
        self.outside = outside
        self.levels = self.products - (not outside)

    @property
    def own(self) -> slice:
        """b."""
        return slice(self.levels, self.levels + 1)

    def start(self, rows: Rows) -> Array:
        """Shares as of the best-selling periods."""
        theta = np.zeros(self.levels + 1 + rows.covariates.shape[1])
        if self.outside:
            share = highest(rows, self.products) / np.nanmean(rows.visitors)
            share *= min(1.0, 0.9 / share.sum())
            theta[: self.levels] = np.log(share / (1 - share.sum()))
        return theta

    def _design(self, rows: Rows) -> Array:
        levels = np.zeros((rows.log.rows, self.products))
        levels[np.arange(rows.log.rows), rows.log.product] = 1.0
        return np.hstack(
            [levels[:, self.products - self.levels :], -rows.log.price[:, None], rows.covariates]
        )

    def terms(self, theta: Array, rows: Rows) -> tuple[Array, Array]:
        """Products first, then the cells' outside options that are known."""
        x = self._design(rows)
        cells = len(rows.outside)
        utility = x @ theta
        top = np.zeros(cells) if self.outside else np.full(cells, -np.inf)
        np.maximum.at(top, rows.cell, utility)
        weight = np.exp(utility - top[rows.cell])
        member = csr_array(
            (weight, (rows.cell, np.arange(len(weight)))), shape=(cells, len(weight))
        )
        total = member.sum(axis=1) + (np.exp(-top) if self.outside else 0.0)
        inclusive = top + np.log(total)
        mean_x = (member @ x) / total[:, None]
        visitors = np.log(np.maximum(rows.visitors, 1e-9))
        eta = visitors + utility - inclusive[rows.cell]
        slopes = x - mean_x[rows.cell]
        if self.outside and (known := ~np.isnan(rows.outside)).any():
            of_cell = np.zeros(cells)
            of_cell[rows.cell] = visitors
            eta = np.append(eta, (of_cell - inclusive)[known])
            slopes = np.vstack([slopes, -mean_x[known]])
        return eta, slopes

    def observed(self, rows: Rows) -> tuple[Array, Array, Index]:
        """Sales, then the visitors who bought nothing."""
        sales, limit, period = super().observed(rows)
        if self.outside and (known := ~np.isnan(rows.outside)).any():
            none = rows.outside[known]
            when = rows.outside_period[known]
            return np.append(sales, none), np.append(limit, 0 * none), np.append(period, when)
        return sales, limit, period

    def elasticities(self, theta: Array, price: Array) -> Array:
        """-b p (1 - share)."""
        level = np.append(np.zeros(self.products - self.levels), theta[: self.levels])
        b = theta[self.levels]
        utility = level - b * price
        top = max(0.0, utility.max())
        e = np.exp(utility - top)
        return np.asarray(-b * price * (1 - e / (e.sum() + self.outside * np.exp(-top))))

    def demand(self, theta: Array, rows: Rows) -> dict[str, Any]:
        """Qualities in money; mu = 1 / b."""
        mu = 1 / theta[self.levels]
        first = np.unique(rows.cell, return_index=True)[1]
        quality = theta[: self.levels] * mu
        return {
            "family": self.name,
            "visitors": rows.visitors[first].mean(),
            "quality": quality,
            "mu": mu,
        }


FAMILIES: dict[str, type[Family]] = {f.name: f for f in (Linear, Exponential, Isoelastic, Logit)}
