"""From a log of sales to a demand that a market can be made of: every family fitted, the best by
held-out periods chosen."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

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
from rl_markets.sales.calibration.sales import SalesLog

HELD_OUT = 0.2
"""Share of the periods, the last ones, on which families are compared."""
WEAKEST_F = 10.0
"""Of the first stage, below which instruments count as weak (Staiger and Stock 1997)."""
OVERDISPERSED = 1.5


@dataclass(frozen=True, eq=False)
class Tried:
    """A family: mean log likelihood of a held-out row, the mean elasticity and its interval; or why
    it was left out."""

    name: str
    held_out: float = np.nan
    elasticity: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    problem: str = ""


@dataclass(frozen=True, eq=False)
class Calibration:
    """The chosen demand, as the market's section, and what is known of it.

    `price` [P] is each product's median price, at which `elasticity`, `low`, `high` [P] hold.
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
    log: SalesLog, family: str | None = None, visitors: float | None = None
) -> Calibration:
    """The best family of demand, or the one asked for.

    Args:
        log: of sales.
        family: a key of `FAMILIES`; None for the best by held-out likelihood.
        visitors: mean number a period, where the log does not tell it; the logit needs one of both.

    Raises:
        ExperimentError: one line: what the log cannot tell, and what to do.
    """
    checks.check(log)
    price = medians(log)
    sold = units(log)
    rows = rows_of(log, visitors)
    tried = []
    fits = {}
    for name in FAMILIES if family is None else [family]:
        try:
            fits[name] = best_fit(name, rows)
            mean, least, most = (float(v[0]) for v in fits[name].elasticities(price, sold))
            tried.append(Tried(name, _held_out(name, log, visitors), (mean, least, most)))
        except UnidentifiedError as error:
            tried.append(Tried(name, problem=str(error)))
    possible = [t for t in tried if not t.problem]
    if not possible:
        raise ExperimentError(
            f"{log.source}: no family of demand can be fitted: {tried[-1].name}: "
            f"{tried[-1].problem}"
        )
    best = max(possible, key=lambda t: t.held_out).name
    if family is None and not any(np.isfinite(t.held_out) for t in possible):
        raise ExperimentError(
            f"{log.source}: the periods before the last fifth do not determine any family, so that "
            "none can be compared on "
            "the last; log more periods with more price changes, or choose a --family"
        )
    elasticity, low, high = fits[best].elasticities(price)
    advice = (
        "vary prices at random, log more periods, or give --instruments that move prices and "
        "not demand"
    )
    checks.check_slopes(log, best, elasticity, low, high, advice)
    if not (fits[best].theta[fits[best].family.own] > 0).all():
        raise ExperimentError(
            f"{log.source}: {best} demand does not fall in the price at prices of 0; try another "
            "--family"
        )
    demand = fits[best].family.demand(fits[best].theta, rows)
    return Calibration(log, best, demand, price, elasticity, low, high, tried, _notes(fits[best]))


def _notes(chosen: Fit) -> list[str]:
    kind = (
        "clustered by period"
        if chosen.clustered
        else f"not clustered: fewer than {CLUSTERS} periods"
    )
    notes = [f"intervals are 95 %, standard errors {kind}"]
    if chosen.dispersion > OVERDISPERSED:
        notes.append(
            f"sales vary {chosen.dispersion:.1f} times as much as Poisson sales would; the "
            "market's customers are calmer "
            "than yours"
        )
    return notes


def medians(log: SalesLog) -> Array:
    """[P] median price of each product."""
    return np.array([np.median(log.price[log.product == i]) for i in range(len(log.products))])


def units(log: SalesLog) -> Array:
    """[P] units sold of each product."""
    return np.asarray(
        np.bincount(log.product, log.sales, minlength=len(log.products)), dtype=np.float64
    )


def best_fit(name: str, rows: Rows) -> Fit:
    """The family fitted; with the cross effect of other prices where all products are always there,
    and it is positive.

    Raises:
        UnidentifiedError: where the log does not determine it.
    """
    if name == "logit":
        if np.isnan(rows.visitors).any():
            raise UnidentifiedError(
                "needs the number of visitors: a column visitors, or --visitors"
            )
        return fit(Logit(rows), rows)
    kinds: dict[str, type[LogLinear]] = {
        "linear": Linear,
        "exponential": Exponential,
        "isoelastic": Isoelastic,
    }
    kind = kinds[name]
    products = len(rows.log.products)
    if products > 1 and (np.bincount(rows.cell) == products).all():
        with suppress(
            UnidentifiedError
        ):  # prices that always move together tell nothing of substitution
            found = fit(kind(rows, cross=True), rows)
            if found.theta[2 * products] >= 0:
                return found
    return fit(kind(rows), rows)


def _held_out(name: str, log: SalesLog, visitors: float | None) -> float:
    """Mean log likelihood of the last periods by a fit to those before; minus infinity where these
    do not suffice."""
    periods = np.unique(log.period)
    last = log.period >= periods[-max(1, round(HELD_OUT * len(periods)))]
    try:
        found = best_fit(name, rows_of(log.where(~last), visitors))
        return held_out(found, rows_of_later(log, last, visitors))
    except UnidentifiedError:
        return -np.inf


