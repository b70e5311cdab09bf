"""The market against its known answers.

What the dynamic programme promises is what its prices earn in the market.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rl_markets.envs.pricing.answer.catalogue import CatalogueAnswer
from rl_markets.envs.pricing.answer.choose import answer_key
from rl_markets.envs.pricing.answer.season import SeasonAnswer
from tests.support.pricing_markets import LOGIT, SEASON, built, parameters

CLEARANCE: dict[str, Any] = {
    "periods": 6, "list_price": [500.0], "cost": [50.0], "fee": 0.1,
    "demand": {"family": "logit", "visitors": 9.0, "quality": [480.0], "mu": 70.0},
    "season": {"ageing": 14.0, "profile": [1.0, 1.5, 0.5, 1.0, 2.0, 1.0]},
    "stock": {"units": [12], "salvage": -30.0, "holding": 0.02}, "levels": [0.4, 0.6, 0.8, 1.0],
}  # fmt: skip
CASES = {
    "season": SEASON,
    "clearance": CLEARANCE,
    "markdown": CLEARANCE | {"markdown_only": True},
    "guarded": CLEARANCE | {"guard": {"ceiling": 0.9, "floor": 0.5}},
}


def season_of(settings: dict[str, Any]) -> SeasonAnswer:
    key = answer_key(parameters(settings))
    assert isinstance(key, SeasonAnswer)
    return key


@pytest.mark.parametrize("case", CASES)
def test_the_optimal_prices_earn_in_the_market_what_the_programme_says(case: str) -> None:
    """100,000 seasons: the mean return within 4 s.e. of the value, and the waste too."""
    answer = season_of(CASES[case])
    worlds = 100_000
    market = built(CASES[case], worlds=worlds, dtype=torch.float32, seed=9)
    table = torch.as_tensor(answer.optimum.policy)
    season = answer.season
    prices = torch.tensor(season.prices, dtype=torch.float32)
    multiples = prices / market.list_price[0]
    # The season's order -> the market's.
    level = (market.levels[:, None] - multiples).abs().argmin(0)
    earned = torch.zeros(worlds)
    over = torch.zeros(worlds, dtype=torch.bool)
    for t in range(season.periods):
        stock = market.state["stock"][:, 0].long()
        last = (market.state["price"] - prices).abs().argmin(1)
        index = table[t, stock, last] if market.parameters.markdown_only else table[t, stock]
        noise = market.draw_noise(market.generator)
        transition = market.transition(market.state, {"seller": level[index].view(-1, 1, 1)}, noise)
        earned += transition.rewards["seller"][:, 0] * ~over
        assert transition.terminated is not None
        over |= transition.terminated
        market.state = transition.state
    assert abs(float(earned.mean()) - answer.optimum.total) < 4 * float(earned.std()) / worlds**0.5
    left = market.state["stock"][:, 0]
    spoilage = answer.spoilage(answer.optimum.policy) / 100 * season.stock
    assert abs(float(left.mean()) - spoilage) < 4 * float(left.std()) / worlds**0.5 + 1e-4


@pytest.mark.parametrize("case", CASES)
def test_a_policy_is_read_off_as_the_table_that_it_is(case: str) -> None:
    """The optimum played through observations loses nothing.

    A constant price loses what its table says.
    """
    answer = season_of(CASES[case])
    market = answer._states
    best = torch.as_tensor(answer.optimum.policy).flatten()
    multiples = torch.tensor(answer.season.prices, dtype=torch.float32) / market.list_price[0]
    level = (market.levels[:, None] - multiples).abs().argmin(0)
    fixed = {"seller": lambda obs: level[best].view(*obs.shape[:-1], 1)}
    assert answer.distance(fixed) == pytest.approx(0, abs=1e-9)

    def constant(obs: Tensor) -> Tensor:
        return level[0].expand(*obs.shape[:-1], 1)

    assert answer.distance({"seller": constant}) > 0.1


def test_guard_rails_bound_the_optimum_too() -> None:
    """What is forbidden is no part of the answer.

    A catalogue's answer is only that of all levels.
    """
    free = season_of(CLEARANCE)
    guarded = season_of(CASES["guarded"])
    assert guarded.season.prices.tolist() == [300.0, 400.0]
    assert guarded.optimum.total < free.optimum.total
    margin = season_of(CLEARANCE | {"guard": {"margin": 0.75}})
    np.testing.assert_allclose(margin.season.prices, [400.0, 500.0])
    catalogue = {
        "demand": LOGIT,
        "cost": [1.0],
        "list_price": [2.0],
        "deadline": False,
        "gamma": 0.9,
    }
    assert isinstance(answer_key(parameters(catalogue)), CatalogueAnswer)
    assert answer_key(parameters(catalogue | {"guard": {"ceiling": 1.1}})) is None


def test_a_catalogues_profit_is_what_the_market_pays() -> None:
    settings = {
        "demand": {**LOGIT, "quality": [2.0, 2.2]},
        "cost": [1.0, 1.1],
        "list_price": [2.0],
        "deadline": False,
        "gamma": 0.9,
        "products": 2,
        "sellers": {"a": 1, "b": 1},
        "fee": 0.1,
    }
    market = built(settings, worlds=100_000, dtype=torch.float32)
    answer = answer_key(parameters(settings))
    assert isinstance(answer, CatalogueAnswer)
    levels = torch.tensor([[3, 5], [4, 2]])
    actions = {name: levels[i].expand(100_000, 1, 2) for i, name in enumerate("ab")}
    paid = market.transition(market.state, actions, market.draw_noise(market.generator)).rewards
    expected = answer.profits(2.0 * market.levels[levels].double().flatten().numpy())
    for name, mean in zip("ab", expected, strict=True):
        assert abs(float(paid[name].mean()) - mean) < 4 * float(paid[name].std()) / 100_000**0.5
