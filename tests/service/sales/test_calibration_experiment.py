"""What a log cannot tell is refused; what it tells becomes an experiment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rl_markets.errors import ExperimentError
from rl_markets.experiment import load, parse
from rl_markets.sales.calibration.calibrate import Calibration, by_instruments, calibrate
from rl_markets.sales.calibration.experiment import Setting, experiment, grid, text
from rl_markets.sales.calibration.sales import COLUMNS
from tests.support.known_demand import exponential, log_of, logit
from tests.support.running import ROOT, command
from tests.support.selling import Row, changed, drawn, write

# -- refusals --------------------------------------------------------------------------------------

GOOD = drawn(exponential, periods=40, stock=30)
REFUSED: dict[str, tuple[list[Row], str]] = {
    "single price": (
        changed(GOOD, price=lambda r: 500),
        "product p0: a single price, 500, in all 40 rows",
    ),
    "few changes": (
        changed(GOOD, price=lambda r: 400 if r["period"] < 20 else 500),
        "only 1 price change over time",
    ),
    "trend": (changed(GOOD, price=lambda r: 400 + r["period"]), "straight line with the period"),
    "no sales": (changed(GOOD, sales=lambda r: 0), "no sales in 40 rows"),
    "sold out": (changed(GOOD, sales=lambda r: 30), "sold out in all 40 rows"),
    "no stock": (changed(GOOD, sales=lambda r: 0, stock=lambda r: 0), "no row has stock"),
    "short": (GOOD[:9], "9 periods; expected 10 or more"),
    "rising": (
        changed(GOOD, sales=lambda r: int(r["price"] / 30)),
        "demand seems to rise in the price",
    ),
    "late change": (
        changed(GOOD, price=lambda r: 500 if r["period"] < 32 else 400 + 50 * (r["period"] % 3)),
        "do not determine any family",
    ),
    "flat": (changed(GOOD, sales=lambda r: 7 + r["period"] % 2), "which holds 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_log_cannot_tell_is_refused_by_name(case: str, tmp_path: Path) -> None:
    rows, message = REFUSED[case]
    with pytest.raises(ExperimentError, match=r"sales\.csv: ") as refusal:
        calibrate(log_of(rows, tmp_path))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_instruments_refuse_rows_without_a_logarithm(tmp_path: Path) -> None:
    zero = changed(GOOD, sales=lambda r: r["period"] % 3, w=lambda r: r["price"])
    with pytest.raises(ExperimentError, match="14 rows without sales"):
        by_instruments(log_of(zero, tmp_path, instruments=["w"]), "exponential")
    out = changed(GOOD, sales=lambda r: 30 if r["period"] == 3 else 5, w=lambda r: r["price"])
    with pytest.raises(ExperimentError, match="1 rows sold out"):
        by_instruments(log_of(out, tmp_path, instruments=["w"]), "exponential")


# -- the experiment --------------------------------------------------------------------------------


def calibrated(folder: Path, **options: Any) -> Calibration:
    return calibrate(
        log_of(drawn(logit, products=2, periods=120), folder), "logit", visitors=100, **options
    )


def test_levels_lie_where_every_products_price_was_seen(tmp_path: Path) -> None:
    calibration = calibrated(tmp_path)
    list_price, levels = grid(calibration.log)
    assert len(levels) == 9
    for i, price in enumerate(list_price):
        prices = calibration.log.price[calibration.log.product == i]
        assert prices.min() <= price * levels[0]
        assert price * levels[-1] <= prices.max()


def test_costs_come_from_the_log_or_are_asked_for(tmp_path: Path) -> None:
    calibration = calibrated(tmp_path)
    message = "product p0: no unit cost; give a column cost, or --cost"
    with pytest.raises(ExperimentError, match=message):
        experiment("x", calibration, Setting({}))
    with pytest.raises(ExperimentError, match="--cost p9"):
        experiment("x", calibration, Setting({"p9": 1.0}))
    with pytest.raises(ExperimentError, match="is not below"):
        parse(experiment("x", calibration, Setting({"p1": 9000.0}, 10.0)), "x.yaml")
    data = experiment("x", calibration, Setting({"p1": 200.0}, 10.0, stock=20, periods=30))
    assert "certificate" not in data, (
        "two products with stock have no known answer: a deviator is trained"
    )
    parameters = data["market"]["parameters"]
    assert parameters["cost"] == [10.0, 200.0]
    assert parameters["stock"] == {"units": [20]}
    assert parameters["gamma"] == 1.0
    (tmp_path / "x.yaml").write_text(text(data, calibration))
    assert load(tmp_path / "x.yaml", machine=False).market.parameters == parameters


def test_a_size_that_the_market_does_not_take_is_refused(tmp_path: Path) -> None:
    steep = drawn(lambda p: 30 * (p / 500) ** -5.0, periods=300)
    with pytest.raises(ExperimentError, match="write prices in a larger unit"):
        experiment("x", calibrate(log_of(steep, tmp_path), "isoelastic"), Setting({}, 0.0))


@pytest.mark.timeout(400)
def test_a_log_becomes_an_experiment_that_trains(tmp_path: Path) -> None:
    """As a person does it: calibrate, be refused a second time, check, train."""
    write(
        tmp_path / "My sales.csv",
        changed(drawn(exponential, periods=60), PRICE=lambda r: r["price"]),
    )
    line = ["calibrate", "My sales.csv", "--column", "price=PRICE", "--cost", "200"]
    done = command(*line, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "chosen" in done.stdout
    assert "wrote my-sales.yaml" in done.stdout
    again = command(*line, cwd=tmp_path)
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "my-sales.yaml: exists already; --force" in again.stderr
    done = command("train", "my-sales.yaml", "--smoke", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "latest" / "certificate.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--family", "cubic"], "expected one of linear, exponential, isoelastic, logit"),
        (["--instruments", "w"], "needs --family"),
        (["--stock", "5"], "needs --periods"),
        (["--cost", "a lot"], "expected a number of 0 or more"),
        (["--column", "price"], "expected NAME=NAME"),
    ],
)
def test_bad_options_are_refused_and_nothing_is_written(
    options: list[str], message: str, tmp_path: Path
) -> None:
    from typer.testing import CliRunner

    from rl_markets.cli import app

    out = tmp_path / "out.yaml"
    done = CliRunner().invoke(
        app, ["calibrate", str(write(tmp_path / "s.csv", GOOD)), "--out", str(out), *options]
    )
    assert isinstance(done.exception, ExperimentError)
    assert message in str(done.exception)
    assert not out.exists()


def test_the_page_on_own_data_names_every_column() -> None:
    from rl_markets.sales.offline import log

    page = (ROOT / "docs" / "own-data.md").read_text()
    for rule in (*COLUMNS, *log.COLUMNS):
        assert f"| `{rule.name}` |" in page


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from rl_markets.cli import app; from typer.testing import CliRunner; "
        "assert CliRunner().invoke(app, ['calibrate', '--help']).exit_code == 0; "
        "heavy = ('torch', 'ray', 'pandas', 'pyarrow', 'scipy', 'numpy'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