def rows_of_later(log: SalesLog, last: Any, visitors: float | None) -> Rows:
    """The held-out rows; exposure is relative to the mean visitors of the periods before, as the
    fit is."""
    rows = rows_of(log.where(last), visitors)
    before = rows_of(log.where(~last), visitors)
    if np.isnan(log.visitors).any():
        return rows
    mean = before.visitors[np.unique(before.cell, return_index=True)[1]].mean()
    exposure = np.log(np.maximum(rows.visitors, 1e-9) / mean)
    return Rows(**{**rows.__dict__, "exposure": exposure})


def by_instruments(log: SalesLog, family: str, visitors: float | None = None) -> Calibration:
    """Demand by two-stage least squares, for prices that answered demand: one slope for all
    products.

    log sales on the price (exponential) or its log (isoelastic), sales on the price (linear), and
    log of the share over that of buying nothing on the price (logit, Berry 1994); each product and
    store has a constant of its own.

    Raises:
        ExperimentError: for rows whose log is not known, and instruments that do not move prices
            enough.
    """
    checks.check(log)
    rows = rows_of(log, visitors)
    y, x = _regression(log, family, rows)
    group = log.product * len(log.stores) + log.store
    clusters = log.period if len(np.unique(log.period)) >= CLUSTERS else None
    try:
        found = two_stage(y, x, log.instruments, group, clusters)
    except ValueError as error:
        raise ExperimentError(f"{log.source}: --instruments: {error}; name others") from None
    if found.first_stage_f < WEAKEST_F:
        raise ExperimentError(
            f"{log.source}: --instruments: weak, first-stage F {found.first_stage_f:.1f}; expected "
            f"{WEAKEST_F:g} or more: "
            "name instruments that move prices more"
        )
    return _by_slope(log, family, rows, found)


def _by_slope(log: SalesLog, family: str, rows: Rows, found: TwoStage) -> Calibration:
    """The demand of all products, given the slope that they share."""
    price = medians(log)
    products = len(log.products)
    model: Family = Logit(rows) if family == "logit" else _plain(family, rows)
    slope = -found.slope
    half = 1.96 * found.standard_error

    def theta(b: float) -> Array:
        levels = np.array(
            [_level(log.where(log.product == i), family, b, rows, i) for i in range(products)]
        )
        return np.concatenate([levels, [b] if family == "logit" else np.full(products, b)])

    value, low, high = (
        model.elasticities(theta(b), price) for b in (slope, slope + half, slope - half)
    )
    checks.check_slopes(log, family, value, low, high, "name instruments that move prices more")
    weight = units(log)
    mean = (float(np.average(v, weights=weight)) for v in (value, low, high))
    notes = [
        f"two-stage least squares, first-stage F {found.first_stage_f:.0f}; without instruments "
        "the slope would be "
        f"{found.ordinary:.4g} in place of {found.slope:.4g} (standard error "
        f"{found.standard_error:.2g})"
    ]
    tried = [Tried(family, elasticity=(next(mean), next(mean), next(mean)))]
    return Calibration(
        log, family, model.demand(theta(slope), rows), price, value, low, high, tried, notes
    )


def _plain(family: str, rows: Rows) -> LogLinear:
    kinds: dict[str, type[LogLinear]] = {
        "linear": Linear,
        "exponential": Exponential,
        "isoelastic": Isoelastic,
    }
    model = kinds[family](rows)
    model.stores = 1  # levels are means over stores
    return model


def _level(log: SalesLog, family: str, b: float, rows: Rows, index: int) -> float:
    """A product's level, at which mean sales are those of the log."""
    sales = float(log.sales.mean())
    if family == "linear":
        return sales + b * float(log.price.mean())
    if family == "logit":
        mine = rows.log.product == index
        return float((_log_odds(rows)[mine] + b * log.price).mean())
    x = np.log(log.price) if family == "isoelastic" else log.price
    return float(np.log(sales) - np.log(np.exp(-b * (x - x.mean())).mean()) + b * x.mean())


def _regression(log: SalesLog, family: str, rows: Rows) -> tuple[Array, Array]:
    """Left and right side [R] of the family's regression."""
    if log.sold_out.any():
        raise ExperimentError(
            f"{log.source}: --instruments: {int(log.sold_out.sum())} rows sold out, whose demand "
            "is not known; two-stage "
            "least squares needs a log without stock-outs"
        )
    if family == "linear":
        return log.sales, log.price
    if not (log.sales > 0).all():
        raise ExperimentError(
            f"{log.source}: --instruments: {int((log.sales == 0).sum())} rows without sales, which "
            "have no logarithm; "
            "choose longer periods, or --family linear"
        )
    if family == "logit":
        if np.isnan(rows.visitors).any():
            raise ExperimentError(
                f"{log.source}: logit needs the number of visitors: a column visitors, or "
                "--visitors"
            )
        return _log_odds(rows), log.price
    return np.log(log.sales), np.log(log.price) if family == "isoelastic" else log.price


def _log_odds(rows: Rows) -> Array:
    """Log of sales over the visitors who bought nothing, [R]."""
    bought = np.bincount(rows.cell, rows.log.sales)[rows.cell]
    nothing = rows.visitors - bought
    if not (nothing > 0).all():
        raise ExperimentError(
            f"{rows.log.source}: no more visitors than sales in a period; expected some who buy "
            "nothing"
        )
    return np.asarray(np.log(rows.log.sales) - np.log(nothing))
