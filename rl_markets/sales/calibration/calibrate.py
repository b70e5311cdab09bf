"""From a log of sales to a demand that a market can be made of.

Every family of demand is fitted, and the best by held-out periods chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_markets.errors import ExperimentError, UnidentifiedError
from rl_markets.sales.calibration import checks
from rl_markets.sales.calibration.families import (
    FAMILIES,
    Array,
    Exponential,
    Family,
    Isoelastic,
    Linear,
    Logit,
    LogLinear,
    Rows,
    rows_of,
)
from rl_markets.sales.calibration.instruments import TwoStage, two_stage
from rl_markets.sales.calibration.likelihood import CLUSTERS, Fit, fit, held_out
from rl_markets.sales.calibration.log import SalesLog
from rl_markets.say import Say, to_nobody

HELD_OUT = 0.2
"""Share of the periods, the last ones, on which families are compared."""
WEAKEST_F = 10.0
"""Of the first stage, below which instruments count as weak (Staiger and Stock 1997)."""
OVERDISPERSED = 1.5
"""Times the variance of Poisson sales, above which the reader is told."""
NAMED = 5
"""Products that a remark names."""

_LOG_LINEAR: dict[str, type[LogLinear]] = {
    "linear": Linear,
    "exponential": Exponential,
    "isoelastic": Isoelastic,
}


@dataclass(frozen=True, eq=False)
class Tried:
    """What came of trying a family.

    Attributes:
        name: of the family.
        held_out: mean log likelihood of a held-out row; minus infinity where the other periods do
            not suffice for a fit, NaN where families are not compared.
        elasticity: the mean, weighted by units sold, and its 95 % interval.
        problem: why the family was left out; empty where it was not.
    """

    name: str
    held_out: float = np.nan
    elasticity: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The chosen demand, and what is known of it.

    Attributes:
        log: what it was estimated from.
        family: of the demand.
        demand: the market's section `demand`.
        price: [P] each product's median price.
        elasticity, low, high: [P] own elasticities at these prices, and their 95 % intervals.
        tried: the families, in the order in which they were tried.
        notes: what to keep in mind, a sentence each.
    """

    log: SalesLog
    family: str
    demand: dict[str, Any]
    price: Array
    elasticity: Array
    low: Array
    high: Array
    tried: list[Tried]
    notes: list[str] = field(default_factory=list)


def calibrate(
    log: SalesLog,
    family: str | None = None,
    visitors: float | None = None,
    *,
    drop_refused: bool = False,
    say: Say = to_nobody,
) -> Calibration:
    """The best family of demand, or the one asked for.

    Args:
        log: of sales.
        family: a key of `FAMILIES`; None for the best by held-out likelihood.
        visitors: mean number a period, where the log does not tell it; the logit needs one of both.
        drop_refused: leave out products whose demand does not fall beyond doubt, and fit again.
        say: told in a line what is going on.

    Raises:
        ExperimentError: one line: what the log cannot tell, and what to do.
    """
    checks.check(log)
    price = medians(log)
    rows = rows_of(log, visitors)
    names = FAMILIES if family is None else [family]
    fits, tried = _try_families(names, log, rows, price, visitors, say)
    best = _best(log, tried, family)
    fitted = fits[best]
    elasticity, low, high = fitted.elasticities(price)
    advice = (
        "vary prices at random, log more periods, "
        "or give --instruments that move prices and not demand"
    )
    refused = checks.rising(log, best, elasticity, low, high, advice)
    if refused and drop_refused:
        left = checks.without(log, refused)
        say(f"{len(refused)} products left out; fitting the other {len(left.products)} again")
        return calibrate(left, family, visitors, drop_refused=True, say=say)
    checks.refuse_products(log, refused)
    if not (fitted.theta[fitted.family.own] > 0).all():
        raise ExperimentError(
            f"{log.source}: {best} demand does not fall in the price at prices of 0; "
            "try another --family"
        )
    demand = fitted.family.demand(fitted.theta, rows)
    notes = [*_notes(fitted), *_remarks(log, elasticity)]
    return Calibration(log, best, demand, price, elasticity, low, high, tried, notes)


def _try_families(
    names: Iterable[str],
    log: SalesLog,
    rows: Rows,
    price: Array,
    visitors: float | None,
    say: Say,
) -> tuple[dict[str, Fit], list[Tried]]:
    """The fits to the whole log by family, and what came of each family."""
    fits: dict[str, Fit] = {}
    tried = []
    sold = units(log)
    for name in names:
        say(f"fitting {name} demand")
        try:
            fits[name] = best_fit(name, rows)
            mean, low, high = (float(v[0]) for v in fits[name].elasticities(price, sold))
            tried.append(Tried(name, _held_out(name, log, visitors), (mean, low, high)))
        except UnidentifiedError as error:
            tried.append(Tried(name, problem=str(error)))
    return fits, tried


