"""Logs as spreadsheets of many countries write them, and products that cannot be estimated."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_markets.errors import ExperimentError
from rl_markets.sales.calibration import checks
from rl_markets.sales.calibration.calibrate import by_instruments, calibrate
from rl_markets.sales.calibration.log import SalesLog
from rl_markets.sales.calibration.sales import read_sales
from rl_markets.sales.written import Written
from tests.support.running import command
from tests.support.selling import changed, drawn, write

ROWS = drawn(lambda price: 60 * np.exp(-0.004 * price), periods=40, prices=(400.5, 450.25, 500))


def text(separator: str = ",", decimal: str = ".", dates: str | None = None) -> str:
    """The log, as one writes it."""

    def shown(name: str, value: Any) -> str:
        if name == "period" and dates is not None:
            return (datetime.date(2026, 1, 1) + datetime.timedelta(value)).strftime(dates)
        return str(value).replace(".", decimal)

    lines = [separator.join(ROWS[0])]
    lines += [separator.join(shown(name, row[name]) for name in row) for row in ROWS]
    return "\n".join(lines)


def read(folder: Path, content: str, **written: Any) -> tuple[SalesLog, list[str]]:
    path = folder / "log.csv"
    path.write_text(content, encoding="utf-8")
    said: list[str] = []
    return read_sales(path, written=Written(**written), say=said.append), said


@pytest.mark.parametrize(
    ("separator", "decimal", "said"),
    [
        (",", ".", None),
        (";", ".", "log.csv: read with semicolons between columns and points before decimals"),
        (";", ",", "log.csv: read with semicolons between columns and commas before decimals"),
        ("\t", ",", "log.csv: read with tabs between columns and commas before decimals"),
        ("|", ".", "log.csv: read with bars between columns and points before decimals"),
    ],
)
def test_what_a_file_tells_of_itself_is_found_out_and_said(
    tmp_path: Path, separator: str, decimal: str, said: str | None
) -> None:
    usual, _ = read(tmp_path, text())
    log, lines = read(tmp_path, text(separator, decimal))
    np.testing.assert_array_equal(log.price, usual.price)
    np.testing.assert_array_equal(log.sales, usual.sales)
    assert lines == ([] if said is None else [said])


def test_what_is_told_needs_no_finding_out(tmp_path: Path) -> None:
    log, lines = read(tmp_path, text("#", ","), separator="#", decimal=",")
    assert sorted(set(log.price)) == [400.5, 450.25, 500]
    assert lines == []


def test_numbers_that_can_be_read_in_two_ways_are_refused(tmp_path: Path) -> None:
    content = text(";", ",").replace("450,25", "450.25", 1)
    with pytest.raises(ExperimentError, match=r"has a comma in a number, line .* a point; say by"):
        read(tmp_path, content)
    with pytest.raises(ExperimentError, match=r"column price: found 450\.25"):
        read(tmp_path, content, decimal=",")


@pytest.mark.parametrize("dates", ["%d.%m.%Y", "%m/%d/%Y", "%d %b %Y", "%Y%m%d"])
def test_dates_are_read_by_their_format(tmp_path: Path, dates: str) -> None:
    usual, _ = read(tmp_path, text(dates="%Y-%m-%d"))
    log, _ = read(tmp_path, text(dates=dates), dates=dates)
    np.testing.assert_array_equal(log.period, usual.period)


@pytest.mark.parametrize(
    ("dates", "hint"),
    [
        ("%d.%m.%Y", "read its days by --date-format %d.%m.%Y"),
        ("%m/%d/%Y", "--date-format %d/%m/%Y or %m/%d/%Y"),
        ("%Y%m%d", "column period: found 20260101, expected no whole numbers that are all days"),
    ],
)
def test_other_dates_are_named_with_their_format(tmp_path: Path, dates: str, hint: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        read(tmp_path, text(dates=dates))
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        ("--separator", "ab"),
        ("--decimal", "x"),
        ("--date-format", "%H"),
        ("--separator", ",", "--decimal", ","),
    ],
)
def test_options_that_say_nothing_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = command("calibrate", write(tmp_path / "log.csv", ROWS), *options, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"rl-markets: {options[-2]}")
    assert done.stderr.count("\n") == 1


# -- products --------------------------------------------------------------------------------------


def with_dull_products() -> list[dict[str, Any]]:
    """Three products of which two keep their price, and one sells nothing."""
    fine = drawn(lambda price: 60 * np.exp(-0.004 * price), products=2, periods=60)
    dull = [
        {"product": name, "period": period, "price": 9 + name.count("n") * (period % 3), "sales": 0}
        for name in ("still", "stopped", "none")
        for period in range(60)
    ]
    return fine + changed(dull, sales=lambda row: 3 if row["product"] != "none" else 0)


def test_all_products_that_cannot_be_estimated_are_named_at_once(tmp_path: Path) -> None:
    log = read_sales(write(tmp_path / "log.csv", with_dull_products()))
    with pytest.raises(ExperimentError) as caught:
        calibrate(log, "exponential")
    said = str(caught.value)
    assert "3 of 5 products cannot be estimated, --drop-refused leaves them out" in said
    for name in ("product still: a single price", "product stopped: ", "product none: no sales"):
        assert name in said
    left = checks.without_refused(log)
    assert left.products == ("p0", "p1")
    found = calibrate(left, "exponential")
    assert any(note.startswith("left out: product none: no sales") for note in found.notes)


def test_products_whose_demand_rises_are_left_out_and_the_others_fitted_again(
    tmp_path: Path,
) -> None:
    rows = drawn(lambda price: 60 * np.exp(-0.004 * price), products=2, periods=100)
    rows = changed(
        rows, sales=lambda r: int(r["price"] / 9) if r["product"] == "p1" else r["sales"]
    )
    log = read_sales(write(tmp_path / "log.csv", rows))
    with pytest.raises(ExperimentError, match="product p1: demand seems to rise in the price"):
        calibrate(log, "exponential")
    said: list[str] = []
    found = calibrate(log, "exponential", drop_refused=True, say=said.append)
    assert found.log.products == ("p0",)
    assert "1 products left out; fitting the other 1 again" in said


def test_how_many_products_fit_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(lambda price: 60 * np.exp(-0.004 * price), products=6, periods=40)
    log = read_sales(write(tmp_path / "log.csv", rows))
    monkeypatch.setattr(checks, "MOST_ENTRIES", 40 * 3 * 7)
    with pytest.raises(ExperimentError, match=r"6 products of 240 rows .* at most 3 of them"):
        calibrate(log, "exponential")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (lambda row: 3.0, "--instruments y: does not move"),
        (lambda row: row["price"], "--instruments y: moves as the price does"),
        (lambda row: 2 * row["price"] + 1, "--instruments y: moves as the price does"),
        (lambda row: -row["sales"], "--instruments y: moves as the sales does"),
        (lambda row: row["z"] * 1e9, "--instruments y: moves as z does"),
    ],
)
def test_instruments_that_tell_nothing_are_named(tmp_path: Path, column: Any, said: str) -> None:
    rows = changed(ROWS, z=lambda row: row["price"] + np.sin(row["period"]) * 20)
    path = write(tmp_path / "log.csv", changed(rows, y=column))
    with pytest.raises(ExperimentError) as caught:
        by_instruments(read_sales(path, instruments=["z", "y"]), "exponential")
    assert said in str(caught.value)


def test_commands_say_what_they_do(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(text(";", ","))
    done = command("calibrate", "log.csv", "--cost", "100", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "log.csv: read with semicolons between columns and commas" in done.stdout
    assert "fitting isoelastic demand" in done.stdout
