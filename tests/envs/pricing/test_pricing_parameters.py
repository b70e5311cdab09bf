"""Parameters of the pricing market: lists of values, and what is refused in a line."""

from __future__ import annotations

from typing import Any

import pytest

from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.errors import ExperimentError
from rl_markets.experiment import parse
from tests.support.pricing_markets import LOGIT, RULES, SEASON, built


@pytest.mark.parametrize("values", [[3.0], [3.0, 2.5], [3.0, 2.5, 3.0, 2.5, 4.0, 5.0]])
def test_lists_hold_one_value_or_those_of_products_or_of_goods(values: list[float]) -> None:
    market = built(
        sellers={"a": 2},
        rivals=[{"rule": "fixed"}],
        products=2,
        list_price=values,
        deadline=False,
        gamma=0.9,
    )
    expected = {1: values * 6, 2: values * 3, 6: values}[len(values)]
    assert market.list_price.tolist() == expected


def test_as_many_products_as_goods_of_one_seller() -> None:
    assert built(products=2, list_price=[3.0, 2.5]).list_price.tolist() == [3.0, 2.5]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "cost above every price": ({"cost": [2.5]}, "cost: 2.5 of good 0 is not below 2.4"),
    "cost above what the fee leaves": ({"cost": [2.0], "fee": 0.2}, "not below 1.92"),
    "negative cost": ({"cost": [-1.0]}, "cost"),
    "negative stock": ({"stock": {"units": [-1]}}, "stock.units"),
    "stock of half a unit": ({"stock": {"units": [1.5]}}, "stock.units"),
    "unknown rival": ({"rivals": [{"rule": "underbid"}]}, "rivals"),
    "wrong list of prices": (
        {"products": 3, "list_price": [1.0, 2.0]},
        "list_price: 2 values, expected 1, 3",
    ),
    "wrong list of stocks": ({"products": 3, "stock": {"units": [1, 2]}}, "stock.units: 2 values"),
    "wrong list of qualities": (
        {"demand": {**LOGIT, "quality": [1.0, 2.0]}},
        "demand.quality: 2 values",
    ),
    "profile": ({"season": {"profile": [1.0, 2.0]}}, "season.profile: 2 factors"),
    "week": ({"season": {"weekly": [1.0] * 6}}, "season.weekly: 6 factors, expected 7"),
    "levels": ({"levels": [1.0, 0.9]}, "levels: expected ascending"),
    "no bound": ({"deadline": False}, "gamma = 1 without a deadline"),
    "guard": ({"guard": {"floor": 1.2, "ceiling": 1.0}}, "guard.floor = 1.2"),
    "margin beyond the fee": (
        {"fee": 0.3, "guard": {"margin": 0.7}},
        "guard.margin = 0.7: no price leaves it",
    ),
    "margin of no price": (
        {"guard": {"margin": 0.7}},
        "guard.margin = 0.7: good 0 reaches it from a price of 3.33",
    ),
    "markdown that is not yes or no": ({"markdown_only": 0.5}, "markdown_only"),
    "reorder": ({"stock": {"units": [5], "reorder_below": 6}}, "stock.reorder_below = 6"),
    "mixed": ({"demand": {"family": "mixed"}}, "segments: 0 given"),
    "weights": (
        {"demand": {"family": "mixed", "segments": [{"weight": 0.5, "quality": [1.0], "mu": 1.0}]}},
        "sum to 0.5",
    ),
    "ageing": ({"demand": SEASON["demand"], "season": {"ageing": 1.0}}, "season.ageing"),
    "reference": ({"demand": SEASON["demand"], "reference": {}}, "reference: not defined"),
    "leaving": (
        {"demand": SEASON["demand"], "rivals": [{"rule": "fixed", "leaves": 3}]},
        "leaving needs logit",
    ),
    "nash": ({"demand": SEASON["demand"], "rivals": [{"rule": "nash"}]}, "rule nash needs logit"),
    "unknown": ({"price": 3}, "price"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_sense_is_refused_in_a_line(case: str) -> None:
    changes, message = WRONG[case]
    settings = {"demand": LOGIT, "list_price": [2.0], "cost": [1.0]} | changes
    data = {
        "name": "shop",
        "market": {"name": "pricing", "worlds": 2, "parameters": settings},
        "policies": {"seller": {"groups": ["seller"]}},
        "algorithm": {"name": "dqn"},
        "training": {"agent_steps": 64, "rollout_length": 16},
    }
    with pytest.raises(ExperimentError) as caught:
        parse(data, "shop.yaml")
    assert str(caught.value).startswith("shop.yaml: market.parameters")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_every_rule_is_tested() -> None:
    rules = PricingParameters.model_json_schema()["$defs"]["Rival"]["properties"]["rule"]["enum"]
    assert set(rules) == set(RULES)
