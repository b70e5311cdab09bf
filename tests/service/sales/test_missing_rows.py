"""Logs that have a row only where something sold: completed where they tell how, else refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rl_markets.errors import ExperimentError
from rl_markets.sales.calibration.calibrate import calibrate
from rl_markets.sales.calibration.sales import read_sales

SLOPE = 0.006
PRICES = (300, 400, 500, 600, 700)
Row = tuple[str, str, int, float, int, int]
"""Product, store, day, price, sales, stock."""


def log(
    level: float = 8.0, days: int = 3000, spell: int = 1, stores: int = 1, seed: int = 1
) -> list[Row]:
    """Poisson sales at prices that last for `spell` days, every row of them."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(stores):
        price = 500.0
        for day in range(days):
            if day % spell == 0:
                price = float(rng.choice(PRICES))
            sales = int(rng.poisson(level * np.exp(-SLOPE * price)))
            rows.append(("lamp", f"s{i}", day, price, sales, 99))
    return rows


def written(
    folder: Path,
    rows: list[Row],
    keep: Callable[[Row], bool] = lambda row: True,
    stock: bool = False,
) -> Path:
    path = folder / "log.csv"
    lines = ["product,store,period,price,sales" + ",stock" * stock]
    for row in filter(keep, rows):
        lines.append(",".join(map(str, row if stock else row[:5])))
    path.write_text("\n".join(lines))
    return path


def sold(row: Row) -> bool:
    return row[4] > 0


def test_prices_of_every_day_leave_gaps_that_nobody_can_fill(tmp_path: Path) -> None:
    """The truth at the mean price is -3.0; fitted to what sold, it seemed to be -.36."""
    with pytest.raises(ExperimentError, match=r"rows without sales are missing .* add a row"):
        read_sales(written(tmp_path, log(days=400), sold))


@pytest.mark.parametrize("stores", [1, 2])
def test_prices_that_last_tell_what_was_asked_in_a_gap(tmp_path: Path, stores: int) -> None:
    rows = log(spell=200, stores=stores)
    full = read_sales(written(tmp_path, rows))
    found = read_sales(written(tmp_path, rows, sold))
    assert full.notes == ()
    assert len(found.notes) == 1
    assert "rows without sales were put back" in found.notes[0]
    assert abs(found.rows / full.rows - 1) < 0.02
    elasticity = calibrate(found, "exponential").elasticity
    truth = calibrate(full, "exponential").elasticity
    assert float(elasticity[0]) == pytest.approx(float(truth[0]), abs=0.1)


def test_a_note_goes_with_the_estimate(tmp_path: Path) -> None:
    found = calibrate(read_sales(written(tmp_path, log(spell=200), sold)), "exponential")
    assert any("put back" in note for note in found.notes)


def test_a_shop_that_is_closed_on_sundays_sells_nothing_then(tmp_path: Path) -> None:
    rows = log(spell=200)
    found = read_sales(written(tmp_path, rows, lambda row: sold(row) and row[2] % 7 != 3))
    assert not (found.period % 7 == 3).any()
    assert found.notes


def test_recorded_zeros_are_left_as_they_are(tmp_path: Path) -> None:
    """Days without any row are days on which the shop was closed."""
    rng = np.random.default_rng(3)
    closed = set(rng.choice(3000, 600, replace=False).tolist())
    rows = log()
    found = read_sales(written(tmp_path, rows, lambda row: row[2] not in closed))
    assert found.rows == len(rows) - 600
    assert found.notes == ()


def test_large_sales_are_never_zero(tmp_path: Path) -> None:
    rows = log(level=800)
    found = read_sales(written(tmp_path, rows, lambda row: row[2] % 5 != 0))
    assert found.rows == len([row for row in rows if row[2] % 5])
    assert found.notes == ()


def test_rows_without_stock_are_no_gaps(tmp_path: Path) -> None:
    rows = [(*row[:4], 0, 0) if row[2] % 3 == 0 else row for row in log(spell=200)]
    path = written(tmp_path, rows, lambda row: sold(row) or row[5] == 0, stock=True)
    found = read_sales(path)
    assert not (found.period % 3 == 0).any()
    assert abs(found.rows / 2000 - 1) < 0.02


def test_gaps_that_small_sales_do_not_explain_are_refused(tmp_path: Path) -> None:
    rows = log(level=60, spell=200)
    path = written(tmp_path, rows, lambda row: sold(row) and row[2] % 400 > 250)
    with pytest.raises(ExperimentError, match="where was it not offered at all"):
        read_sales(path)


def test_periods_that_were_numbered_anew_are_said_to_look_odd(tmp_path: Path) -> None:
    kept = [row for row in log() if sold(row)]
    rows = [(*row[:2], i, *row[3:]) for i, row in enumerate(kept)]
    (note,) = read_sales(written(tmp_path, rows)).notes
    assert "0 of" in note
    assert "if such rows were left out" in note


def test_demand_that_hardly_answers_says_where_the_best_price_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for day in range(2000):
        price = float(rng.choice(PRICES))
        rows.append(("salt", "s", day, price, int(rng.poisson(40 * np.exp(-0.001 * price))), 99))
    found = calibrate(read_sales(written(tmp_path, rows)), "exponential")
    assert -1 < float(found.elasticity[0]) < 0
    assert any("salt" in note and "highest that is allowed" in note for note in found.notes)
