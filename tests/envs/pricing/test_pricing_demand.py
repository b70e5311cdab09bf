"""Demand and rivals: every family against its formula, Poisson customers, every rule by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from rl_markets.envs.pricing.arrivals import LARGE, poisson
from rl_markets.envs.pricing.demand import demand_of
from rl_markets.envs.pricing.market import Pricing
from rl_markets.envs.pricing.rivals import Seen, cheapest_other, quote
from rl_markets.envs.pricing.sections import Rival
from rl_markets.envs.pricing.solution import LogitMarket
from tests.support.pricing_markets import DOUBLE, LOGIT, built, parameters

Array = NDArray[np.float64]

SIZE = [50.0, 40.0, 30.0]
SLOPE = [2.0, 3.0, 1.5]
QUALITY = [12.0, 11.0, 9.0]
SEGMENTS = [
    {"weight": 0.3, "quality": QUALITY, "mu": 1.0},
    {"weight": 0.7, "quality": [8.0], "mu": 2.5},
]
FAMILIES: dict[str, dict[str, Any]] = {
    "linear": {"size": SIZE, "slope": SLOPE, "cross": 0.4},
    "exponential": {"size": SIZE, "slope": [0.2, 0.3, 0.1], "cross": 0.03},
    "isoelastic": {"size": SIZE, "slope": SLOPE, "cross": 0.2},
    "logit": {"visitors": 80.0, "quality": QUALITY, "outside": 1.0, "mu": 1.7},
    "mixed": {"visitors": 80.0, "outside": 1.0, "segments": SEGMENTS},
}


def by_formula(family: str, p: Array) -> Array:
    """Mean demand of three goods, good by good."""
    d = FAMILIES[family]
    n = 3
    others = [[p[j] for j in range(n) if j != i] for i in range(n)]
    if family == "linear":
        return np.array(
            [max(0, SIZE[i] - SLOPE[i] * p[i] + 0.4 * sum(others[i])) for i in range(n)]
        )
    if family == "exponential":
        return np.array(
            [SIZE[i] * math.exp(-d["slope"][i] * p[i] + 0.03 * sum(others[i])) for i in range(n)]
        )
    if family == "isoelastic":
        return np.array(
            [SIZE[i] * p[i] ** -SLOPE[i] * math.prod(x**0.2 for x in others[i]) for i in range(n)]
        )
    kinds = (
        [(1.0, QUALITY, 1.7)] if family == "logit" else [(0.3, QUALITY, 1.0), (0.7, [8.0] * 3, 2.5)]
    )
    demand = np.zeros(n)
    for weight, quality, mu in kinds:
        e = np.exp((np.array(quality) - p) / mu)
        demand += 80 * weight * e / (math.exp(1 / mu) + e.sum())
    return demand


def family_of(name: str) -> Any:
    settings = parameters(
        None, products=3, demand={"family": name, **FAMILIES[name]}, list_price=[10.0]
    )
    return demand_of(settings, torch.device("cpu"), DOUBLE)


@pytest.mark.parametrize("name", FAMILIES)
def test_families_are_their_formulas(name: str) -> None:
    prices = np.random.default_rng(0).uniform(3, 25, (200, 3))
    demand = family_of(name).mean(torch.tensor(prices))
    np.testing.assert_allclose(
        demand, [by_formula(name, p) for p in prices], rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_elasticities_are_those_of_finite_differences(name: str) -> None:
    price = np.array([8.0, 9.0, 11.0])
    elasticities = family_of(name).elasticities(torch.tensor(price)).numpy()
    h = 1e-6
    for j in range(3):
        up, down = (np.log(by_formula(name, price * np.exp(s * h * np.eye(3)[j]))) for s in (1, -1))
        np.testing.assert_allclose(elasticities[:, j], (up - down) / (2 * h), rtol=1e-6, atol=1e-8)
    assert (np.diag(elasticities) < 0).all()
    assert (elasticities[~np.eye(3, dtype=bool)] > 0).all(), "substitutes"


def test_logit_demand_bears_any_price() -> None:
    demand = family_of("logit").mean(
        torch.tensor([[1e6, 1e6, 1e6], [1e-9, 1e6, 1e6]], dtype=DOUBLE)
    )
    assert bool(torch.isfinite(demand).all())
    assert demand[0].tolist() == [0, 0, 0]


def test_who_left_sells_nothing_and_leaves_its_customers_to_others() -> None:
    here = torch.tensor([[True, False, True]])
    demand = (
        family_of("logit")
        .mean(torch.tensor([[8.0, 1.0, 9.0]], dtype=DOUBLE), present=here)[0]
        .numpy()
    )
    expected = by_formula("logit", np.array([8.0, 1e9, 9.0]))
    np.testing.assert_allclose(demand, expected, rtol=1e-12)
    assert demand[1] == 0


# -- customers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mean", [0.0, 0.01, 0.7, 3.0, 12.0, LARGE - 0.01, LARGE + 0.01, 60.0, 900.0]
)
def test_customers_are_poisson(mean: float) -> None:
    """Mean and variance within 4 s.e., and the whole distribution function within .002."""
    n = 400_000
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(1))
    count = poisson(uniform, torch.full((n,), mean)).double().numpy()
    assert abs(count.mean() - mean) <= 4 * (mean / n) ** 0.5
    assert abs(count.var() - mean) <= 4 * ((2 * mean**2 + mean) / n) ** 0.5
    k = np.arange(int(mean + 6 * mean**0.5) + 3)
    exact = stats.poisson.cdf(k, mean)
    assert np.abs(np.searchsorted(np.sort(count), k, side="right") / n - exact).max() < 2.5e-3
    assert (count == np.round(count)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_customers_are_the_quantile_of_their_uniform_number(dtype: torch.dtype) -> None:
    """Small means: exactly; large ones: one off at most. Extreme uniforms give finite counts."""
    uniform = torch.linspace(0, 1, 2001, dtype=dtype)[1:-1]
    for mean in (0.3, 4.0, 15.0, 17.0, 200.0):
        customers = poisson(uniform, torch.full_like(uniform, mean)).double().numpy()
        off = np.abs(customers - stats.poisson.ppf(uniform.double().numpy(), mean))
        assert (off > 0).mean() < (0.002 if mean < LARGE else 0.02)
        assert off.max() <= 1
    top = torch.tensor([0.0, 1 - 2**-24], dtype=dtype)
    for mean in (1e-9, 1.0, 16.0, 1e5):
        low, high = poisson(top, torch.full_like(top, mean)).tolist()
        assert 0 <= low <= mean < high + 1 <= mean + 6 * mean**0.5 + 12


def test_markets_customers_have_the_mean_that_the_market_says() -> None:
    market = built(
        worlds=50_000,
        dtype=torch.float32,
        products=3,
        demand={**LOGIT, "visitors": 9.0},
        deadline=False,
        gamma=0.9,
        cost=[0.0],
        season={"weekly": [1, 2, 1, 1, 0.5, 1, 1]},
    )
    price = market.list_price * 1.1
    mean = market.mean_demand(market.state, price.expand(50_000, -1))
    transition = market.transition(
        market.state, {"seller": torch.full((50_000, 1, 3), 6)}, market.draw_noise(market.generator)
    )
    excess = transition.rewards["seller"][:, 0] / price[0] - mean.sum(1)
    assert abs(float(excess.mean())) < 4 * float(excess.std()) / 50_000**0.5
    for factor, day in ((2.0, 1), (0.5, 4)):
        alone = (
            mean[market.state["day"] % 7 == day].mean() / mean[market.state["day"] % 7 == 0].mean()
        )
        assert float(alone) == pytest.approx(factor, rel=1e-5)


# -- rivals ----------------------------------------------------------------------------------------

HAND: list[tuple[dict[str, Any], dict[str, float], float]] = [
    ({"rule": "fixed"}, {}, 10.0),
    ({"rule": "cost-plus", "markup": 0.5}, {}, 9.0),
    ({"rule": "match-lowest"}, {"cheapest": 8.0}, 8.0),
    ({"rule": "match-lowest"}, {"cheapest": 12.0}, 10.0),
    ({"rule": "match-lowest"}, {"cheapest": 3.0}, 6.3),
    ({"rule": "undercut", "step": 0.1}, {"cheapest": 8.0}, 7.2),
    ({"rule": "undercut", "step": 0.1}, {"cheapest": 6.5}, 6.3),
    ({"rule": "undercut", "step": 0.1}, {"cheapest": 15.0}, 10.0),
    ({"rule": "undercut-and-reset", "step": 0.1}, {"cheapest": 8.0}, 7.2),
    ({"rule": "undercut-and-reset", "step": 0.1}, {"cheapest": 6.9}, 10.0),
    ({"rule": "lagged"}, {"cheapest": 8.0, "before": 9.0}, 9.0),
    ({"rule": "random-walk", "step": 0.1}, {"own": 8.0, "noise": 1.0}, 8 * math.exp(0.1)),
    ({"rule": "random-walk", "step": 0.1}, {"own": 8.0, "noise": 9.0}, 10.0),
    ({"rule": "random-walk", "step": 0.1}, {"own": 8.0, "noise": -9.0}, 6.3),
    ({"rule": "nash"}, {}, 7.7),
]


@pytest.mark.parametrize(("rival", "seen", "expected"), HAND)
def test_rules_by_hand(rival: dict[str, Any], seen: dict[str, float], expected: float) -> None:
    """List price 10, cost 6.

    Nobody who answers goes below 6.30, and only cost-plus may go above 10.
    """
    given = {"own": 8.0, "cheapest": 8.0, "before": 8.0, "noise": 0.0} | seen
    one = {name: torch.full((2, 1), value, dtype=DOUBLE) for name, value in given.items()}
    fixed = {
        "list_price": torch.tensor([10.0], dtype=DOUBLE),
        "cost": torch.tensor([6.0], dtype=DOUBLE),
    }
    price = quote(
        Rival.model_validate(rival), Seen(**one, **fixed), torch.tensor([7.7], dtype=DOUBLE)
    )
    assert price.shape == (2, 1)
    assert float(price[1]) == pytest.approx(expected, rel=1e-12)


def test_the_cheapest_other_is_somebody_elses() -> None:
    price = torch.tensor([[[3.0, 1.0], [2.0, 1.0], [5.0, torch.inf]]])
    assert cheapest_other(price).tolist() == [[[2.0, 1.0], [3.0, 1.0], [2.0, 1.0]]]
    assert cheapest_other(torch.tensor([[[3.0]]])).tolist() == [[[torch.inf]]]
    generator = torch.Generator().manual_seed(0)
    for firms in (2, 3, 7):
        price = torch.randint(5, (50, firms, 4), generator=generator).double()  # with ties
        cheapest = cheapest_other(price)
        for f in range(firms):
            others = [g for g in range(firms) if g != f]
            assert torch.equal(cheapest[:, f], price[:, others].amin(1))


def prices(market: Pricing, periods: int, level: int) -> Array:
    """Posted prices `[periods, goods]` of the first world where sellers keep one level."""
    posted = []
    for _ in range(periods):
        market.step(
            {
                name: torch.full((market.worlds, g.count, market.products), level)
                for name, g in market.groups.items()
            }
        )
        posted.append(market.state["price"][0].numpy())
    return np.array(posted)


def test_undercutting_ends_in_cycles_with_a_reset_and_at_the_floor_without() -> None:
    settings: dict[str, Any] = {
        "deadline": False,
        "gamma": 0.9,
        "periods": 1000,
        "cost": [1.0],
        "step": 0.1,
    }
    step = settings.pop("step")
    cycling = prices(
        built(rivals=[{"rule": "undercut-and-reset", "step": step}] * 2, **settings), 100, 4
    )[:, 1:]
    resets = np.flatnonzero(np.diff(cycling[:, 0]) > 0.3)
    assert len(resets) > 5
    assert len(set(np.diff(resets[2:]))) == 1, "a cycle"
    assert cycling.min() >= 1.05
    assert cycling.max() == 2.0
    down = prices(built(rivals=[{"rule": "undercut", "step": step}] * 2, **settings), 100, 4)[:, 1:]
    np.testing.assert_allclose(down[-1], 1.05, rtol=1e-12)


def test_nash_rivals_post_the_answers_equilibrium() -> None:
    """Calvano's goods cost 1.472927.

    And three sellers of two products, with a fee, meet their first-order conditions.
    """
    settings: dict[str, Any] = {"deadline": False, "gamma": 0.9, "demand": {**LOGIT, "mu": 0.25}}
    duopoly = prices(built(rivals=[{"rule": "nash"}], **settings), 1, 0)
    assert duopoly[0, 1] == pytest.approx(1.472927, abs=1e-6)
    three = built(
        products=2,
        cost=[1.0, 1.2],
        fee=0.1,
        rivals=[{"rule": "nash"}] * 2,
        list_price=[2.5],
        **settings,
    )
    posted = prices(three, 1, 0)[0, 2:]
    assert three.nash is not None
    market = LogitMarket(
        np.full(6, 2.0), np.array([1.0, 1.2] * 3) / 0.9, 0.25, np.repeat(np.arange(3), 2)
    )
    assert np.abs(market.foc_residuals(three.nash.numpy())).max() < 1e-9
    np.testing.assert_array_equal(posted, three.nash[2:].numpy())


def test_a_rival_that_left_is_no_longer_seen_nor_answered() -> None:
    """A cheap seller leaves in period 3.

    The others' prices recover at once, and the observation shows only who is left.
    """
    market = built(
        deadline=False,
        gamma=0.9,
        periods=50,
        cost=[1.0],
        rivals=[{"rule": "cost-plus", "markup": 0.1, "leaves": 3}, {"rule": "match-lowest"}],
    )
    place = 1  # last price, then the cheapest rival's
    observed = []
    for _ in range(6):
        step = market.step({"seller": torch.full((4, 1, 1), 3)})
        observed.append(
            (
                float(step.observations["seller"][0, 0, place]) * 2,
                float(market.state["price"][0, 2]),
            )
        )
    assert [round(price, 6) for price, _ in observed[:2]] == [1.1, 1.1]
    assert round(observed[2][0], 6) == round(observed[2][1], 6) == 1.1, (
        "the cheap one is gone, what it told the other is not"
    )
    assert [tuple(round(x, 6) for x in row) for row in observed[3:]] == [(1.9, 1.9)] * 3
