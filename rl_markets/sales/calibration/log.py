"""A log of sales in memory: which product was offered at which price, and what was sold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SalesLog:
    """R rows of P products in S stores.

    Rows without stock are left out, since they say nothing of demand.

    Attributes:
        source: the file's name.
        products, stores: their names.
        product, store: [R] indices of `products` and `stores`.
        period: [R] whole numbers, days for dates.
        price, sales: [R].
        sold_out: [R] whether demand may have been larger than sales.
        cost, visitors: [R], NaN where not known.
        instruments: [R, Z], and their names.
        notes: what was done to the file's rows, a sentence each.
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
    instrument_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """R."""
        return len(self.price)

    @property
    def cells(self) -> Index:
        """[R], which store and period each row belongs to, from 0."""
        pairs = np.stack([self.store, self.period])
        _, cell = np.unique(pairs, axis=1, return_inverse=True)
        return np.asarray(cell, dtype=np.int64).reshape(-1)

    def where(self, mask: NDArray[np.bool_] | Index) -> SalesLog:
        """The rows of a mask, or of these numbers; products and stores keep theirs."""
        return replace(
            self,
            product=self.product[mask],
            store=self.store[mask],
            period=self.period[mask],
            price=self.price[mask],
            sales=self.sales[mask],
            sold_out=self.sold_out[mask],
            cost=self.cost[mask],
            visitors=self.visitors[mask],
            instruments=self.instruments[mask],
        )


def only(log: SalesLog, products: Sequence[str]) -> SalesLog:
    """The rows of some products, which are numbered anew."""
    kept = sorted({log.products.index(name) for name in products})
    of_kept = log.where(np.isin(log.product, kept))
    return replace(
        of_kept,
        products=tuple(log.products[i] for i in kept),
        product=np.searchsorted(kept, of_kept.product),
    )
