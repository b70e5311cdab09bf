"""Known answers of logit demand with rivals, of reference prices, and of one price."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import fsolve, minimize, minimize_scalar
from scipy.special import expit

from rl_markets.envs.pricing import solution as pricing
from rl_markets.envs.pricing.solution import GridMarket, LogitMarket
from rl_markets.errors import ConvergenceError
from tests.support.oracles.mixed_mnl import MixedLogit
from tests.support.oracles.reference_price import ReferenceMarket, solve_reference
from tests.support.oracles.single_price import (
    exponential_price,
    isoelastic_price,
    linear_price,
    logit_price,
)

FloatArray = NDArray[np.float64]
DUOPOLY = pricing.catalogue(2)


def markets(seed: int, number: int, most: int, firms: int) -> list[LogitMarket]:
    """Random markets of 4 to `most` products."""
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(number):
        n = int(rng.integers(4, most + 1))
        a = rng.uniform(5.0, 12.0, n)
        cost = rng.uniform(2.0, 8.0, n)
        mu = float(rng.uniform(0.3, 2.0))
        drawn.append(
            LogitMarket(a, cost, mu, rng.integers(0, firms, n), float(rng.uniform(-1.0, 3.0)))
        )
    return drawn


# -- logit demand ----------------------------------------------------------------------------------


def test_the_catalogue_s_optimum_beats_a_search() -> None:
    rng = np.random.default_rng(3)
    for market in markets(seed=3, number=50, most=11, firms=1):
        best = market.monopoly()
        profit = float(market.joint_profit(best))
        assert np.ptp(best - market.cost) < 1e-9  # one mark-up
        assert profit == pytest.approx(float(best[0] - market.cost[0]) - market.mu, rel=1e-12)
        far = market.cost + market.mu
        near = best + market.mu * rng.normal(0.0, 0.5, len(best))

        def loss(p: FloatArray, market: LogitMarket = market) -> float:
            return -float(market.joint_profit(p))

        searched = [-minimize(loss, start, method="BFGS").fun for start in (far, near)]
        assert max(searched) <= profit * (1.0 + 1e-12)
        # From afar, a price may get lost where nobody buys.
        assert searched[1] == pytest.approx(profit, rel=1e-5)


def test_calvano_s_duopoly() -> None:
    nash = DUOPOLY.nash()
    joint = DUOPOLY.monopoly()
    assert nash == pytest.approx(1.472927, abs=1e-6)
    assert joint == pytest.approx(1.924981, abs=1e-6)
    assert DUOPOLY.profits(nash) == pytest.approx(0.222927, abs=1e-6)
    assert DUOPOLY.profits(joint) == pytest.approx(0.337490, abs=1e-6)
    profits = [DUOPOLY.profits(nash).mean(), DUOPOLY.profits(joint).mean()]
    assert DUOPOLY.delta(profits) == pytest.approx([0.0, 1.0])
    with pytest.raises(ValueError, match="two firms"):
        pricing.catalogue(1).delta(0.1)


def test_nash_prices_meet_every_firm_s_condition() -> None:
    for market in markets(seed=4, number=100, most=30, firms=4):
        assert np.abs(market.foc_residuals(market.nash())).max() < 1e-10
    assert np.abs(DUOPOLY.foc_residuals(DUOPOLY.monopoly())).max() > 0.1  # the control


def test_nash_prices_by_another_solver() -> None:
    def unpaid(p: FloatArray, m: LogitMarket, own: int) -> float:
        """A firm's profit by its own price, all others held: its slope by differences."""
        step = np.eye(len(p))[own] * 1e-6
        return float(m.product_profits(p + step)[own] - m.product_profits(p - step)[own]) / 2e-6

    market = LogitMarket(np.array([2.0, 2.3, 1.8]), np.array([1.0, 1.1, 0.9]), 0.25)
    prices = fsolve(
        lambda p: [unpaid(p, market, i) for i in range(3)], market.cost + 0.4, xtol=1e-12
    )
    assert market.nash() == pytest.approx(prices, abs=1e-7)


