"""What a log of sales cannot tell, refused by name with what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from rl_markets.errors import ExperimentError
from rl_markets.sales.calibration.log import SalesLog, only

FEWEST_PERIODS = 10
FEWEST_CHANGES = 4
"""Of a product's price, over all stores."""
STRAIGHT = 0.999
"""Share of a price's variation within stores that a straight line in time may explain."""
NOT_MOVING = 1e-12
"""Deviations from the mean, relative to the largest value, that are rounding."""
THE_SAME = 1 - 1e-9
"""Correlation within products and stores at which one column is another, in other units."""
SHOWN = 10
"""Refused products that a message names."""
MOST_PRODUCTS = 100
MOST_ENTRIES = 20_000_000
"""Rows times parameters of a regression."""


def check(log: SalesLog) -> None:
    """Whether demand can be estimated at all.

    Raises:
        ExperimentError: one line: file, product, what is missing, what to do.
    """
    periods = len(np.unique(log.period))
    if periods < FEWEST_PERIODS:
        _refuse(
            log,
            f"{periods} periods; expected {FEWEST_PERIODS} or more, "
            "the last fifth of them to be held out",
        )
    if len(log.products) > MOST_PRODUCTS:
        _refuse(
            log,
            f"{len(log.products)} products; expected at most {MOST_PRODUCTS}, "
            "chosen by --product NAME",
        )
    if log.rows * _columns(log, len(log.products)) > MOST_ENTRIES:
        _refuse(
            log,
            f"{len(log.products)} products of {log.rows} rows are too many for one regression; "
            f"expected at most {_most_products(log)} of them, chosen by --product NAME",
        )
    refuse_products(log, problems(log))


def _columns(log: SalesLog, products: int) -> int:
    """Parameters of a regression of so many products."""
    return 2 * products + len(log.stores)


def _most_products(log: SalesLog) -> int:
    """How many products of as many rows as these have fit into one regression."""
    each = log.rows / len(log.products)
    fitting = [
        n for n in range(1, MOST_PRODUCTS + 1) if n * each * _columns(log, n) <= MOST_ENTRIES
    ]
    return max(fitting, default=0)


def problems(log: SalesLog) -> dict[str, str]:
    """Product -> what its rows cannot tell, of those whose demand cannot be estimated."""
    found = {}
    for index, name in enumerate(log.products):
        problem = _problem(log.where(log.product == index))
        if problem:
            found[name] = problem
    return found


def refuse_products(log: SalesLog, found: Mapping[str, str]) -> None:
    """Refuses a log because of some of its products, all of them named at once.

    Raises:
        ExperimentError: where there are any.
    """
    if len(found) == 1:
        for name, problem in found.items():
            _refuse(log, problem, name)
    if found:
        listed = [f"product {name}: {problem}" for name, problem in found.items()]
        more = f"; and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
        _refuse(
            log,
            f"{len(found)} of {len(log.products)} products cannot be estimated, --drop-refused "
            f"leaves them out: {'; '.join(listed[:SHOWN])}{more}",
        )


def without_refused(log: SalesLog) -> SalesLog:
    """The log without the products whose demand cannot be estimated, and a note of which.

    Raises:
        ExperimentError: none is left.
    """
    return without(log, problems(log))


def without(log: SalesLog, refused: Mapping[str, str]) -> SalesLog:
    """The log without some products, and a note of which, and why."""
    if not refused:
        return log
    kept = [name for name in log.products if name not in refused]
    if not kept:
        refuse_products(log, refused)
    note = "left out: " + "; ".join(f"product {name}: {why}" for name, why in refused.items())
    left = only(log, kept)
    return replace(left, notes=(*left.notes, note))


def _problem(log: SalesLog) -> str:
    """What a product's rows, all those of `log`, cannot tell; empty where they tell its demand."""
    if not log.rows:
        return "no row in which there was stock; leave it out"
    if not log.sales.any():
        return (
            f"no sales in {log.rows} rows; "
            "the answer to prices cannot be seen, leave the product out"
        )
    if log.sold_out.all():
        return (
            f"sold out in all {log.rows} rows; demand was never seen, only that it was larger: "
            "log periods in which something was left"
        )
    return _problem_of_prices(log)


