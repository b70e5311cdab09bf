"""A log of sales, read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rl_markets.errors import ExperimentError
from rl_markets.sales.calibration.log import SalesLog, only
from rl_markets.sales.calibration.zeros import completed
from rl_markets.sales.table import Rule, Table, bad, read_table
from rl_markets.sales.written import Written, formats_of
from rl_markets.say import Say, to_nobody

COLUMNS = (
    Rule("product", "text"),
    Rule("period", "period"),
    Rule("price", least=0, above=True),
    Rule("sales", least=0),
    Rule("stock", least=0, required=False),
    Rule("cost", least=0, required=False),
    Rule("store", "text", required=False),
    Rule("visitors", least=0, required=False),
)
"""What a log of sales may hold; the first four it must."""


def read_sales(
    path: Path,
    named: Mapping[str, str] | None = None,
    products: Sequence[str] = (),
    instruments: Sequence[str] = (),
    written: Written | None = None,
    say: Say = to_nobody,
) -> SalesLog:
    """A log of sales from a CSV or parquet file.

    Args:
        path: the file.
        named: how it calls the columns, `{"price": "PRICE"}`.
        products: those to keep; empty for all.
        instruments: names of its columns that move prices and not demand.
        written: how a CSV file is written, as far as it is known.
        say: told in a line what was found out of that.

    Raises:
        ExperimentError: one line that names file, line and column.
    """
    rules = [*COLUMNS, *(Rule(name) for name in instruments)]
    table = read_table(path, rules, named, written, say)
    _check_rows(table, named or {})
    log = _log(table, instruments)
    if missing := [name for name in products if name not in log.products]:
        raise ExperimentError(
            f"--product {missing[0]}: {path.name} has no such product; {_some(log.products)}"
        )
    if products:
        log = only(log, products)
    return log


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"it has {', '.join(names[:8])}{more}"


def _check_rows(table: Table, named: Mapping[str, str]) -> None:
    """Whether periods are of one kind, rows are given once, and visitors are enough."""
    columns = table.columns
    whole_numbers = isinstance(columns["period"][0], int)
    _check_period_is_no_date(table, named)
    first_row: dict[Any, int] = {}
    stores = columns.get("store", [""] * len(table.lines))
    keys = zip(columns["product"], stores, columns["period"], strict=True)
    for row, key in enumerate(keys):
        product, _, period = key
        if isinstance(period, int) != whole_numbers:
            expected = f"a {'whole number' if whole_numbers else 'date'} as in the first row"
            raise bad(table.where(row, named.get("period", "period")), period, expected)
        if key in first_row:
            first_line = table.lines[first_row[key]]
            raise ExperimentError(
                f"{table.where(row)}: product {product} in period {period} is given again "
                f"(first in {table.unit} {first_line}); "
                "expected one row for each product, store and period"
            )
        first_row[key] = row
    _check_visitors(table, stores, named)


def _check_period_is_no_date(table: Table, named: Mapping[str, str]) -> None:
    """Whether whole numbers are days written without dashes: months would be 70 periods apart."""
    periods = table.columns["period"]
    if all(isinstance(x, int) and 19000101 <= x <= 21001231 for x in periods):
        texts = {str(x) for x in periods}
        if len(texts) > 1 and all("%Y%m%d" in formats_of(text) for text in texts):
            raise bad(
                table.where(0, named.get("period", "period")),
                str(periods[0]),
                "no whole numbers that are all days; read them by --date-format %Y%m%d",
            )


def _check_visitors(table: Table, stores: Sequence[str], named: Mapping[str, str]) -> None:
    """All rows of a store and period tell the same visitors, and no fewer than what was bought."""
    columns = table.columns
    visitors_of: dict[Any, float] = {}
    bought: dict[Any, float] = {}
    name = named.get("visitors", "visitors")
    for row, visitors in enumerate(columns.get("visitors", [])):
        key = (stores[row], columns["period"][row])
        if not math.isnan(visitors) and visitors_of.setdefault(key, visitors) != visitors:
            raise bad(
                table.where(row, name),
                f"{visitors:g}",
                f"{visitors_of[key]:g} as in that store and period's first row",
            )
        bought[key] = bought.get(key, 0.0) + columns["sales"][row]
        if bought[key] > visitors_of.get(key, math.inf):
            raise bad(
                table.where(row, name),
                f"{visitors_of[key]:g}",
                f"at least the {bought[key]:g} units sold in that period",
            )


def _log(table: Table, instruments: Sequence[str]) -> SalesLog:
    columns = table.columns
    rows = len(table.lines)
    unknown = [math.nan] * rows
    product_names = np.array(columns["product"], dtype=str)
    store_names = np.array(columns.get("store", ["all"] * rows), dtype=str)
    products, product = np.unique(product_names, return_inverse=True)
    stores, store = np.unique(store_names, return_inverse=True)
    stock = np.array(columns.get("stock", unknown))
    sales = np.array(columns["sales"])
    period = [x if isinstance(x, int) else x.toordinal() for x in columns["period"]]
    z = np.array([columns[name] for name in instruments]).T if instruments else np.empty((rows, 0))
    log = SalesLog(
        source=table.source,
        products=tuple(map(str, products)),
        stores=tuple(map(str, stores)),
        product=product.reshape(-1),
        store=store.reshape(-1),
        period=np.array(period),
        price=np.array(columns["price"]),
        sales=sales,
        sold_out=sales >= stock,  # False where the stock is not known
        cost=np.array(columns.get("cost", unknown)),
        visitors=np.array(columns.get("visitors", unknown)),
        instruments=z,
        instrument_names=tuple(instruments),
    )
    offered = ~(stock == 0)  # not `stock > 0`, which is False where the stock is not known
    if not offered.any():
        raise ExperimentError(
            f"{table.source}: no row has stock; expected rows in which something could be sold"
        )
    log = completed(log)
    added = np.ones(log.rows - rows, bool)
    return log.where(np.concatenate([offered, added]))
