"""Families of demand as regressions.

Each gives the log of mean sales of every row, and its derivatives in the parameters. Sales are
Poisson around the mean, cut off by the stock: a row that sold out contributes P(D >= sales). Stores
differ by a factor; where visitors are known, demand is in proportion to them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rl_markets.sales.calibration.log import SalesLog

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """What a regression needs of a log of R rows in N cells (a store's period).

    Attributes:
        log: the rows themselves.
        cell: [R] of each row.
        visitors: [R] of the row's cell, NaN where not known.
        exposure: [R] log visitors over their mean, or 0.
        others, log_others: [R] sum of the cell's other prices, and that of their logs.
        outside: [N] visitors who bought nothing, NaN where not known.
        outside_period: [N] the cell's period.
        covariates: [R, F] of the logit.
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
    """The rows of a log.

    Args:
        log: of sales.
        visitors: their mean number a period; stands in where the log does not tell them.
        covariates: [R, F], none where left out.
    """
    cell = log.cells
    cells = int(cell.max()) + 1
    first = np.unique(cell, return_index=True)[1]  # a row of each cell

    def total(x: Array) -> Array:
        return np.asarray(np.bincount(cell, x, minlength=cells), dtype=np.float64)

    logged = not np.isnan(log.visitors).any()
    if logged:
        row_visitors = log.visitors
        exposure = np.log(np.maximum(row_visitors, 1e-9) / row_visitors[first].mean())
    else:
        row_visitors = np.full(log.rows, np.nan if visitors is None else visitors)
        exposure = np.zeros(log.rows)
    # Where something sold out, lost customers would count as such who wanted nothing.
    known = logged & ~(total(log.sold_out.astype(float)) > 0)
    log_price = np.log(log.price)
    return Rows(
        log=log,
        cell=cell,
        visitors=row_visitors,
        exposure=exposure,
        others=total(log.price)[cell] - log.price,
        log_others=total(log_price)[cell] - log_price,
        outside=np.where(known, row_visitors[first] - total(log.sales), np.nan),
        outside_period=log.period[first],
        covariates=np.empty((log.rows, 0)) if covariates is None else covariates,
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
        """Log means [M] of the observed counts, and their derivatives [M, K].

        The log's R rows come first.
        """

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
    largest = np.ones(products)
    np.maximum.at(largest, rows.log.product, rows.log.sales + 1.0)
    return largest


class LogLinear(Family):
    """log mean = level_i - slope_i x_i + cross sum_{j != i} x_j + store.

    x is the price, or its log. theta holds the P levels, the P slopes, the cross effect if there is
    one, and the stores' logs of size relative to the first store.

    Args:
        rows: for the numbers of products and stores.
        cross: whether other products' prices have an effect, the same for all.
    """

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
        """[R, K] regressors of the log mean; in `Linear`, of the mean before the store's factor."""
        x, others = self.x(rows)
        design = np.zeros((rows.log.rows, self.size + self.stores - 1))
        row = np.arange(rows.log.rows)
        design[row, rows.log.product] = 1.0
        design[row, self.products + rows.log.product] = -x
        if self.cross:
            design[:, self.size - 1] = others
        later = rows.log.store > 0  # the first store has no column: its factor is 1
        design[row[later], self.size - 1 + rows.log.store[later]] = 1.0
        return design

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
        slope = theta[self.own]
        return {"family": self.name, "size": size, "slope": slope, "cross": self._cross(theta)}


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
        inverse = np.where(positive, 1 / np.where(positive, units, 1.0), 0.0)
        slopes = design.copy()
        slopes[:, : self.size] *= inverse[:, None]  # d log(units) = d units / units
        return eta + design[:, self.size :] @ theta[self.size :] + rows.exposure, slopes

    def elasticities(self, theta: Array, price: Array) -> Array:
        """-slope p / units."""
        size = theta[: self.products]
        slope = theta[self.own]
        units = size - slope * price + self._cross(theta) * (price.sum() - price)
        return np.asarray(-slope * price / np.maximum(units, 1e-12))

    def demand(self, theta: Array, rows: Rows) -> dict[str, Any]:
        """All in units of the average store."""
        factor = self.factor(theta)
        size = theta[: self.products] * factor
        slope = theta[self.own] * factor
        cross = self._cross(theta) * factor
        return {"family": self.name, "size": size, "slope": slope, "cross": cross}


class Logit(Family):
    """visitors e^(u_i) / (1 + sum_j e^(u_j)), u_i = level_i - b p_i + covariates.

    The sum is over the cell's products; theta holds the levels, b, and the covariates'
    coefficients. Poisson thinning makes sales independent given the mean number of visitors. Where
    their number itself is known, those who bought nothing are one more count, and the likelihood is
    the multinomial's but for a constant.

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
        """[R, K] derivatives of the utilities."""
        levels = np.zeros((rows.log.rows, self.products))
        levels[np.arange(rows.log.rows), rows.log.product] = 1.0
        levels = levels[:, self.products - self.levels :]  # without the first, where it is 0
        return np.hstack([levels, -rows.log.price[:, None], rows.covariates])

    def terms(self, theta: Array, rows: Rows) -> tuple[Array, Array]:
        """Products first, then the cells' outside options that are known."""
        x = self._design(rows)
        cells = len(rows.outside)
        utility = x @ theta
        # Log-sum-exp by cell, with the largest utility taken out; buying nothing has utility 0.
        top = np.zeros(cells) if self.outside else np.full(cells, -np.inf)
        np.maximum.at(top, rows.cell, utility)
        weight = np.exp(utility - top[rows.cell])
        entries = (weight, (rows.cell, np.arange(len(weight))))
        weights = csr_array(entries, shape=(cells, len(weight)))
        total = weights.sum(axis=1) + (np.exp(-top) if self.outside else 0.0)
        inclusive_value = top + np.log(total)
        # The derivative of a cell's inclusive value: its products' x, weighted by their shares.
        mean_x = (weights @ x) / total[:, None]
        log_visitors = np.log(np.maximum(rows.visitors, 1e-9))
        eta = log_visitors + utility - inclusive_value[rows.cell]
        slopes = x - mean_x[rows.cell]
        if self.outside and (known := ~np.isnan(rows.outside)).any():
            log_visitors_of_cell = np.zeros(cells)
            log_visitors_of_cell[rows.cell] = log_visitors
            eta = np.append(eta, (log_visitors_of_cell - inclusive_value)[known])
            slopes = np.vstack([slopes, -mean_x[known]])
        return eta, slopes

    def observed(self, rows: Rows) -> tuple[Array, Array, Index]:
        """Sales, then the visitors who bought nothing."""
        counts, limit, period = super().observed(rows)
        if self.outside and (known := ~np.isnan(rows.outside)).any():
            outside = rows.outside[known]
            counts = np.append(counts, outside)
            limit = np.append(limit, 0 * outside)  # buying nothing never sells out
            period = np.append(period, rows.outside_period[known])
        return counts, limit, period

    def elasticities(self, theta: Array, price: Array) -> Array:
        """-b p (1 - share)."""
        level = np.append(np.zeros(self.products - self.levels), theta[: self.levels])
        b = theta[self.levels]
        utility = level - b * price
        top = max(0.0, utility.max())  # no exponential overflows
        weight = np.exp(utility - top)
        share = weight / (weight.sum() + self.outside * np.exp(-top))
        return np.asarray(-b * price * (1 - share))

    def demand(self, theta: Array, rows: Rows) -> dict[str, Any]:
        """Qualities in money; mu = 1 / b."""
        mu = 1 / theta[self.levels]
        first = np.unique(rows.cell, return_index=True)[1]  # a row of each cell
        visitors = rows.visitors[first].mean()
        quality = theta[: self.levels] * mu
        return {"family": self.name, "visitors": visitors, "quality": quality, "mu": mu}


FAMILIES: dict[str, type[Family]] = {f.name: f for f in (Linear, Exponential, Isoelastic, Logit)}