def _problem_of_prices(log: SalesLog) -> str:
    """Why a product's price does not move enough, or with time alone."""
    if len(np.unique(log.price)) < 2:
        return (
            f"a single price, {log.price[0]:g}, in all {log.rows} rows; "
            "how demand answers prices cannot be seen: "
            "move the price by some percent up and down, and calibrate again"
        )
    if (changes := price_changes(log)) < FEWEST_CHANGES:
        return (
            f"only {changes} price change{'s' * (changes != 1)} over time; "
            f"expected {FEWEST_CHANGES} or more, at times that have nothing to do with demand"
        )
    if _straightness(log) > STRAIGHT:
        return (
            "the price moves in a straight line with the period; "
            "its effect cannot be told from a trend: move it up and down"
        )
    return ""


def price_changes(log: SalesLog) -> int:
    """How often the price differs from the store's period before."""
    order = np.lexsort((log.period, log.store))  # by store, then by period
    same_store = np.diff(log.store[order]) == 0
    return int(np.sum((np.diff(log.price[order]) != 0) & same_store))


def _straightness(log: SalesLog) -> float:
    """R squared of the price in time, within stores."""
    price, time = (_within(v.astype(np.float64), log.store) for v in (log.price, log.period))
    spread = float((price @ price) * (time @ time))
    return 0.0 if spread <= 0 else float(price @ time) ** 2 / spread


def _within(values: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """Deviations from the groups' means."""
    count = np.maximum(np.bincount(group), 1)  # a group may be empty: others' stores
    return np.asarray(values - (np.bincount(group, values) / count)[group])


def check_instruments(log: SalesLog, group: NDArray[np.int64]) -> None:
    """Whether each instrument moves, and is not the price, the sales or another one again.

    Args:
        log: of sales, with instruments.
        group: [R], within which instruments must move.

    Raises:
        ExperimentError: for the first one that does not serve, and why.
    """
    others = {"the price": log.price, "the sales": log.sales}
    moves = {name: _normal(_within(values, group)) for name, values in others.items()}
    for name, values in zip(log.instrument_names, log.instruments.T, strict=True):
        scale = float(np.abs(values).max())
        within = _within(values / scale if scale else values, group)
        if float(np.abs(within).max()) < NOT_MOVING:
            _refuse(
                log,
                f"--instruments {name}: does not move within any product and store; "
                "expected something that moves prices",
            )
        moved = _normal(within)
        for other, its in moves.items():
            if abs(float(moved @ its)) > THE_SAME:
                _refuse(
                    log,
                    f"--instruments {name}: moves as {other} does, and tells nothing more; "
                    "leave it out",
                )
        moves[name] = moved


def _normal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of length one, or zero."""
    largest = float(np.abs(values).max())
    if largest == 0:
        return values
    scaled = values / largest  # first: squares of large numbers overflow
    return np.asarray(scaled / np.sqrt(scaled @ scaled))


def rising(
    log: SalesLog,
    family: str,
    elasticity: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    advice: str,
) -> dict[str, str]:
    """Products whose demand does not fall in the price beyond doubt -> what to do.

    Args:
        log: for its names.
        family: of the fit.
        elasticity, low, high: [P] and 95 % intervals; demand falls for sure where `high` is below
            0.
        advice: what else to try.
    """
    found = {}
    for name, value, lower, upper in zip(log.products, elasticity, low, high, strict=True):
        if upper < 0:
            continue
        if value >= 0:
            what = "demand seems to rise in the price"
        else:
            what = "demand may not fall in the price at all"
        found[name] = (
            f"{what}: {family} elasticity {value:.2f}, "
            f"95 % interval {lower:.2f} to {upper:.2f}, which holds 0; "
            f"either the log is too short, or prices followed demand: {advice}"
        )
    return found


def _refuse(log: SalesLog, problem: str, product: str | None = None) -> NoReturn:
    whose = f"product {product}: " if product else ""
    raise ExperimentError(f"{log.source}: {whose}{problem}")
