"""Known answers of one product with stock and a deadline: closed form, dynamic programming."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import poisson

from rl_markets.envs.pricing import solution as pricing
from rl_markets.envs.pricing.solution import Season, Solution
from tests.support.oracles.gallego_van_ryzin import ExponentialSeason

FloatArray = NDArray[np.float64]
DAYS = ExponentialSeason(a=6.0, alpha=1.0 / 500.0, stock=20, time=30.0)
STICKERS = np.zeros((12, 41), dtype=np.int64)  # 30 % off from hour 8, 50 % off in the last hour
STICKERS[8:] = 3
STICKERS[11:] = 5


@pytest.fixture(scope="module")
def perish() -> Season:
    return pricing.perish()


def small(**changes: Any) -> Season:
    """A season with every cost there is."""
    demand = np.array([[0.4, 1.1, 2.3], [0.0, 0.7, 3.0], [0.4, 1.1, 2.3], [1.0, 1.5, 9.0]])
    costs = {"cost": 2.0, "salvage": -1.5, "holding": 0.3, "fee": 0.1, "discount": 0.9}
    return Season(demand, np.array([9.0, 6.0, 4.0]), **{"stock": 5, **costs, **changes})


def plain(season: Season, choose: Callable[[list[float]], float], last: int | None = None) -> float:
    """The season's value by recursion; nothing shared with the package.

    `choose` turns the values of the prices allowed into one; with `last`, only prices from the last
    index on are.
    """

    @cache
    def value(t: int, left: int, limit: int) -> float:
        if t == season.periods:
            return season.salvage * left
        return choose([total(t, left, a) for a in range(limit, len(season.prices))])

    def total(t: int, left: int, a: int) -> float:
        lam = season.demand[t, a]
        expected = 0.0
        for sold in range(left + 1):
            chance = poisson.pmf(sold, lam) if sold < left else poisson.sf(left - 1, lam)
            margin = (1.0 - season.fee) * season.prices[a] - season.cost
            now = margin * sold - season.holding * (left - sold)
            later = value(t + 1, left - sold, 0 if last is None else a)
            expected += chance * (now + season.discount * later)
        return expected

    return value(0, season.stock, last or 0)


# -- Gallego and van Ryzin -------------------------------------------------------------------------


def test_the_closed_form_solves_the_equation() -> None:
    assert DAYS.value()[-1] == pytest.approx(20937.151010, abs=1e-5)
    assert DAYS.price()[-1] == pytest.approx(1108.9304, abs=1e-3)
    assert np.abs(DAYS.value() - DAYS.value_by_ode()).max() < 1e-6
    # The control: a rate 1 % off is far outside.
    other = ExponentialSeason(6.06, DAYS.alpha, DAYS.stock, DAYS.time)
    assert np.abs(other.value() - DAYS.value_by_ode()).max() > 10.0


def test_without_time_or_stock_there_is_nothing_to_earn() -> None:
    for season in (ExponentialSeason(6.0, 0.002, 20, 0.0), ExponentialSeason(6.0, 0.002, 0, 30.0)):
        assert season.value() == pytest.approx(0.0)
        assert season.fluid()[1] == 0.0
        assert season.fixed_price_bound() == 0.0
    assert ExponentialSeason(6.0, 0.002, 5, 0.0).price()[1:] == pytest.approx(500.0)


def test_bounds_of_the_closed_form() -> None:
    price, fluid = DAYS.fluid()
    assert [price, fluid] == pytest.approx([1098.6123, 21972.2458], abs=1e-3)
    best, fixed = DAYS.best_fixed()
    assert [best, fixed] == pytest.approx([1082.7, 20039.7729], abs=0.05)
    assert DAYS.fixed_price_bound() == pytest.approx(0.8882, abs=1e-4)
    assert DAYS.fixed_price_bound() * fluid < fixed < DAYS.value()[-1] < fluid
    prices = np.linspace(1.0, 5000.0, 50_000)
    assert DAYS.fixed_value(prices).max() <= fixed
    assert (prices * np.minimum(DAYS.rate(prices) * 30.0, 20.0)).max() <= fluid


@pytest.mark.parametrize(("stock", "time"), [(1, 300.0), (3, 0.5), (200, 10.0), (40, 40.0)])
def test_the_best_fixed_price_anywhere(stock: int, time: float) -> None:
    season = ExponentialSeason(6.0, 0.002, stock, time)
    prices = np.linspace(1.0, 20_000.0, 20_000)
    fixed = season.best_fixed()[1]
    assert season.fixed_value(prices).max() <= fixed * (1.0 + 1e-12)
    fluid = season.fluid()[1]
    assert season.fixed_price_bound() * fluid <= fixed
    assert fixed <= season.value()[-1] <= fluid * (1 + 1e-12)
    assert season.value()[-1] == pytest.approx(season.value_by_ode()[-1], rel=1e-7)


# -- the season in periods -------------------------------------------------------------------------


def test_gvr_by_dynamic_programming(gvr: Season, gvr_optimum: Solution) -> None:
    assert gvr_optimum.total == pytest.approx(20835.9694, abs=0.01)
    fixed = pricing.fixed(gvr)
    assert [fixed.max(), gvr.prices[fixed.argmax()]] == pytest.approx([19702.2, 1150.0], abs=0.05)
    assert fixed.max() / gvr_optimum.total == pytest.approx(0.9456, abs=1e-4)
    assert fixed.max() < gvr_optimum.total < DAYS.value()[-1] < DAYS.fluid()[1]


def test_gvr_s_structure(gvr: Season, gvr_optimum: Solution) -> None:
    prices = gvr.prices[gvr_optimum.policy][:, 1:]
    assert (np.diff(prices, axis=1) <= 0.0).all()  # more stock, lower prices
    assert (np.diff(gvr_optimum.value, 2, axis=1) <= 1e-9).all()  # concave in stock
    assert (np.diff(gvr_optimum.value, axis=1) >= 0.0).all()


@pytest.mark.parametrize(("each", "gap"), [(1, 0.302), (4, 0.096), (16, 0.043), (64, 0.029)])
def test_more_periods_and_prices_come_to_the_closed_form(each: int, gap: float) -> None:
    fine = pricing.solve(pricing.gvr(each, np.linspace(300.0, 2500.0, 41)))
    assert 100.0 * (1.0 - fine.total / DAYS.value()[-1]) == pytest.approx(gap, abs=6e-4)


def test_the_policy_earns_its_value_in_a_simulation(gvr: Season, gvr_optimum: Solution) -> None:
    log = pricing.simulate(gvr, gvr_optimum.policy, 60_000, np.random.default_rng(0))
    earned = (log.price * log.sales).sum(axis=0)
    error = earned.std() / np.sqrt(earned.size)
    assert abs(earned.mean() - gvr_optimum.total) < 4.0 * error
    # The test can tell policies apart.
    best_fixed = pricing.fixed(gvr).max()
    assert abs(earned.mean() - best_fixed) > 40.0 * error


def test_all_costs_agree_with_a_plain_recursion() -> None:
    season = small()
    assert pricing.solve(season).total == pytest.approx(plain(season, max), rel=1e-12)
    uniform = np.full(season.shape, 1.0 / 3.0)
    mean = plain(season, lambda totals: sum(totals) / 3.0)
    assert pricing.evaluate(season, uniform)[0, -1] == pytest.approx(mean, rel=1e-12)
    falling = plain(season, max, last=0)
    assert pricing.solve_markdown(season).total == pytest.approx(falling, rel=1e-12)
    assert falling < plain(season, max) - 1e-3  # the instance tells them apart


def test_evaluation_gives_back_the_optimum() -> None:
    season = small()
    optimum = pricing.solve(season)
    markdown = pricing.solve_markdown(season)
    assert pricing.evaluate(season, optimum.policy) == pytest.approx(optimum.value, abs=1e-12)
    as_probabilities = np.eye(3)[optimum.policy]
    assert pricing.evaluate(season, as_probabilities) == pytest.approx(optimum.value, abs=1e-12)
    assert optimum.action_values.max(axis=-1) == pytest.approx(optimum.value[:-1], abs=0.0)
    for policy in (markdown.policy, np.eye(3)[markdown.policy]):
        value = pricing.evaluate_markdown(season, policy)
        assert value == pytest.approx(markdown.value, abs=1e-12)


def test_plans_known_beforehand() -> None:
    season = small()
    T, levels, A = season.shape
    for a, value in enumerate(pricing.fixed(season)):
        assert pricing.open_loop(season, np.full(T, a)) == pytest.approx(value, rel=1e-12)
        assert pricing.evaluate(season, np.full((T, levels), a))[0, -1] == pytest.approx(
            value, rel=1e-12
        )
    values = {
        (one, two, t): pricing.open_loop(season, np.where(np.arange(T) < t, one, two))
        for one, two, t in np.ndindex(A, A, T)
    }
    anything = pricing.best_two_price(season, falling=False)
    assert anything.value == pytest.approx(max(values.values()), rel=1e-12)
    down = max(v for (one, two, _), v in values.items() if two >= one)
    best = pricing.best_two_price(season)
    assert best.value == pytest.approx(down, rel=1e-12)
    assert values[best.first, best.second, best.switch] == pytest.approx(down, rel=1e-12)


def test_the_stock_never_turns_negative_nor_grows() -> None:
    season = small()
    uniform = np.full(season.shape, 1.0 / 3.0)
    assert pricing.stock_distribution(season, uniform).sum(axis=1) == pytest.approx(1.0)
    for t in range(season.periods):
        moves = season.transitions(t)
        assert moves.min() >= 0.0
        assert moves.sum(axis=-1) == pytest.approx(1.0, abs=1e-14)
        assert not moves[:, ~np.tri(6, dtype=bool)].any()
    log = pricing.simulate(season, uniform, 2000, np.random.default_rng(1))
    assert log.stock.min() >= 0
    assert (log.sales <= log.stock).all()
    assert (log.stock[0] == 5).all()
    assert (np.diff(log.stock, axis=0) == -log.sales[:-1]).all()
    assert log.sales.shape == (season.periods, 2000)  # no sale after the deadline


def test_rare_events_keep_their_digits() -> None:
    moves = pricing.censored_transitions([1e-3, 0.0, 400.0], 20)
    assert moves[0, 20, 0] == pytest.approx(poisson.sf(19, 1e-3), rel=1e-10)
    assert moves[0, 20, 0] > 0.0
    assert (moves[1] == np.eye(21)).all()  # nobody comes, nothing goes
    assert moves[2, 20, 0] == pytest.approx(1.0, abs=1e-14)


# -- perishable goods ------------------------------------------------------------------------------


def test_perishable_optima(perish: Season) -> None:
    free = pricing.solve(perish)
    markdown = pricing.solve_markdown(perish)
    two = pricing.best_two_price(perish)
    assert free.total == pytest.approx(18290.43, abs=0.01)
    assert markdown.total == pytest.approx(18239.33, abs=0.01)
    assert pricing.fixed(perish).max() == pytest.approx(17717.71, abs=0.01)
    assert two.value == pytest.approx(17828.85, abs=0.01)
    assert [*perish.prices[[two.first, two.second]], two.switch] == [450.0, 350.0, 10]
    assert pricing.evaluate(perish, STICKERS)[0, -1] == pytest.approx(17422.17, abs=0.01)
    assert pricing.fixed(perish)[0] == pytest.approx(14113.34, abs=0.01)
    assert pricing.fixed(perish).max() < two.value < markdown.total < free.total


def test_waste(perish: Season) -> None:
    best = pricing.solve(perish).policy
    falling = pricing.solve_markdown(perish).policy
    assert pricing.leftover(perish, best) / 40.0 == pytest.approx(0.00313, abs=1e-4)
    assert pricing.leftover_markdown(perish, falling) / 40.0 == pytest.approx(0.00346, abs=1e-4)
    assert pricing.leftover(perish, STICKERS) / 40.0 == pytest.approx(0.0050, abs=1e-4)
    assert pricing.leftover(perish, np.zeros_like(STICKERS)) / 40.0 == pytest.approx(
        0.278, abs=5e-4
    )
    log = pricing.simulate(perish, best, 40_000, np.random.default_rng(2))
    leftover = log.stock[-1] - log.sales[-1]
    error = 4.0 * leftover.std() / np.sqrt(leftover.size)
    assert abs(leftover.mean() - pricing.leftover(perish, best)) < error


def test_a_markdown_policy_may_not_raise_the_price(perish: Season) -> None:
    free = np.repeat(pricing.solve(perish).policy[..., None], 9, axis=-1)
    with pytest.raises(ValueError, match="raises a price"):
        pricing.evaluate_markdown(perish, free)
    with pytest.raises(ValueError, match="prices must fall"):
        pricing.solve_markdown(pricing.gvr())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"demand": [[-1.0, 1.0]]}, "demand holds -1"),
        ({"demand": [[np.nan, 1.0]]}, "demand holds a number that is not finite"),
        ({"demand": [1.0, 1.0]}, "demand has shape"),
        ({"demand": [[1.0, 1.0, 1.0]]}, "one column for each of 2 prices"),
        ({"demand": np.empty((0, 2))}, "demand is empty"),
        ({"prices": [1.0, np.inf]}, "prices holds a number that is not finite"),
        ({"stock": 2.5}, "stock = 2.5"),
        ({"stock": -1}, "stock = -1"),
        ({"fee": 1.0}, "fee = 1.0"),
        ({"discount": 0.0}, "discount = 0.0"),
        ({"salvage": np.nan}, "not finite"),
    ],
)
def test_bad_seasons_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Season(**{"demand": np.ones((3, 2)), "prices": np.array([2.0, 1.0]), "stock": 4, **changes})
    assert "\n" not in str(caught.value)


def test_bad_policies_are_refused() -> None:
    season = small()
    for policy, message in (
        (np.zeros((4, 5), dtype=np.int64), "expected integers of shape"),
        (np.full((4, 6), 3), "outside 0..2"),
        (np.zeros((4, 6)), "expected integers"),
        (np.full(season.shape, 0.5), "do not sum to 1"),
        (np.full(season.shape, np.nan), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            pricing.evaluate(season, policy)
    with pytest.raises(ValueError, match="sequence"):
        pricing.open_loop(season, [0, 1])
