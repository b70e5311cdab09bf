"""Rows that a log of sales lacks: what was offered and did not sell.

Most exports have a row only where something sold. Fitted to those alone, demand seems to answer
prices far less than it does: where prices are high, only the lucky days are seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np

from rl_markets.errors import ExperimentError
from rl_markets.sales.calibration.log import Array, Index, SalesLog

FEWEST = 3.0
"""Rows without sales that must be expected before their absence says anything..."""
SHARE = 0.01
"""...and their share of the log's rows."""
RECORDED = 0.5
"""Share of the expected ones that a log holds where it records them."""
EXPLAINED = 2.0
"""Gaps may be so many times what is expected, and three standard deviations, to be such rows."""
LOWEST_RATE = 0.05
"""Of sales a period, that a row with sales is taken to stand for: nineteen zeros beside it."""
NEWTON_STEPS = 100
RIDGE = 1e-3
"""Holds rates where every sale is of one unit, and where all prices are alike."""
UNSURE = 0.1
"""Share of the gaps whose price may have been that before or that after."""
WEEK = 7
FEWEST_WEEKS = 4
"""On which a weekday never occurs, for the shop to be closed on it."""


@dataclass(frozen=True, eq=False)
class _Gaps:
    """Cells (product, store, period) between a series' first and last row that have none.

    Attributes:
        before, after: [G] rows of the log next to each, of the same product and store.
        period: [G].
    """

    before: Index
    after: Index
    period: Index


def completed(log: SalesLog) -> SalesLog:
    """The log with the rows without sales that it lacks, and a note of what was done.

    Nothing is added where rows without sales are recorded, or hardly any is to be expected. `log`
    still holds the rows without stock, which are no gaps.

    Raises:
        ExperimentError: rows are missing, and the log does not tell at which price.
    """
    expected = _expected(log)
    seen = int(((log.sales == 0) & ~log.sold_out).sum())
    if expected < max(FEWEST, SHARE * log.rows) or seen >= RECORDED * expected:
        return log
    gaps = _gaps(log)
    count = len(gaps.period)
    if not count:
        return _noted(log, _nothing_is_missing(log, expected, seen))
    if count > EXPLAINED * expected + 3 * expected**0.5:
        _refuse(log, count, "more than so small sales explain; where was it not offered at all?")
    return _filled(log, gaps)


def _expected(log: SalesLog) -> float:
    """Rows without sales that Poisson sales would have beside those with.

    Of each series, a product in a store, by a regression of what is not zero on the price.
    """
    whole = bool((log.sales == np.round(log.sales)).all())
    sold = (log.sales > 0) & ~log.sold_out
    if not whole or not sold.any():
        return 0.0
    series = log.product * len(log.stores) + log.store
    expected = 0.0
    for one in np.unique(series[sold]):
        rows = sold & (series == one)
        rate = np.clip(_rates(log.price[rows], log.sales[rows]), LOWEST_RATE, 50.0)
        expected += float((1 / np.expm1(rate)).sum())  # P(0) / (1 - P(0))
    return expected


def _rates(price: Array, sales: Array) -> Array:
    """[R] Poisson rates exp(a - b price) of sales that are not zero, by Newton's method.

    The likelihood of a Poisson variable given that it is not zero is concave in (a, b).
    """
    spread = float(price.std())
    x = np.stack([np.ones_like(price), (price - price.mean()) / (spread or 1.0)], -1)
    theta = np.array([np.log(max(float(sales.mean()), 1.0)), 0.0])
    for _ in range(NEWTON_STEPS):
        rate = np.exp(np.clip(x @ theta, -20, 20))
        mean = rate / -np.expm1(-rate)  # given that it is not zero
        variance = mean * (1 + rate - mean)
        curvature = (x * variance[:, None]).T @ x + RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, x.T @ (sales - mean) - RIDGE * theta)
        theta = theta + np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-8:
            break
    return np.asarray(np.exp(np.clip(x @ theta, -20, 20)))


