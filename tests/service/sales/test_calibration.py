"""Demand from logs of sales: known demand is found again, real data give published numbers."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_markets.errors import ExperimentError
from rl_markets.experiment import parse
from rl_markets.sales.calibration.calibrate import by_instruments, calibrate
from rl_markets.sales.calibration.experiment import Setting, experiment
from rl_markets.sales.calibration.families import Logit, rows_of
from rl_markets.sales.calibration.instruments import two_stage
from rl_markets.sales.calibration.likelihood import fit
from tests.support.known_demand import exponential, isoelastic, linear, log_of, logit
from tests.support.selling import Row, drawn, packaged, yogurt

MIDDLE = 500.0
DEMANDS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "exponential": (exponential, 1),
    "isoelastic": (isoelastic, 1),
    "linear": (linear, 2),
    "logit": (logit, 2),
}


def without(rows: list[Row], column: str) -> list[Row]:
    return [{name: value for name, value in row.items() if name != column} for row in rows]


def true_elasticity(mean: Callable[[Any], Any], price: Any) -> Any:
    """Own elasticities by differences."""
    step = 1e-5
    up = [mean(price * (1 + step * e))[i] for i, e in enumerate(np.eye(len(price)))]
    return (np.log(up) - np.log(mean(price))) / np.log1p(step)


# -- known demand ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", DEMANDS)
def test_known_demand_is_found_again(family: str, tmp_path: Path) -> None:
    mean, products = DEMANDS[family]
    calibration = calibrate(
        log_of(drawn(mean, products=products, periods=600), tmp_path), family, visitors=100
    )
    truth = true_elasticity(mean, calibration.price)
    assert (calibration.low < truth).all(), (calibration.low, truth)
    assert (truth < calibration.high).all(), (calibration.high, truth)
    np.testing.assert_allclose(calibration.elasticity, truth, atol=0.25)
    if family == "logit":
        np.testing.assert_allclose(calibration.demand["quality"], [450, 550], atol=25)
    if family == "linear":
        assert calibration.demand["cross"] == pytest.approx(0.01, abs=0.006)


def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path: Path) -> None:
    """60 logs, 95 %: fewer than 52 would happen once in a thousand times."""
    held = 0
    for seed in range(60):
        calibration = calibrate(
            log_of(drawn(exponential, periods=60, seed=seed, stock=12), tmp_path), "exponential"
        )
        held += bool(calibration.low[0] < -0.004 * calibration.price[0] < calibration.high[0])
    assert held >= 52


@pytest.mark.parametrize("family", ["linear", "exponential", "isoelastic"])
def test_ignoring_stock_outs_is_biased_and_counting_them_is_not(
    family: str, tmp_path: Path
) -> None:
    """The negative control.

    The same sales without the column that says what could be sold at most.
    """
    cases: dict[str, tuple[Callable[[Any], Any], float]] = {
        "linear": (lambda p: 30 - 0.04 * p, -2.0),
        "exponential": (exponential, -2.0),
        "isoelastic": (lambda p: 0.7 * isoelastic(p), -1.8),
    }
    mean, truth = cases[family]
    rows = drawn(mean, periods=800, stock=8, seed=1)
    sold_out = np.mean([r["sales"] == 8 for r in rows])
    assert 0.4 < sold_out < 0.8
    counted = calibrate(log_of(rows, tmp_path), family)
    ignored = calibrate(log_of(without(rows, "stock"), tmp_path), family)
    assert counted.low[0] < truth < counted.high[0]
    assert ignored.low[0] > truth + 0.5


def test_stores_differ_by_a_factor_and_the_market_is_their_mean(tmp_path: Path) -> None:
    """The second store sells twice as much: the market's one sells 1.5 times the first's."""
    calibration = calibrate(
        log_of(drawn(exponential, periods=400, stores=2), tmp_path), "exponential"
    )
    demand = calibration.demand
    units = demand["size"][0] * np.exp(-demand["slope"][0] * MIDDLE)
    assert units == pytest.approx(1.5 * exponential(MIDDLE), rel=0.03)


def test_known_visitors_explain_busy_days(tmp_path: Path) -> None:
    """Twice the visitors on every other day, when prices are high.

    Without their number, demand would seem to rise.
    """
    rng = np.random.default_rng(0)
    rows = []
    for period in range(400):
        visitors = 40 + 160 * (period % 2)
        price = float(rng.choice([400, 450] if period % 2 == 0 else [500, 550]))
        sales = rng.binomial(visitors, 1 / (1 + np.exp((price - 420) / 100)))
        row = {"product": "a", "period": period, "price": price, "sales": sales}
        rows.append(row | {"visitors": visitors})
    with pytest.raises(ExperimentError, match="seems to rise"):
        calibrate(log_of(without(rows, "visitors"), tmp_path), "exponential")
    calibration = calibrate(log_of(rows, tmp_path))
    assert calibration.family == "logit"
    assert calibration.demand["mu"] == pytest.approx(100, rel=0.1)
    assert calibration.demand["visitors"] == pytest.approx(120)


def test_the_right_family_wins_on_held_out_periods(tmp_path: Path) -> None:
    wide = (200.0, 400.0, 700.0, 1100.0, 1600.0)
    for seed, (family, mean) in enumerate(
        {"isoelastic": isoelastic, "exponential": exponential}.items()
    ):
        rows = drawn(lambda p, m=mean: 10 * m(p), periods=300, seed=seed, prices=wide)
        assert calibrate(log_of(rows, tmp_path)).family == family


def test_prices_that_follow_demand_need_instruments(tmp_path: Path) -> None:
    """Busy periods are charged more, and least squares finds too little elasticity.

    The wholesale price tells the truth.
    """
    rng = np.random.default_rng(1)
    rows = []
    for period in range(1000):
        busy = rng.normal()
        wholesale = rng.normal()
        price = 500 * np.exp(0.1 * wholesale + 0.1 * busy)
        sales = 1 + rng.poisson(200 * np.exp(0.5 * busy) * (price / 500) ** -3.0)
        row = {"product": "a", "period": period, "price": price, "sales": sales}
        rows.append(row | {"w": wholesale, "z": rng.normal()})
    calibration = by_instruments(log_of(rows, tmp_path, instruments=["w"]), "isoelastic")
    assert calibration.low[0] < -3 < calibration.high[0]
    assert calibrate(log_of(rows, tmp_path), "isoelastic").elasticity[0] > -1.5
    with pytest.raises(ExperimentError, match="weak, first-stage F"):
        by_instruments(log_of(rows, tmp_path, instruments=["z"]), "isoelastic")


@pytest.mark.parametrize("family", ["linear", "exponential", "logit"])
def test_every_family_can_be_had_by_instruments(family: str, tmp_path: Path) -> None:
    """Two products that share a slope.

    The price answers nothing but the wholesale price here, so that truth is plain.
    """
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
            row = {"product": name, "period": period, "price": price[i], "sales": sales}
            rows.append(row | {"visitors": 3000, "w": wholesale[i]})
    log = log_of(rows, tmp_path, instruments=["w"])
    calibration = by_instruments(log, family)
    slope = {"linear": -1.0, "exponential": -0.002}
    truth = true_elasticity(logit, calibration.price) if family == "logit" else None
    if family in slope:
        units = 900 - calibration.price if family == "linear" else 1.0
        truth = slope[family] * calibration.price / units
    error = np.abs(calibration.elasticity - truth)
    assert (error < 0.15 * np.abs(truth)).all(), (calibration.elasticity, truth)
    parse(experiment("x", calibration, Setting({}, 100.0)), "x.yaml")


# -- real data -------------------------------------------------------------------------------------


def test_nevos_cereal_data_give_the_published_price_coefficient() -> None:
    """Nevo (2000) as shipped with pyblp: logit with product effects, 20 instruments.

    Conlon and Gortmaker report -30.10.
    """
    file = packaged("pyblp") / "data" / "nevo_products.csv"
    rows = list(csv.DictReader(file.open()))
    share = np.array([float(r["shares"]) for r in rows])
    _, market = np.unique([r["market_ids"] for r in rows], return_inverse=True)
    odds = np.log(share) - np.log(1 - np.bincount(market, share)[market])
    z = [[float(r[f"demand_instruments{k}"]) for k in range(20)] for r in rows]
    estimate = two_stage(
        odds, [float(r["prices"]) for r in rows], z, [r["product_ids"] for r in rows]
    )
    assert estimate.slope == pytest.approx(-30.10, abs=0.05)
    assert estimate.ordinary == pytest.approx(-28.95, abs=0.01)
    assert estimate.standard_error == pytest.approx(1.02, abs=0.01)


def test_yogurt_purchases_give_the_known_price_coefficient() -> None:
    """A logit of brands, price and feature, in cents an ounce.

    Jain, Vilcassim and Chintagunta (1994).
    """
    log, featured = yogurt()
    rows = rows_of(log, covariates=featured)
    fitted = fit(Logit(rows, outside=False), rows)
    assert -fitted.theta[fitted.family.own][0] == pytest.approx(-0.367, abs=0.005)
    assert fitted.clustered
