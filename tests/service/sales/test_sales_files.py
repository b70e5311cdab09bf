"""Logs of sales as files: what is wrong with them is named by line and column.

Parquet and dates read as CSV does.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from rl_markets.errors import ExperimentError
from rl_markets.sales.calibration.sales import read_sales
from tests.support.selling import changed, drawn, write

GOOD = drawn(lambda price: 60 * np.exp(-0.004 * price), periods=40, stock=30)

HEADER = "product,period,price,sales,stock,visitors\n"
BAD: dict[str, tuple[str, str]] = {
    "negative price": (
        "a,1,-3,2,5,9",
        "sales.csv line 3, column price: found -3, expected a positive number",
    ),
    "no price": (
        "a,1,,2,5,9",
        "sales.csv line 3, column price: found nothing, expected a positive number",
    ),
    "text": (
        "a,1,5,many,5,9",
        "sales.csv line 3, column sales: found many, expected a number of 0 or more",
    ),
    "infinite": (
        "a,1,5,inf,5,9",
        "sales.csv line 3, column sales: found inf, expected a number of 0 or more",
    ),
    "stock": (
        "a,1,5,2,-1,9",
        "sales.csv line 3, column stock: found -1, expected a number of 0 or more",
    ),
    "period": (
        "a,May,5,2,5,9",
        "column period: found May, expected a whole number or a date such as 2026-01-31",
    ),
    "no product": (",1,5,2,5,9", "sales.csv line 3, column product: found nothing, expected text"),
    "mixed periods": (
        "a,2026-01-31,5,2,5,9",
        "column period: found 2026-01-31, expected a whole number as in the first row",
    ),
    "impossible date": ("a,2026-02-31,5,2,5,9", "column period: found 2026-02-31"),
    "twice": (
        "a,0,5,2,5,9",
        "sales.csv line 3: product a in period 0 is given again (first in line 2)",
    ),
    "visitors": (
        "a,1,5,7,9,5",
        "column visitors: found 5, expected at least the 7 units sold in that period",
    ),
    "few cells": ("a,1,5", "sales.csv line 3: found 3 cells, expected 6 as in the header"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named_by_line_and_column(case: str, tmp_path: Path) -> None:
    row, message = BAD[case]
    (tmp_path / "sales.csv").write_text(f"{HEADER}a,0,5,2,5,9\n{row}\n")
    with pytest.raises(ExperimentError) as refusal:
        read_sales(tmp_path / "sales.csv")
    assert message in str(refusal.value)


def test_missing_files_and_columns_are_named(tmp_path: Path) -> None:
    file = tmp_path / "sales.csv"
    for suffix in ("csv", "parquet"):
        with pytest.raises(ExperimentError, match="no such file"):
            read_sales(tmp_path / f"none.{suffix}")
    file.write_text("product,period,PRICE,sales\na,1,2,3\n")
    with pytest.raises(ExperimentError, match=r"no column .price..*--column price=NAME"):
        read_sales(file)
    with pytest.raises(ExperimentError, match=r"unknown column \(did you mean 'price'"):
        read_sales(file, {"prise": "PRICE"})
    with pytest.raises(ExperimentError, match="no such product; it has a"):
        read_sales(file, {"price": "PRICE"}, ["b"])
    assert read_sales(file, {"price": "PRICE"}).price.tolist() == [2.0]
    file.write_text("product,period,price,sales\n")
    with pytest.raises(ExperimentError, match="only a header"):
        read_sales(file)
    (tmp_path / "broken.parquet").write_bytes(b"PAR")
    with pytest.raises(ExperimentError, match="cannot be read as parquet"):
        read_sales(tmp_path / "broken.parquet")


def test_parquet_and_dates_read_as_csv_does(tmp_path: Path) -> None:
    rows = changed(
        GOOD, period=lambda r: datetime.date(2026, 1, 1) + datetime.timedelta(r["period"])
    )
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "sales.parquet")
    one = read_sales(tmp_path / "sales.parquet")
    other = read_sales(write(tmp_path / "sales.csv", rows))
    for name in ("period", "price", "sales", "sold_out"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    parquet.write_table(
        pyarrow.Table.from_pylist(changed(GOOD, price=lambda r: -1.5)), tmp_path / "sales.parquet"
    )
    message = r"sales.parquet row 1, column price: found -1.5, expected a positive"
    with pytest.raises(ExperimentError, match=message):
        read_sales(tmp_path / "sales.parquet")