def _gaps(log: SalesLog) -> _Gaps:
    """What is missing between each series' first and last period, of the log's own calendar."""
    calendar = _calendar(log.period)
    series = log.product * len(log.stores) + log.store
    order = np.lexsort((log.period, series))
    place = np.searchsorted(calendar, log.period[order])
    follows = np.diff(series[order]) == 0
    skipped = np.where(follows, np.diff(place) - 1, 0)
    at = np.repeat(np.arange(len(skipped)), skipped)
    first = np.cumsum(skipped) - skipped
    number = np.arange(len(at)) - np.repeat(first, skipped)
    return _Gaps(order[at], order[at + 1], calendar[place[at] + 1 + number])


def _calendar(period: Index) -> Index:
    """Every period, also those of which no row is left, but for weekdays that never occur."""
    known = np.unique(period)
    steps, counts = np.unique(np.diff(known), return_counts=True)
    if not len(steps):
        return known
    step = int(steps[counts.argmax()])
    if ((known - known[0]) % step).any():
        return known
    every = np.arange(known[0], known[-1] + 1, step)
    if step == 1 and len(every) >= FEWEST_WEEKS * WEEK:
        every = every[np.isin(every % WEEK, known % WEEK)]
    return every


def _filled(log: SalesLog, gaps: _Gaps) -> SalesLog:
    """With a row for each gap, at the price that stood before and after it."""
    count = len(gaps.period)
    unsure = log.price[gaps.before] != log.price[gaps.after]
    if unsure.mean() > UNSURE:
        _refuse(
            log,
            count,
            f"at which price is not known: in {unsure.mean():.0%} of them it changed meanwhile",
        )
    if log.instruments.size:
        _refuse(log, count, "whose instruments are not known")
    added = log.where(gaps.before)
    visitors = _visitors(log, added, gaps)
    return _noted(
        _joined(log, added, gaps.period, visitors),
        f"{count:,} rows without sales were put back at the price before and after them: "
        f"the log has rows only where something sold ({log.rows:,})",
    )


def _visitors(log: SalesLog, added: SalesLog, gaps: _Gaps) -> Array:
    """[G] visitors of each gap's store and period, which other products' rows may tell."""
    if np.isnan(log.visitors).all():
        return added.visitors
    told = dict(zip(zip(log.store, log.period, strict=True), log.visitors, strict=True))
    cells = zip(added.store, gaps.period, strict=True)
    visitors = np.array([told.get(cell, np.nan) for cell in cells])
    if np.isnan(visitors).any():
        _refuse(log, len(gaps.period), "whose visitors are not known")
    return visitors


def _joined(log: SalesLog, added: SalesLog, period: Index, visitors: Array) -> SalesLog:
    """Both, one after the other."""
    nothing = np.zeros(added.rows)
    new = replace(
        added, period=period, sales=nothing, sold_out=nothing.astype(bool), visitors=visitors
    )
    names = ("product", "store", "period", "price", "sales", "sold_out", "cost", "visitors")
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(log, name), getattr(new, name)]) for name in names
    }
    instruments = np.concatenate([log.instruments, new.instruments])
    return replace(log, **columns, instruments=instruments)


def _nothing_is_missing(log: SalesLog, expected: float, seen: int) -> str:
    return (
        f"{seen:,} of {log.rows:,} rows are without sales, where Poisson sales would have about "
        f"{expected:,.0f}: if such rows were left out, demand answers prices more than this says"
    )


def _noted(log: SalesLog, note: str) -> SalesLog:
    return replace(log, notes=(*log.notes, note))


def _refuse(log: SalesLog, gaps: int, why: str) -> NoReturn:
    raise ExperimentError(
        f"{log.source}: rows without sales are missing ({gaps:,} gaps beside {log.rows:,} rows), "
        f"{why}; add a row with sales 0 and the price of the day for each period in which a "
        "product was offered"
    )