def test_no_firm_gains_by_a_deviation() -> None:
    rng = np.random.default_rng(5)
    for market in markets(seed=6, number=10, most=12, firms=3):
        nash = market.nash()
        for i, firm in enumerate(market.firms):
            moved = nash + (market.owners == firm) * rng.normal(
                0.0, 0.2 * market.mu, (500, len(nash))
            )
            assert market.profits(moved)[:, i].max() <= market.profits(nash)[i] * (1.0 + 1e-12)
    answer = DUOPOLY.best_response(0, [1.3, 1.6])
    assert answer[1] == 1.6
    tried = np.stack([np.linspace(1.0, 3.0, 20_001), np.full(20_001, 1.6)], axis=1)
    assert answer[0] == pytest.approx(tried[DUOPOLY.profits(tried)[:, 0].argmax(), 0], abs=1e-4)


def test_nash_says_when_it_has_not_converged() -> None:
    with pytest.raises(ConvergenceError, match="3 rounds"):
        DUOPOLY.nash(most=3)


@pytest.mark.parametrize(("products", "ratio"), [(2, 0.661), (4, 0.405), (8, 0.302), (20, 0.234)])
def test_products_paid_for_themselves_fight_each_other(products: int, ratio: float) -> None:
    assert pricing.catalogue(products).selfish_ratio() == pytest.approx(ratio, abs=6e-4)
    one_firm = np.zeros(products, dtype=np.int64)
    together = LogitMarket(np.full(products, 2.0), np.ones(products), 0.25, one_firm)
    assert together.joint_profit(together.nash()) == pytest.approx(
        together.joint_profit(together.monopoly())
    )


def test_large_utilities_do_not_overflow() -> None:
    yen = LogitMarket(np.array([90_000.0, 1000.0]), np.array([700.0, 700.0]), 10.0)
    assert np.isfinite(yen.nash()).all()
    assert np.abs(yen.foc_residuals(yen.nash())).max() < 1e-6
    assert yen.shares(yen.nash()) == pytest.approx([1.0, 0.0], abs=2e-4)
    # The share is 1 but for 1e-200.
    assert np.isfinite(yen.foc_residuals(yen.cost + 84_000.0)).all()


@pytest.mark.parametrize(
    "bad",
    [{"mu": 0.0}, {"a": [np.nan, 1.0]}, {"cost": [1.0]}, {"owner": [0, 5]}, {"owner": [0.0, 1.0]}],
)
def test_bad_logit_markets_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|holds"):
        LogitMarket(**{"a": np.ones(2), "cost": np.ones(2), "mu": 1.0, **bad})


# -- logit demand on a grid of prices --------------------------------------------------------------


def small_grid(seed: int) -> GridMarket:
    rng = np.random.default_rng(seed)
    market = LogitMarket(
        rng.uniform(1.5, 2.5, 4), rng.uniform(0.8, 1.2, 4), 0.25, np.array([0, 1, 0, 2])
    )
    return GridMarket(market, np.sort(rng.uniform(0.9, 3.0, (4, 5)), axis=1))


@pytest.mark.parametrize("seed", range(8))
def test_grid_answers_are_those_of_enumeration(seed: int) -> None:
    grid = small_grid(seed)
    profiles = np.array(list(product(range(5), repeat=4)))
    joint = grid.market.joint_profit(grid.prices(profiles))
    assert grid.market.joint_profit(grid.prices(grid.joint_optimum())) == pytest.approx(
        joint.max(), rel=1e-13
    )
    start = np.array([1, 3, 0, 2])
    answer = grid.best_response(0, start)
    same = profiles[(profiles[:, [1, 3]] == start[[1, 3]]).all(axis=1)]
    best = grid.market.profits(grid.prices(same))[:, 0].max()
    assert grid.market.profits(grid.prices(answer))[0] == pytest.approx(best, rel=1e-13)
    assert answer[[1, 3]].tolist() == [3, 2]
    stable = {tuple(x) for x in profiles if (grid.regrets(x) <= 1e-12).all()}
    assert {tuple(x) for x in grid.pure_equilibria()} == stable
    assert tuple(grid.nash()) in stable


