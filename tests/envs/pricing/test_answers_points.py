"""Known answers of loyalty points: of one purchase, and of a programme."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from rl_markets.envs.points.solution import PointsProgramme
from rl_markets.errors import ConvergenceError
from tests.support.oracles.points import (
    best_points,
    best_price_and_points,
    points_profit,
    segment_profits,
)

PROGRAMME = PointsProgramme()


def test_the_best_points_beat_a_grid() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(500.0, 3000.0, 300)
    c = p * rng.uniform(0.4, 0.9, 300)
    a = p * rng.uniform(0.7, 1.3, 300)
    mu = p * rng.uniform(0.05, 0.3, 300)
    kappa = rng.uniform(0.4, 1.2, 300)
    phi = rng.uniform(0.3, 1.0, 300)
    x = best_points(a, p, c, mu, kappa, phi, most=0.3 * p)
    grid = 0.3 * p * np.linspace(0.0, 1.0, 20_001)[:, None]
    tried = points_profit(grid, a, p, c, mu, kappa, phi)
    best = points_profit(x, a, p, c, mu, kappa, phi)
    assert ((tried.max(axis=0) - best) / np.abs(best)).max() < 1e-12
    assert (np.abs(grid[tried.argmax(axis=0), np.arange(300)] - x) / p).max() < 7.6e-6
    assert (x == 0.0).any()
    assert (x == 0.3 * p).any()
    assert ((x > 0.0) & (x < 0.3 * p)).sum() > 50


def test_points_with_a_free_price_are_all_or_nothing() -> None:
    for kappa, phi, rate, profit in (
        (0.8, 0.9, 0.0, 211.814),
        (0.9, 0.8, 0.2, 226.394),
        (0.8, 0.8, 0.0, 211.814),
    ):
        best = best_price_and_points(1000.0, 600.0, 120.0, kappa, phi, 0.2)
        assert best.rate == rate
        assert best.profit == pytest.approx(profit, abs=1e-3)
    granted = best_price_and_points(1000.0, 600.0, 120.0, 0.9, 0.8, 0.2)
    assert granted.price == pytest.approx(1130.14, abs=0.01)


def test_points_with_a_free_price_beat_a_grid() -> None:
    rng = np.random.default_rng(1)
    rates = np.linspace(0.0, 0.3, 31)
    for _ in range(40):
        cost = rng.uniform(300.0, 900.0)
        kappa = rng.uniform(0.3, 1.2)
        phi = rng.uniform(0.3, 1.2)
        a = rng.uniform(0.8, 1.6) * cost
        mu = rng.uniform(0.1, 0.3) * cost
        best = best_price_and_points(a, cost, mu, kappa, phi, 0.3)
        price = np.linspace(0.5, 4.0, 1501)[:, None] * cost
        tried = points_profit(rates * price, a, price, cost, mu, kappa, phi)
        at = np.unravel_index(tried.argmax(), tried.shape)
        assert rates[at[1]] == pytest.approx(0.0 if kappa <= phi else 0.3)
        assert best.rate == rates[at[1]]
        assert tried.max() <= best.profit * (1.0 + 1e-12)
        assert tried.max() == pytest.approx(best.profit, rel=1e-3)
        again = points_profit(best.rate * best.price, a, best.price, cost, mu, kappa, phi)
        assert float(again) == pytest.approx(best.profit, rel=1e-12)


def test_with_the_price_fixed_too_high_even_dear_points_are_worth_it() -> None:
    """The control: kappa <= phi says nothing about a price that may not move."""
    assert best_points(1000.0, 1200.0, 600.0, 120.0, 0.8, 0.9) > 100.0
    assert best_price_and_points(1000.0, 600.0, 120.0, 0.8, 0.9, 0.2).rate == 0.0


def test_customers_who_differ_make_rates_in_between_best() -> None:
    rates = np.array(PROGRAMME.rates)
    profits = segment_profits(rates, 1000.0, 700.0)
    assert rates[profits.argmax()] == 0.03
    assert profits[[0, 3, 8]] == pytest.approx([169.33, 170.90, 135.42], abs=0.01)


def test_the_points_programme() -> None:
    optimum = PROGRAMME.solve()
    constants = PROGRAMME.constants()
    assert optimum.total == pytest.approx(7191.641, abs=1e-3)
    assert [constants.max(), PROGRAMME.rates[constants.argmax()]] == pytest.approx(
        [6805.743, 0.07], abs=1e-3
    )
    assert constants[0] == pytest.approx(6151.194, abs=1e-3)
    rates = np.array(PROGRAMME.rates)[optimum.policy]
    assert rates[[0, 10, 20, 30, 40, 45, 50]] == pytest.approx(
        [0.2, 0.15, 0.15, 0.1, 0.07, 0.03, 0.0]
    )
    # Not falling all the way: what overflows costs nothing.
    assert rates[[47, 48, 49]] == pytest.approx(0.2)


def test_policy_and_value_iteration_agree() -> None:
    optimum = PROGRAMME.solve()
    assert PROGRAMME.value_iteration() == pytest.approx(optimum.value, abs=1e-7)
    assert PROGRAMME.evaluate(np.eye(9)[optimum.policy]) == pytest.approx(optimum.value, abs=1e-9)
    assert optimum.action_values.max(axis=1) == pytest.approx(optimum.value, abs=1e-7)
    with pytest.raises(ConvergenceError):
        PROGRAMME.value_iteration(most=3)


def test_the_programme_in_a_simulation() -> None:
    """Customers one by one, in yen of points.

    Nothing is shared with the package but the parameters.
    """
    pp = PROGRAMME
    rng = np.random.default_rng(2)
    n = 20_000
    mixed = np.full(pp.shape, 1.0 / 9.0)
    balance = np.zeros(n)
    earned = np.zeros(n)
    for t in range(400):
        rate = np.array(pp.rates)[rng.integers(9, size=n)]
        off = np.where(balance == 500.0, 500.0, 0.0)
        buys = rng.random(n) < expit((pp.a - pp.price + pp.kappa * rate * pp.price + off) / pp.mu)
        earned += pp.discount**t * buys * (pp.price - pp.cost - off)
        kept = np.where(off > 0, 0.0, balance)
        full = np.minimum(kept + np.round(rate * pp.price), 500.0)
        balance = np.where(buys, full, balance)
        balance[rng.random(n) < pp.expiry] = 0.0
    # 2: what is cut off.
    error = 4.0 * earned.std() / np.sqrt(n)
    assert abs(earned.mean() - pp.evaluate(mixed)[0]) < error + 2.0


def test_fractions_of_a_unit_are_right_on_average() -> None:
    coarse = PointsProgramme(unit=50.0)
    assert coarse.transitions.sum(axis=-1) == pytest.approx(1.0, abs=1e-14)
    kept = coarse.transitions[0] @ coarse.balances / (1.0 - coarse.expiry) / coarse.buys[0]
    assert kept == pytest.approx(np.array(coarse.rates) * 1000.0)


@pytest.mark.parametrize(
    "bad", [{"mu": 0.0}, {"reward": 505.0}, {"discount": 1.0}, {"expiry": -0.1}, {"rates": (-0.1,)}]
)
def test_bad_programmes_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|holds"):
        PointsProgramme(**bad)