def _best(log: SalesLog, tried: list[Tried], family: str | None) -> str:
    """The family that explains the held-out periods best, among those that could be fitted."""
    possible = [t for t in tried if not t.problem]
    if not possible:
        last = tried[-1]
        raise ExperimentError(
            f"{log.source}: no family of demand can be fitted: {last.name}: {last.problem}"
        )
    # A family that was asked for needs no comparison.
    if family is None and not any(np.isfinite(t.held_out) for t in possible):
        raise ExperimentError(
            f"{log.source}: the periods before the last fifth do not determine any family, "
            "so that none can be compared on the last; "
            "log more periods with more price changes, or choose a --family"
        )
    return max(possible, key=lambda t: t.held_out).name


def _notes(fitted: Fit) -> list[str]:
    kind = "clustered by period"
    if not fitted.clustered:
        kind = f"not clustered: fewer than {CLUSTERS} periods"
    notes = [f"intervals are 95 %, standard errors {kind}"]
    if fitted.dispersion > OVERDISPERSED:
        notes.append(
            f"sales vary {fitted.dispersion:.1f} times as much as Poisson sales would; "
            "the market's customers are calmer than yours"
        )
    return notes


def _remarks(log: SalesLog, elasticity: Array) -> list[str]:
    """What was done to the log, and products whose price should rise without end."""
    remarks = list(log.notes)
    rigid = [name for name, e in zip(log.products, elasticity, strict=True) if e > -1]
    if rigid:
        more = f" and {len(rigid) - NAMED} more" if len(rigid) > NAMED else ""
        remarks.append(
            f"at the median price of {', '.join(rigid[:NAMED])}{more} sales fall by less than the "
            "price rises (elasticity above -1): whatever it costs, a higher price earns more, and "
            "the best may be the highest that is allowed"
        )
    return remarks


def medians(log: SalesLog) -> Array:
    """[P] median price of each product."""
    return np.array([np.median(log.price[log.product == i]) for i in range(len(log.products))])


def units(log: SalesLog) -> Array:
    """[P] units sold of each product."""
    return np.asarray(
        np.bincount(log.product, log.sales, minlength=len(log.products)), dtype=np.float64
    )


def best_fit(name: str, rows: Rows) -> Fit:
    """The family fitted.

    With the cross effect of other prices where all products are always there, and it is not
    negative.

    Raises:
        UnidentifiedError: where the log does not determine it.
    """
    if name == "logit":
        if np.isnan(rows.visitors).any():
            raise UnidentifiedError(
                "needs the number of visitors: a column visitors, or --visitors"
            )
        return fit(Logit(rows), rows)
    kind = _LOG_LINEAR[name]
    products = len(rows.log.products)
    if products > 1 and (np.bincount(rows.cell) == products).all():
        # Prices that always move together tell nothing of substitution.
        with suppress(UnidentifiedError):
            with_cross = fit(kind(rows, cross=True), rows)
            if with_cross.theta[2 * products] >= 0:
                return with_cross
    return fit(kind(rows), rows)


def _held_out(name: str, log: SalesLog, visitors: float | None) -> float:
    """Mean log likelihood of the last periods by a fit to those before.

    Minus infinity where these do not suffice for a fit.
    """
    periods = np.unique(log.period)
    last = log.period >= periods[-max(1, round(HELD_OUT * len(periods)))]
    try:
        fitted = best_fit(name, rows_of(log.where(~last), visitors))
        return held_out(fitted, rows_of_later(log, last, visitors))
    except UnidentifiedError:
        return -np.inf


def rows_of_later(log: SalesLog, last: NDArray[np.bool_], visitors: float | None) -> Rows:
    """The held-out rows.

    Their exposure is relative to the mean visitors of the periods before, as it is in the fit.

    Args:
        log: all rows.
        last: [R] those that are held out.
        visitors: as in `rows_of`.
    """
    rows = rows_of(log.where(last), visitors)
    before = rows_of(log.where(~last), visitors)
    if np.isnan(log.visitors).any():
        return rows
    first = np.unique(before.cell, return_index=True)[1]  # a cell's rows share their visitors
    mean = before.visitors[first].mean()
    return replace(rows, exposure=np.log(np.maximum(rows.visitors, 1e-9) / mean))