def test_calvano_s_grid() -> None:
    nash = DUOPOLY.nash()[0]
    joint = DUOPOLY.monopoly()[0]
    levels = np.linspace(nash - 0.1 * (joint - nash), joint + 0.1 * (joint - nash), 15)
    grid = GridMarket(DUOPOLY, np.tile(levels, (2, 1)))
    equilibria = grid.pure_equilibria()
    assert grid.nash().tolist() in equilibria.tolist()
    assert np.abs(grid.prices(equilibria) - nash).max() < levels[1] - levels[0]
    assert (grid.regrets(grid.joint_optimum()) > 0.0).all()
    with pytest.raises(ConvergenceError):
        grid.nash(most=1)


def test_what_a_grid_costs() -> None:
    market = markets(seed=7, number=1, most=4, firms=1)[0]
    best = market.monopoly()
    assert GridMarket(market, best[:, None]).grid_loss() == pytest.approx(0.0, abs=1e-14)
    coarse = GridMarket(market, pricing.level_grid(best * 1.1, [0.8, 1.0, 1.2]))
    fine = GridMarket(market, pricing.level_grid(best * 1.1, np.linspace(0.8, 1.2, 9)))
    assert 0.0 < fine.grid_loss() <= coarse.grid_loss() < 1.0
    off = GridMarket(market, pricing.level_grid(best * 1.5, np.linspace(0.9, 1.1, 9)))
    assert off.grid_loss() > fine.grid_loss()  # a narrow grid around a wrong list price


def test_bad_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="a row for each"):
        GridMarket(DUOPOLY, np.ones((3, 2)))
    with pytest.raises(ValueError, match="to enumerate"):
        GridMarket(pricing.catalogue(9), np.ones((9, 9))).pure_equilibria()


# -- mixed logit -----------------------------------------------------------------------------------


def test_one_segment_has_the_closed_form() -> None:
    market = markets(seed=8, number=1, most=6, firms=1)[0]
    mixed = MixedLogit(
        np.ones(1), market.a[None], np.array([market.mu]), market.cost, market.outside
    )
    prices, profit = mixed.optimum(starts=3)
    assert prices == pytest.approx(market.monopoly(), abs=1e-5)
    assert profit == pytest.approx(float(market.joint_profit(market.monopoly())), rel=1e-10)


def test_segments_end_the_equal_mark_up() -> None:
    mixed = MixedLogit(
        np.array([0.6, 0.4]), np.array([[3.0, 1.5], [2.0, 4.0]]), np.array([0.2, 0.5]), np.ones(2)
    )
    prices, profit = mixed.optimum()
    assert np.ptp(prices - mixed.cost) > 0.1
    axis = np.linspace(1.0, 5.0, 81)
    tried = [mixed.profit(np.array(x)) for x in product(axis, axis)]
    assert max(tried) <= profit * (1.0 + 1e-12)
    assert max(tried) == pytest.approx(profit, rel=0.01)
    at = np.array([1.9, 2.6])
    step = 1e-6
    rise = [mixed.profit(at + step * d) - mixed.profit(at - step * d) for d in np.eye(2)]
    slope = np.array(rise) / (2.0 * step)
    assert mixed.gradient(at) == pytest.approx(slope, abs=1e-8)
    with pytest.raises(ValueError, match="sum to 1"):
        MixedLogit(np.array([0.6, 0.6]), mixed.a, mixed.mu, mixed.cost)


# -- reference prices ------------------------------------------------------------------------------


def test_prices_rest_where_the_formula_says() -> None:
    market = ReferenceMarket()
    step = 700.0 / 600.0  # of the grid
    prices, references = solve_reference(market).path(700.0, 300)
    assert market.steady_price(1.0) == pytest.approx(562.26, abs=5e-3)
    assert prices[-50:] == pytest.approx(562.83, abs=5e-3)
    assert np.abs(prices[-50:] - market.steady_price(1.0)).max() < step
    assert references[-1] == pytest.approx(prices[-1], abs=step)
    # The control: it ignores what customers remember.
    assert abs(market.best_constant()[0] - 562.26) > 30.0 * step


