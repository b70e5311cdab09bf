"""What a log of sales cannot tell, refused by name with what to do about it."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from rl_markets.errors import ExperimentError
from rl_markets.sales.calibration.log import SalesLog

FEWEST_PERIODS = 10
FEWEST_CHANGES = 4
"""Of a product's price, over all stores."""
STRAIGHT = 0.999
"""Share of a price's variation within stores that a straight line in time may explain."""
NOT_MOVING = 1e-12
"""Deviations from the mean, relative to the largest value, that are rounding."""
THE_SAME = 1 - 1e-9
"""Correlation within products and stores at which one column is another, in other units."""
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
    if log.rows * (2 * len(log.products) + len(log.stores)) > MOST_ENTRIES:
        _refuse(log, "too large for one regression; choose fewer products by --product NAME")
    for index, name in enumerate(log.products):
        _check_product(log.where(log.product == index), name)


def _check_product(log: SalesLog, name: str) -> None:
    """Whether a product's rows tell its demand; `log` holds no others."""
    if not log.rows:
        _refuse(log, "no row in which there was stock; leave it out", name)
    if not log.sales.any():
        _refuse(
            log,
            f"no sales in {log.rows} rows; "
            "the answer to prices cannot be seen, leave the product out",
            name,
        )
    if log.sold_out.all():
        _refuse(
            log,
            f"sold out in all {log.rows} rows; demand was never seen, only that it was larger: "
            "log periods in which something was left",
            name,
        )
    _check_prices(log, name)


def _check_prices(log: SalesLog, name: str) -> None:
    """Whether a product's price moves enough, and not with time alone."""
    if len(np.unique(log.price)) < 2:
        _refuse(
            log,
            f"a single price, {log.price[0]:g}, in all {log.rows} rows; "
            "how demand answers prices cannot be seen: "
            "move the price by some percent up and down, and calibrate again",
            name,
        )
    if (changes := price_changes(log)) < FEWEST_CHANGES:
        _refuse(
            log,
            f"only {changes} price change{'s' * (changes != 1)} over time; "
            f"expected {FEWEST_CHANGES} or more, at times that have nothing to do with demand",
            name,
        )
    if _straightness(log) > STRAIGHT:
        _refuse(
            log,
            "the price moves in a straight line with the period; "
            "its effect cannot be told from a trend: move it up and down",
            name,
        )


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


def check_slopes(
    log: SalesLog,
    family: str,
    elasticity: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    advice: str,
) -> None:
    """Whether demand falls in each price, beyond doubt.

    Args:
        log: for its names.
        family: of the fit.
        elasticity, low, high: [P] and 95 % intervals; demand falls for sure where `high` is below
            0.
        advice: what else to try.

    Raises:
        ExperimentError: for the first product of which this cannot be said.
    """
    for name, value, lower, upper in zip(log.products, elasticity, low, high, strict=True):
        if upper < 0:
            continue
        if value >= 0:
            what = "demand seems to rise in the price"
        else:
            what = "demand may not fall in the price at all"
        _refuse(
            log,
            f"{what}: {family} elasticity {value:.2f}, "
            f"95 % interval {lower:.2f} to {upper:.2f}, which holds 0; "
            f"either the log is too short, or prices followed demand: {advice}",
            name,
        )


def _refuse(log: SalesLog, problem: str, product: str | None = None) -> NoReturn:
    whose = f"product {product}: " if product else ""
    raise ExperimentError(f"{log.source}: {whose}{problem}")