def by_instruments(log: SalesLog, family: str, visitors: float | None = None) -> Calibration:
    """Demand by two-stage least squares, for prices that answered demand: one slope for all.

    log sales on the price (exponential) or its log (isoelastic), sales on the price (linear), and
    log of the share over that of buying nothing on the price (logit, Berry 1994); each product and
    store has a constant of its own.

    Args:
        log: of sales, with instruments.
        family: a key of `FAMILIES`.
        visitors: as in `calibrate`.

    Raises:
        ExperimentError: for rows whose log is not known, and instruments that do not move prices
            enough.
    """
    checks.check(log)
    rows = rows_of(log, visitors)
    y, x = _regression(log, family, rows)
    group = log.product * len(log.stores) + log.store
    checks.check_instruments(log, group)
    clusters = log.period if len(np.unique(log.period)) >= CLUSTERS else None
    try:
        estimate = two_stage(y, x, log.instruments, group, clusters)
    except ValueError as error:
        raise ExperimentError(f"{log.source}: --instruments: {error}; name others") from None
    if estimate.first_stage_f < WEAKEST_F:
        raise ExperimentError(
            f"{log.source}: --instruments: weak, first-stage F {estimate.first_stage_f:.1f}; "
            f"expected {WEAKEST_F:g} or more: name instruments that move prices more"
        )
    return _by_slope(log, family, rows, estimate)


def _by_slope(log: SalesLog, family: str, rows: Rows, estimate: TwoStage) -> Calibration:
    """The demand of all products, given the slope that they share."""
    price = medians(log)
    products = len(log.products)
    model: Family = Logit(rows) if family == "logit" else _of_one_store(family, rows)
    slope = -estimate.slope  # families take slopes that are positive where demand falls
    half = 1.96 * estimate.standard_error

    def theta(b: float) -> Array:
        levels = np.array(
            [_level(log.where(log.product == i), family, b, rows, i) for i in range(products)]
        )
        return np.concatenate([levels, [b] if family == "logit" else np.full(products, b)])

    # Elasticities fall in the slope: the larger one gives the lower end of the interval.
    elasticity, low, high = (
        model.elasticities(theta(b), price) for b in (slope, slope + half, slope - half)
    )
    advice = "name instruments that move prices more"
    checks.refuse_products(log, checks.rising(log, family, elasticity, low, high, advice))
    weight = units(log)
    mean, mean_low, mean_high = (
        float(np.average(v, weights=weight)) for v in (elasticity, low, high)
    )
    tried = [Tried(family, elasticity=(mean, mean_low, mean_high))]
    notes = [
        f"two-stage least squares, first-stage F {estimate.first_stage_f:.0f}; "
        f"without instruments the slope would be {estimate.ordinary:.4g} "
        f"in place of {estimate.slope:.4g} (standard error {estimate.standard_error:.2g})"
    ]
    notes += _remarks(log, elasticity)
    demand = model.demand(theta(slope), rows)
    return Calibration(log, family, demand, price, elasticity, low, high, tried, notes)


def _of_one_store(family: str, rows: Rows) -> LogLinear:
    model = _LOG_LINEAR[family](rows)
    model.stores = 1  # levels are means over stores
    return model


def _level(log: SalesLog, family: str, b: float, rows: Rows, index: int) -> float:
    """A product's level, at which mean sales are those of the log."""
    sales = float(log.sales.mean())
    if family == "linear":
        return sales + b * float(log.price.mean())
    if family == "logit":
        of_product = rows.log.product == index
        return float((_log_odds(rows)[of_product] + b * log.price).mean())
    x = np.log(log.price) if family == "isoelastic" else log.price
    # The log of sales / mean of exp(-b x), around the mean of x to keep exponentials near 1.
    return float(np.log(sales) - np.log(np.exp(-b * (x - x.mean())).mean()) + b * x.mean())


def _regression(log: SalesLog, family: str, rows: Rows) -> tuple[Array, Array]:
    """Left and right side [R] of the family's regression."""
    if log.sold_out.any():
        raise ExperimentError(
            f"{log.source}: --instruments: {int(log.sold_out.sum())} rows sold out, "
            "whose demand is not known; "
            "two-stage least squares needs a log without stock-outs"
        )
    if family == "linear":
        return log.sales, log.price
    if not (log.sales > 0).all():
        raise ExperimentError(
            f"{log.source}: --instruments: {int((log.sales == 0).sum())} rows without sales, "
            "which have no logarithm; choose longer periods, or --family linear"
        )
    if family == "logit":
        if np.isnan(rows.visitors).any():
            raise ExperimentError(
                f"{log.source}: logit needs the number of visitors: "
                "a column visitors, or --visitors"
            )
        return _log_odds(rows), log.price
    return np.log(log.sales), np.log(log.price) if family == "isoelastic" else log.price


def _log_odds(rows: Rows) -> Array:
    """Log of sales over the visitors who bought nothing, [R]."""
    bought = np.bincount(rows.cell, rows.log.sales)[rows.cell]
    nothing = rows.visitors - bought
    if not (nothing > 0).all():
        raise ExperimentError(
            f"{rows.log.source}: no more visitors than sales in a period; "
            "expected some who buy nothing"
        )
    return np.asarray(np.log(rows.log.sales) - np.log(nothing))