def test_the_loss_averse_rest_within_the_range() -> None:
    market = ReferenceMarket(gain=0.6, loss=1.4)
    solution = solve_reference(market)
    (low, high) = market.steady_range()
    ends = [solution.path(start, 400)[0][-50:] for start in (300.0, 560.0, 700.0, 899.0)]
    for prices in ends:
        assert np.ptp(prices) == 0.0
        assert low - 1.2 < prices[-1] < high + 1.2
    assert ends[0][-1] < ends[-1][-1] - 10.0  # where they rest depends on where they came from


def test_the_gain_seeking_see_prices_cycle() -> None:
    market = ReferenceMarket(gain=1.4, loss=0.6)
    solution = solve_reference(market)
    prices = solution.path(700.0, 400)[0][-100:]
    assert [prices.min(), prices.max()] == pytest.approx([531.3, 617.7], abs=0.1)
    assert solution.gain_over_constant() == pytest.approx(0.015, abs=1e-3)
    with pytest.raises(ValueError, match="cycle"):
        market.steady_range()


def test_prices_that_nobody_pays_make_cycles_too() -> None:
    market = ReferenceMarket(gain=3.0, loss=1.0)
    solution = solve_reference(market)
    assert solution.gain_over_constant() == pytest.approx(0.202, abs=2e-3)
    prices, references = solution.path(700.0, 400)
    assert prices[-100:].max() == 900.0  # the highest price allowed: it only lifts the reference
    assert market.demand(prices, references)[prices == 900.0][-1] == 0.0
    averse = solve_reference(ReferenceMarket(gain=0.6, loss=1.4), high=2000.0, n=772)
    assert averse.gain_over_constant() > 0.1


def test_the_grid_s_value_is_that_of_its_path() -> None:
    for market in (ReferenceMarket(), ReferenceMarket(gain=1.4, loss=0.6)):
        solution = solve_reference(market)
        prices, references = solution.path(700.0, 600)
        earned = market.gamma ** np.arange(600) @ market.profit(prices, references)
        assert earned == pytest.approx(
            float(np.interp(700.0, solution.grid, solution.value)), rel=1e-3
        )
    with pytest.raises(ValueError, match="expected"):
        ReferenceMarket(gain=-1.0)


# -- one product, one price ------------------------------------------------------------------------


def test_one_price_by_a_search() -> None:
    c = 200.0
    for price, profit in (
        (linear_price(1000.0, 1.0, c), lambda p: (p - c) * (1000.0 - p)),
        (exponential_price(1.0 / 500.0, c), lambda p: (p - c) * np.exp(-p / 500.0)),
        (isoelastic_price(1.8, c), lambda p: (p - c) * p**-1.8 * 1e4),
        (
            logit_price(400.0, c, 60.0, 30.0),
            lambda p: (p - c) * expit((400.0 - p - 30.0) / 60.0),
        ),
    ):
        best = minimize_scalar(
            lambda p, f=profit: -f(p), bounds=(c, 2000.0), method="bounded", options={"xatol": 1e-8}
        )
        assert float(price) == pytest.approx(best.x, abs=1e-3)
    assert linear_price(1000.0, 1.0, c) == 600.0
    one = LogitMarket(np.array([400.0]), np.array([c]), 60.0, None, 30.0)
    assert one.nash()[0] == pytest.approx(float(logit_price(400.0, c, 60.0, 30.0)))


def test_a_platform_s_share_raises_the_cost() -> None:
    fee = 0.15
    c = 200.0
    tried = np.linspace(200.0, 2000.0, 180_001)
    best = tried[np.argmax(((1.0 - fee) * tried - c) * np.exp(-tried / 500.0))]
    assert exponential_price(1.0 / 500.0, c / (1.0 - fee)) == pytest.approx(best, abs=0.02)


def test_prices_without_a_best_one_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 1"):
        isoelastic_price([2.0, 1.0], 100.0)
    with pytest.raises(ValueError, match="b1"):
        linear_price(1000.0, 0.0, 100.0)
    with pytest.raises(ValueError, match="mu"):
        logit_price(400.0, 200.0, -1.0)
