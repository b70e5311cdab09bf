"""Demand fitted to a log of sales, and the plan that follows from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import poisson

from rl_markets.envs.pricing import solution as pricing
from rl_markets.envs.pricing.solution import Season, Solution

FloatArray = NDArray[np.float64]
INCUMBENT = np.full(9, 0.5 / 9.0)  # 1000 yen half the time, otherwise any price
INCUMBENT[4] += 0.5


# Fit, then plan
def ten_days(stock: int = 10) -> Season:
    season = pricing.gvr()
    return Season(season.demand[:15], season.prices, stock)


def test_the_fit_is_the_likelihood_s_optimum() -> None:
    season = ten_days()
    log = pricing.simulate(
        season, np.broadcast_to(INCUMBENT, season.shape), 40, np.random.default_rng(3)
    )
    p, q, n = (x[log.stock > 0] for x in (log.price, log.sales, log.stock))

    def loss(b: FloatArray) -> float:
        lam = np.exp(b[0] + b[1] * p / 1000.0)
        return -float(np.where(q >= n, poisson.logsf(n - 1, lam), poisson.logpmf(q, lam)).mean())

    optimum = minimize(loss, [1.0, -1.0], method="BFGS", options={"gtol": 1e-8})
    fitted = pricing.fit_log(log)
    assert fitted.coefficients * [1.0, 1000.0] == pytest.approx(optimum.x, abs=1e-5)
    assert fitted.log_likelihood == pytest.approx(-optimum.fun * len(p), rel=1e-9)
    steps = np.array([[1e-3, 0.0], [0.0, 1e-3]])
    at = fitted.coefficients * [1.0, 1000.0]
    curve = [
        [loss(at + x + y) - loss(at + x - y) - loss(at - x + y) + loss(at - x - y) for x in steps]
        for y in steps
    ]
    covariance = np.linalg.inv(np.array(curve) / 4e-6 * len(p))
    assert fitted.standard_errors * [1.0, 1000.0] == pytest.approx(
        np.sqrt(np.diag(covariance)), rel=1e-3
    )


def test_only_the_censored_fit_finds_the_truth() -> None:
    season = ten_days()
    log = pricing.simulate(
        season, np.broadcast_to(INCUMBENT, season.shape), 2000, np.random.default_rng(4)
    )
    truth = np.array([np.log(6.0), -1.0 / 500.0])
    off = {
        m: (f.coefficients - truth) / f.standard_errors
        for m in MODES
        if (f := pricing.fit_log(log, m))
    }
    assert np.abs(off["censored"]).max() < 4.0
    assert np.abs(off["naive"]).max() > 5.0
    assert np.abs(off["dropped"]).max() > 3.5
    assert 0.05 < log.sold_out < 0.2


MODES: tuple[Any, ...] = ("censored", "naive", "dropped")


def test_standard_errors_are_the_spread_of_fits() -> None:
    season = ten_days()
    behaviour = np.broadcast_to(INCUMBENT, season.shape)
    rng = np.random.default_rng(5)
    fits = [pricing.fit_log(pricing.simulate(season, behaviour, 30, rng)) for _ in range(200)]
    spread = np.std([f.coefficients for f in fits], axis=0)
    claimed = np.mean([f.standard_errors for f in fits], axis=0)
    assert claimed / spread == pytest.approx(1.0, abs=0.2)  # 4 s.e. of a spread of 200


def test_dropping_stock_outs_undervalues_the_optimum() -> None:
    """Bias and root mean squared error of the optimal policy's value, in %.

    From 500 seasons of 15 days.
    """
    season = ten_days()
    optimum = pricing.solve(season)
    behaviour = np.broadcast_to(INCUMBENT, season.shape)
    errors: dict[str, list[float]] = {m: [] for m in MODES}
    for seed in range(30):
        log = pricing.simulate(season, behaviour, 500, np.random.default_rng(seed))
        for mode in MODES:
            believed = pricing.planned_season(pricing.fit_log(log, mode), season)
            errors[mode].append(
                100.0 * (pricing.evaluate(believed, optimum.policy)[0, -1] / optimum.total - 1.0)
            )
    bias = {m: np.mean(x) for m, x in errors.items()}
    assert [bias["censored"], bias["naive"], bias["dropped"]] == pytest.approx(
        [-0.1, -1.7, -4.8], abs=0.3
    )
    assert np.sqrt(np.mean(np.square(errors["censored"]))) < 1.5
    assert bias["dropped"] < -3.0


@pytest.mark.parametrize(("seasons", "reached"), [(10, 0.9982), (30, 0.9992)])
def test_fit_then_plan_on_gvr(
    gvr: Season, gvr_optimum: Solution, seasons: int, reached: float
) -> None:
    shares = []
    for seed in range(20):
        log = pricing.simulate(
            gvr, np.broadcast_to(INCUMBENT, gvr.shape), seasons, np.random.default_rng(seed)
        )
        policy = pricing.plan(pricing.fit_log(log), gvr).policy
        shares.append(pricing.evaluate(gvr, policy)[0, -1] / gvr_optimum.total)
    assert np.mean(shares) == pytest.approx(reached, abs=5e-4)
    assert max(shares) <= 1.0 + 1e-12


def test_planning_with_the_truth_loses_nothing(gvr: Season, gvr_optimum: Solution) -> None:
    fitted = pricing.DemandFit(np.array([np.log(6.0), -1.0 / 500.0]), np.eye(2), 0.0, 1)
    assert pricing.plan(fitted, gvr).total == pytest.approx(gvr_optimum.total, rel=1e-12)


def test_a_stock_out_beyond_reach_does_not_break_the_fit() -> None:
    fitted = pricing.fit(
        [400.0, 400.0, 800.0, 800.0, 800.0], [300, 2, 1, 0, 1], [300, 500, 500, 500, 500]
    )
    assert np.isfinite(fitted.coefficients).all()
    assert fitted.mean(400.0) > 100.0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (([500.0, 500.0], [1, 2], [9, 9]), "do not determine demand"),
        (([500.0, 600.0], [0, 0], [9, 9]), "do not determine demand"),
        (([500.0, 600.0], [9, 9], [9, 9]), "do not determine demand"),
        (([500.0, 600.0], [1, 10], [9, 9]), "sales above the stock"),
        (([500.0, 600.0], [1, 1.5], [9, 9]), "whole numbers"),
        (([500.0, 600.0], [1, 2, 3], [9, 9]), "expected one shape"),
        (([500.0, np.nan], [1, 2], [9, 9]), "not finite"),
    ],
)
def test_rows_that_cannot_be_fitted(rows: tuple[Any, Any, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pricing.fit(*rows)
    with pytest.raises(ValueError, match="expected one of censored, naive, dropped"):
        pricing.fit([1.0, 2.0], [1, 1], [3, 3], "tobit")  # type: ignore[arg-type]
