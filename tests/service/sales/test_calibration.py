"""Demand from logs of sales: known demand is found again, real data give the published numbers, the
rest is refused."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_markets.errors import ExperimentError
from rl_markets.experiment import load, parse
from rl_markets.sales.calibration.calibrate import Calibration, by_instruments, calibrate
from rl_markets.sales.calibration.experiment import Setting, experiment, grid, text
from rl_markets.sales.calibration.families import Logit, rows_of
from rl_markets.sales.calibration.instruments import two_stage
from rl_markets.sales.calibration.likelihood import fit
from rl_markets.sales.calibration.sales import COLUMNS, SalesLog, read_sales
from tests.support.running import ROOT, command
from tests.support.selling import Row, changed, drawn, packaged, write, yogurt

MIDDLE = 500.0


def exponential(price: Any) -> Any:
    return 60 * np.exp(-0.004 * price)


def isoelastic(price: Any) -> Any:
    return 12 * (price / 500) ** -1.8


def linear(price: Any) -> Any:
    return 40 - 0.05 * price + 0.01 * (price.sum() - price)


def logit(price: Any) -> Any:
    weight = np.exp((np.array([450.0, 550.0]) - price) / 80)
    return 100 * weight / (1 + weight.sum())


DEMANDS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "exponential": (exponential, 1),
    "isoelastic": (isoelastic, 1),
    "linear": (linear, 2),
    "logit": (logit, 2),
}


def log_of(rows: list[Row], folder: Path, **options: Any) -> SalesLog:
    return read_sales(write(folder / "sales.csv", rows), **options)


def true_elasticity(mean: Callable[[Any], Any], price: Any) -> Any:
    """Own elasticities by differences."""
    step = 1e-5
    up = [mean(price * (1 + step * e))[i] for i, e in enumerate(np.eye(len(price)))]
    return (np.log(up) - np.log(mean(price))) / np.log1p(step)


# -- known demand ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", DEMANDS)
def test_known_demand_is_found_again(family: str, tmp_path: Path) -> None:
    mean, products = DEMANDS[family]
    found = calibrate(
        log_of(drawn(mean, products=products, periods=600), tmp_path), family, visitors=100
    )
    truth = true_elasticity(mean, found.price)
    assert (found.low < truth).all(), (found.low, truth)
    assert (truth < found.high).all(), (found.high, truth)
    np.testing.assert_allclose(found.elasticity, truth, atol=0.25)
    if family == "logit":
        np.testing.assert_allclose(found.demand["quality"], [450, 550], atol=25)
    if family == "linear":
        assert found.demand["cross"] == pytest.approx(0.01, abs=0.006)


def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path: Path) -> None:
    """60 logs, 95 %: fewer than 52 would happen once in a thousand times."""
    held = 0
    for seed in range(60):
        found = calibrate(
            log_of(drawn(exponential, periods=60, seed=seed, stock=12), tmp_path), "exponential"
        )
        held += bool(found.low[0] < -0.004 * found.price[0] < found.high[0])
    assert held >= 52


@pytest.mark.parametrize("family", ["linear", "exponential", "isoelastic"])
def test_ignoring_stock_outs_is_biased_and_counting_them_is_not(
    family: str, tmp_path: Path
) -> None:
    """The negative control: the same sales without the column that says what could be sold at
    most."""
    mean, truth = {
        "linear": (lambda p: 30 - 0.04 * p, -2.0),
        "exponential": (exponential, -2.0),
        "isoelastic": (lambda p: 0.7 * isoelastic(p), -1.8),
    }[family]
    rows = drawn(mean, periods=800, stock=8, seed=1)
    sold_out = np.mean([r["sales"] == 8 for r in rows])
    assert 0.4 < sold_out < 0.8
    counted = calibrate(log_of(rows, tmp_path), family)
    ignored = calibrate(
        log_of([{k: v for k, v in r.items() if k != "stock"} for r in rows], tmp_path), family
    )
    assert counted.low[0] < truth < counted.high[0]
    assert ignored.low[0] > truth + 0.5


def test_stores_differ_by_a_factor_and_the_market_is_their_mean(tmp_path: Path) -> None:
    """The second store sells twice as much: the market's one sells 1.5 times the first's."""
    found = calibrate(log_of(drawn(exponential, periods=400, stores=2), tmp_path), "exponential")
    assert found.demand["size"][0] * np.exp(-found.demand["slope"][0] * MIDDLE) == pytest.approx(
        1.5 * exponential(MIDDLE), rel=0.03
    )


def test_known_visitors_explain_busy_days(tmp_path: Path) -> None:
    """Twice the visitors on every other day, when prices are high: without their number, demand
    would seem to rise."""
    rng = np.random.default_rng(0)
    rows = []
    for period in range(400):
        visitors = 40 + 160 * (period % 2)
        price = float(rng.choice([400, 450] if period % 2 == 0 else [500, 550]))
        sales = rng.binomial(visitors, 1 / (1 + np.exp((price - 420) / 100)))
        rows.append(
            {"product": "a", "period": period, "price": price, "sales": sales, "visitors": visitors}
        )
    with pytest.raises(ExperimentError, match="seems to rise"):
        calibrate(
            log_of([{k: v for k, v in r.items() if k != "visitors"} for r in rows], tmp_path),
            "exponential",
        )
    found = calibrate(log_of(rows, tmp_path))
    assert found.family == "logit"
    assert found.demand["mu"] == pytest.approx(100, rel=0.1)
    assert found.demand["visitors"] == pytest.approx(120)


def test_the_right_family_wins_on_held_out_periods(tmp_path: Path) -> None:
    wide = (200.0, 400.0, 700.0, 1100.0, 1600.0)
    for seed, (family, mean) in enumerate(
        {"isoelastic": isoelastic, "exponential": exponential}.items()
    ):
        rows = drawn(lambda p, m=mean: 10 * m(p), periods=300, seed=seed, prices=wide)
        assert calibrate(log_of(rows, tmp_path)).family == family


def test_prices_that_follow_demand_need_instruments(tmp_path: Path) -> None:
    """Busy periods are charged more: least squares finds too little elasticity; the wholesale price
    tells the truth."""
    rng = np.random.default_rng(1)
    rows = []
    for period in range(1000):
        busy = rng.normal()
        wholesale = rng.normal()
        price = 500 * np.exp(0.1 * wholesale + 0.1 * busy)
        sales = 1 + rng.poisson(200 * np.exp(0.5 * busy) * (price / 500) ** -3.0)
        rows.append(
            {
                "product": "a",
                "period": period,
                "price": price,
                "sales": sales,
                "w": wholesale,
                "z": rng.normal(),
            }
        )
    found = by_instruments(log_of(rows, tmp_path, instruments=["w"]), "isoelastic")
    assert found.low[0] < -3 < found.high[0]
    assert calibrate(log_of(rows, tmp_path), "isoelastic").elasticity[0] > -1.5
    with pytest.raises(ExperimentError, match="weak, first-stage F"):
        by_instruments(log_of(rows, tmp_path, instruments=["z"]), "isoelastic")


@pytest.mark.parametrize("family", ["linear", "exponential", "logit"])
def test_every_family_can_be_had_by_instruments(family: str, tmp_path: Path) -> None:
    """Two products that share a slope; the price answers nothing but the wholesale price here, so
    that truth is plain."""
    rng = np.random.default_rng(2)
    rows = []
    for period in range(400):
        wholesale = rng.normal(size=2)
        price = 500 * np.exp(0.08 * wholesale)
        mean = {"linear": 900 - 1.0 * price, "exponential": 900 * np.exp(-0.002 * price)}.get(
            family, 30 * logit(price)
        )
        for i, name in enumerate("ab"):
            sales = rng.poisson(mean[i]) + 1
            row = {
                "product": name,
                "period": period,
                "price": price[i],
                "sales": sales,
                "visitors": 3000,
            }
            rows.append(row | {"w": wholesale[i]})
    log = log_of(rows, tmp_path, instruments=["w"])
    found = by_instruments(log, family)
    slope = {"linear": -1.0, "exponential": -0.002}
    truth = true_elasticity(logit, found.price) if family == "logit" else None
    if family in slope:
        units = 900 - found.price if family == "linear" else 1.0
        truth = slope[family] * found.price / units
    assert (np.abs(found.elasticity - truth) < 0.15 * np.abs(truth)).all(), (
        found.elasticity,
        truth,
    )
    parse(experiment("x", found, Setting({}, 100.0)), "x.yaml")


# -- real data -------------------------------------------------------------------------------------


def test_nevos_cereal_data_give_the_published_price_coefficient() -> None:
    """Nevo (2000) as shipped with pyblp: logit with product effects, 20 instruments; Conlon and
    Gortmaker report -30.10."""
    file = packaged("pyblp") / "data" / "nevo_products.csv"
    rows = list(csv.DictReader(file.open()))
    share = np.array([float(r["shares"]) for r in rows])
    _, market = np.unique([r["market_ids"] for r in rows], return_inverse=True)
    odds = np.log(share) - np.log(1 - np.bincount(market, share)[market])
    z = [[float(r[f"demand_instruments{k}"]) for k in range(20)] for r in rows]
    found = two_stage(odds, [float(r["prices"]) for r in rows], z, [r["product_ids"] for r in rows])
    assert found.slope == pytest.approx(-30.10, abs=0.05)
    assert found.ordinary == pytest.approx(-28.95, abs=0.01)
    assert found.standard_error == pytest.approx(1.02, abs=0.01)


def test_yogurt_purchases_give_the_known_price_coefficient() -> None:
    """Jain, Vilcassim and Chintagunta (1994): a logit of brands, price and feature, in cents an
    ounce."""
    log, featured = yogurt()
    rows = rows_of(log, covariates=featured)
    found = fit(Logit(rows, outside=False), rows)
    assert -found.theta[found.family.own][0] == pytest.approx(-0.367, abs=0.005)
    assert found.clustered


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
    found = calibrated(tmp_path)
    list_price, levels = grid(found.log)
    assert len(levels) == 9
    for i, price in enumerate(list_price):
        seen = found.log.price[found.log.product == i]
        assert seen.min() <= price * levels[0]
        assert price * levels[-1] <= seen.max()


def test_costs_come_from_the_log_or_are_asked_for(tmp_path: Path) -> None:
    found = calibrated(tmp_path)
    with pytest.raises(
        ExperimentError, match="product p0: no unit cost; give a column cost, or --cost"
    ):
        experiment("x", found, Setting({}))
    with pytest.raises(ExperimentError, match="--cost p9"):
        experiment("x", found, Setting({"p9": 1.0}))
    with pytest.raises(ExperimentError, match="is not below"):
        parse(experiment("x", found, Setting({"p1": 9000.0}, 10.0)), "x.yaml")
    data = experiment("x", found, Setting({"p1": 200.0}, 10.0, stock=20, periods=30))
    assert "certificate" not in data, (
        "two products with stock have no known answer: a deviator is trained"
    )
    parameters = data["market"]["parameters"]
    assert (parameters["cost"], parameters["stock"], parameters["gamma"]) == (
        [10.0, 200.0],
        {"units": [20]},
        1.0,
    )
    (tmp_path / "x.yaml").write_text(text(data, found))
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
        "print([m for m in ('torch', 'ray', 'pandas', 'pyarrow', 'scipy', 'numpy') if m in "
        "sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
