"""A log of sales, read and checked: which product was offered at which price in which period, and
what was sold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rl_markets.errors import ExperimentError
from rl_markets.sales.table import Rule, Table, bad, read_table

Array = NDArray[np.float64]
Index = NDArray[np.int64]

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


@dataclass(frozen=True, eq=False)
class SalesLog:
    """R rows of P products in S stores; rows without stock are left out, since they say nothing of
    demand.

    `product`, `store` [R] are indices of `products`, `stores`; `period` [R] whole numbers (days for
    dates); `price`, `sales` [R]; `sold_out` [R] whether demand may have been larger than sales;
    `cost`, `visitors` [R], NaN where not known; `instruments` [R, Z].
    """

    source: str
    products: tuple[str, ...]
    stores: tuple[str, ...]
    product: Index
    store: Index
    period: Index
    price: Array
    sales: Array
    sold_out: NDArray[np.bool_]
    cost: Array
    visitors: Array
    instruments: Array

    @property
    def rows(self) -> int:
        """R."""
        return len(self.price)

    @property
    def cells(self) -> Index:
        """[R], which store and period each row belongs to, from 0."""
        _, found = np.unique(np.stack([self.store, self.period]), axis=1, return_inverse=True)
        return np.asarray(found, dtype=np.int64).reshape(-1)

    def where(self, mask: NDArray[np.bool_]) -> SalesLog:
        """The rows of a mask; products and stores keep their numbers."""
        names = (
            "product",
            "store",
            "period",
            "price",
            "sales",
            "sold_out",
            "cost",
            "visitors",
            "instruments",
        )
        chosen: dict[str, Any] = {name: getattr(self, name)[mask] for name in names}
        return replace(self, **chosen)


def read_sales(
    path: Path,
    named: Mapping[str, str] | None = None,
    products: Sequence[str] = (),
    instruments: Sequence[str] = (),
) -> SalesLog:
    """A log of sales from a CSV or parquet file.

    Args:
        path: the file.
        named: how it calls the columns, `{"price": "PRICE"}`.
        products: those to keep; empty for all.
        instruments: names of its columns that move prices and not demand.

    Raises:
        ExperimentError: one line that names file, line and column.
    """
    rules = [*COLUMNS, *(Rule(name) for name in instruments)]
    table = read_table(path, rules, named)
    _check_rows(table, named or {})
    log = _log(table, instruments)
    if missing := [name for name in products if name not in log.products]:
        raise ExperimentError(
            f"--product {missing[0]}: {path.name} has no such product; {_some(log.products)}"
        )
    if products:
        log = _only(log, products)
    return log


def _some(names: Sequence[str]) -> str:
    return (
        "it has " + ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    )


def _check_rows(table: Table, named: Mapping[str, str]) -> None:
    """Whether periods are of one kind, rows are given once, and visitors are enough."""
    c = table.columns
    first = isinstance(c["period"][0], int)
    seen: dict[Any, int] = {}
    stores = c.get("store", [""] * len(table.lines))
    for row, key in enumerate(zip(c["product"], stores, c["period"], strict=True)):
        if isinstance(key[2], int) != first:
            expected = f"a {'whole number' if first else 'date'} as in the first row"
            raise bad(table.where(row, named.get("period", "period")), key[2], expected)
        if key in seen:
            raise ExperimentError(
                f"{table.where(row)}: product {key[0]} in period {key[2]} is given again (first in "
                f"{table.unit} "
                f"{table.lines[seen[key]]}); expected one row for each product, store and period"
            )
        seen[key] = row
    _check_visitors(table, stores, named)


def _check_visitors(table: Table, stores: Sequence[str], named: Mapping[str, str]) -> None:
    """All rows of a store and period tell the same visitors, and no fewer than what was bought."""
    c = table.columns
    told: dict[Any, float] = {}
    bought: dict[Any, float] = {}
    name = named.get("visitors", "visitors")
    for row, visitors in enumerate(c.get("visitors", [])):
        key = (stores[row], c["period"][row])
        if not math.isnan(visitors) and told.setdefault(key, visitors) != visitors:
            raise bad(
                table.where(row, name),
                f"{visitors:g}",
                f"{told[key]:g} as in that store and period's first row",
            )
        bought[key] = bought.get(key, 0.0) + c["sales"][row]
        if bought[key] > told.get(key, math.inf):
            raise bad(
                table.where(row, name),
                f"{told[key]:g}",
                f"at least the {bought[key]:g} units sold in that period",
            )


def _log(table: Table, instruments: Sequence[str]) -> SalesLog:
    c = table.columns
    rows = len(table.lines)
    unknown = [math.nan] * rows
    products, product = np.unique(np.array(c["product"], dtype=str), return_inverse=True)
    stores, store = np.unique(
        np.array(c.get("store", ["all"] * rows), dtype=str), return_inverse=True
    )
    stock = np.array(c.get("stock", unknown))
    sales = np.array(c["sales"])
    period = [x if isinstance(x, int) else x.toordinal() for x in c["period"]]
    z = np.array([c[name] for name in instruments]).T if instruments else np.empty((rows, 0))
    log = SalesLog(
        table.source,
        tuple(map(str, products)),
        tuple(map(str, stores)),
        product.reshape(-1),
        store.reshape(-1),
        np.array(period),
        np.array(c["price"]),
        sales,
        sales >= stock,
        np.array(c.get("cost", unknown)),
        np.array(c.get("visitors", unknown)),
        z,
    )
    there = ~(stock == 0)
    if not there.any():
        raise ExperimentError(
            f"{table.source}: no row has stock; expected rows in which something could be sold"
        )
    return log.where(there)


def _only(log: SalesLog, products: Sequence[str]) -> SalesLog:
    keep = sorted({log.products.index(name) for name in products})
    chosen = log.where(np.isin(log.product, keep))
    return replace(
        chosen,
        products=tuple(log.products[i] for i in keep),
        product=np.searchsorted(keep, chosen.product),
    )
