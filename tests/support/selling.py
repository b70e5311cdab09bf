"""Logs of sales drawn from known demand, and real ones out of public packages."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rl_markets.sales.calibration.log import SalesLog

Array = NDArray[np.float64]
Row = dict[str, Any]


def drawn(
    mean: Callable[[Array], Array],
    *,
    products: int = 1,
    periods: int = 200,
    stock: int | None = None,
    seed: int = 0,
    stores: int = 1,
    prices: tuple[float, ...] = (400, 450, 500, 550, 600),
) -> list[Row]:
    """Rows of a log in which every product's price is drawn anew each period.

    `mean` maps prices [P] to units [P].
    """
    rng = np.random.default_rng(seed)
    rows = []
    for store in range(stores):
        for period in range(periods):
            price = rng.choice(prices, products)
            demand = rng.poisson(mean(price) * (1 + store))
            for i in range(products):
                sold = int(demand[i]) if stock is None else min(int(demand[i]), stock)
                row = {"product": f"p{i}", "period": period, "price": price[i], "sales": sold}
                row |= {"stock": stock} if stock is not None else {}
                rows.append(row | ({"store": f"s{store}"} if stores > 1 else {}))
    return rows


def changed(rows: list[Row], **columns: Callable[[Row], Any]) -> list[Row]:
    """The rows with some columns computed anew, or added."""
    return [{**r, **{name: f(r) for name, f in columns.items()}} for r in rows]


def write(path: Path, rows: list[Row]) -> Path:
    """A CSV file."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def packaged(name: str) -> Path:
    """The folder of an installed package, which is not imported; skips where there is none."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{name} is not installed (pip install rl-markets[data])")
    return Path(next(iter(spec.submodule_search_locations)))


def yogurt() -> tuple[SalesLog, Array]:
    """2412 purchases of yogurt of four brands, as a log of one visitor a period.

    And whether brands were featured [R, 1].
    """
    with tarfile.open(packaged("pydataset") / "resources.tar.gz") as tar:
        member = tar.extractfile("resources/rdata/csv/Ecdat/Yogurt.csv")
        assert member is not None
        rows = list(csv.DictReader(io.StringIO(member.read().decode())))
    brands = tuple(name.removeprefix("price.") for name in rows[0] if name.startswith("price."))
    number = len(rows)
    size = len(rows) * len(brands)
    price, featured = (
        np.array([[float(r[f"{k}.{b}"]) for b in brands] for r in rows]).ravel()
        for k in ("price", "feat")
    )
    bought = np.array([[float(r["choice"] == b) for b in brands] for r in rows]).ravel()
    log = SalesLog(
        "Yogurt.csv",
        brands,
        ("all",),
        np.tile(np.arange(len(brands)), number),
        np.zeros(size, np.int64),
        np.repeat(np.arange(number), len(brands)),
        price,
        bought,
        np.zeros(size, bool),
        np.full(size, np.nan),
        np.ones(size),
        np.empty((size, 0)),
    )
    return log, featured[:, None]
