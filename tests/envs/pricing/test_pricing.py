"""The pricing market: equal to the same market in plain loops, honest accounts, no latents, no
currency, no side."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rl_markets import tune_configs
from rl_markets.conformance.examine import build_named, examine, resolve
from rl_markets.envs.market import Step
from rl_markets.envs.pricing import features
from rl_markets.envs.pricing.market import Pricing
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.errors import ExperimentError
from rl_markets.experiment import parse
from rl_markets.experiment.yaml_file import parse_yaml
from tests.support.pricing_markets import DOUBLE, LOGIT, RICH, RULES, SEASON, Loop, built, drawn

SHIPPED = ("pricing-gvr", "pricing-clearance", "pricing-profit")


def shipped(name: str) -> dict[str, Any]:
    """The market's parameters in a shipped experiment."""
    text = (Path(tune_configs.__path__[0]) / f"{name}.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = parse_yaml(text)["market"]["parameters"]
    return found


# -- the contract ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [*SHIPPED, "rich", "oracle", "markdown"])
def test_keeps_the_contract(case: str) -> None:
    if case in SHIPPED:
        given = shipped(case)
    else:
        given = (
            RICH | {"oracle": {"oracle": True}}.get(case, {})
            if case != "markdown"
            else SEASON | {"markdown_only": True}
        )
    spec = resolve("pricing")
    found = examine(
        partial(build_named, "pricing", given),
        spec=spec,
        parameters=spec.parameters(**given),
        processes=False,
    )
    assert not [finding for finding in found if finding.passed is False]
    assert sum(finding.passed is True for finding in found) >= 10


# -- parity ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", ["move", "level"])
def test_a_market_of_everything_moves_as_plain_loops_say(actions: str) -> None:
    """40 periods of eleven sellers: prices, sales, stocks, orders, memories, rewards, observations
    and masks."""
    market = built(RICH, worlds=4, actions=actions, seed=3)
    assert market.nash is not None
    p = market.parameters
    nash = market.nash.tolist()
    loops = [Loop(p, market.state, world, nash) for world in range(4)]
    generator = torch.Generator().manual_seed(0)
    noises = torch.Generator().manual_seed(5)
    ordered = sold_out = 0
    for t in range(p.periods):
        chosen = drawn(market, generator)
        noise = market.draw_noise(noises)
        moved = market.transition(market.state, chosen, noise)
        seen = market.observe(moved.state)
        for world, loop in enumerate(loops):
            choices = torch.cat([chosen[group][world].flatten() for group in p.sellers]).tolist()
            rewards = loop.step(
                choices, {name: value[world].tolist() for name, value in noise.items()}
            )
            paid = torch.cat([moved.rewards[group][world] for group in p.sellers])
            torch.testing.assert_close(
                paid, torch.tensor(rewards, dtype=DOUBLE), rtol=1e-5, atol=1e-9
            )
            for name, value in moved.state.items():
                here = torch.as_tensor(loop.s[name], dtype=DOUBLE).view(-1)
                torch.testing.assert_close(
                    value[world].double().view(-1), here, rtol=1e-5, atol=1e-9, msg=f"{name}, {t}"
                )
            observed = torch.cat([seen[group][world] for group in p.sellers])
            slow = torch.tensor([loop.seen(firm) for firm in range(3)])
            torch.testing.assert_close(observed, slow, rtol=1e-5, atol=1e-5)
        market.state = moved.state
        ordered += int((moved.state["due"] > 0).sum())
        sold_out += int((moved.state["stock"] == 0).sum())
    assert ordered > 100, "orders were on their way"
    assert sold_out > 0, "some demand was lost"


@pytest.mark.parametrize("deadline", [False, True])
@pytest.mark.parametrize(
    "calendar", [{}, {"weekly": [1.0] * 7}, {"annual": 0.1, "sigma": 0.1}, {"ageing": 0.1}]
)
def test_names_of_features_are_as_many_as_columns(calendar: dict[str, Any], deadline: bool) -> None:
    """Whatever is switched on or off, alone or together."""
    switches: list[dict[str, Any]] = [
        {"rivals": [{"rule": "lagged"}]},
        {"stock": {"units": [5]}},
        {"stock": {"units": [5], "reorder_below": 2}},
        {"reference": {}},
        {"guard": {"margin": 0.1}},
        {"actions": "move", "guard": {"floor": 0.5, "ceiling": 2.0}},
        {"oracle": True},
    ]
    plain = {
        "demand": LOGIT,
        "list_price": [2.0],
        "cost": [1.0],
        "deadline": deadline,
        "gamma": 0.9,
        "season": calendar,
    }
    for some in (*combinations(switches, 1), *combinations(switches, 2), (), tuple(switches)):
        market = built(
            plain | {name: value for switch in some for name, value in switch.items()}, products=2
        )
        step = market.step(drawn(market, torch.Generator().manual_seed(0)))
        width = features.width(market.parameters)
        assert market.groups["seller"].observation_space.shape == (width,)
        assert step.observations["seller"].shape == (4, 1, width), some


# -- seasons ---------------------------------------------------------------------------------------


def play(market: Pricing, steps: int) -> Iterator[tuple[dict[str, Tensor], Step]]:
    """(state before, step) of a market whose sellers choose at random."""
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        before = market.state
        yield before, market.step(drawn(market, generator))


def test_stock_is_sold_once_and_ends_with_the_deadline() -> None:
    """Rewards over a season are price times what left the stock, the rest is salvaged once, nothing
    is sold later."""
    market = built(SEASON, worlds=512, dtype=torch.float32, stock={"units": [5], "salvage": -30.0})
    over = torch.zeros(512, dtype=torch.bool)
    earned = torch.zeros(512)
    early = 0
    for t in range(5):
        left = market.state["stock"][:, 0]
        moved = market.transition(
            market.state,
            {"seller": torch.full((512, 1, 1), 1)},
            market.draw_noise(market.generator),
        )
        now = moved.state["stock"][:, 0]
        assert bool((now >= 0).all())
        assert bool((now <= left).all())
        assert bool((now == now.round()).all())
        assert moved.terminated is not None
        assert torch.equal(moved.terminated, (now == 0) | (t == 4))
        salvage = -30 * now * (t == 4)
        torch.testing.assert_close(moved.rewards["seller"][:, 0], 700 * (left - now) + salvage)
        early += int((moved.terminated & ~over & (t < 4)).sum())
        over |= moved.terminated
        earned += moved.rewards["seller"][:, 0]
        market.state = moved.state
    torch.testing.assert_close(
        earned, 700 * (5 - market.state["stock"][:, 0]) - 30 * market.state["stock"][:, 0]
    )
    assert bool(over.all())
    assert early > 100, "sold-out seasons end"


def test_worlds_restart_with_a_full_store_and_terminate() -> None:
    market = built(SEASON, worlds=64)
    for _, step in play(market, 12):
        if step.ended is not None:
            assert bool(step.ended.terminated.all())
            worlds = step.ended.worlds
            assert torch.equal(
                market.state["stock"][worlds, 0], torch.full((len(worlds),), 5.0, dtype=DOUBLE)
            )
            assert not market.state["period"][worlds].any()
            time_left = step.ended.observations["seller"][:, 0, -1]
            stock = step.ended.observations["seller"][:, 0, 0]
            assert bool(((time_left == 0) | (stock == 0)).all()), (
                "what was last seen is the season's end"
            )


def test_demand_beyond_the_stock_is_lost() -> None:
    """Mean sales are E[min(D, 2)], and the customers of a good that is sold out do not come
    back."""
    market = built(SEASON, worlds=200_000, dtype=torch.float32, stock={"units": [2]})
    moved = market.transition(
        market.state,
        {"seller": torch.zeros((200_000, 1, 1), dtype=torch.int64)},
        market.draw_noise(market.generator),
    )
    lam = 6 * torch.exp(torch.tensor(-0.8))
    expected = 2 - 2 * torch.exp(-lam) - lam * torch.exp(-lam)
    sold = 2 - moved.state["stock"][:, 0]
    assert float((sold.mean() - expected).abs()) < 4 * float(sold.std()) / 200_000**0.5


def test_orders_arrive_after_their_lead_time_and_cost_once() -> None:
    stock = {"units": [10], "reorder_below": 8, "lead_time": 3, "order_cost": 7.0}
    market = built(
        worlds=1, stock=stock, deadline=False, gamma=0.9, demand={**LOGIT, "visitors": 1.0}
    )
    choose = {"seller": torch.zeros((1, 1, 1), dtype=torch.int64)}
    nobody = torch.zeros((1, 1), dtype=DOUBLE)
    market.state["stock"][:] = 6
    found = []
    for _ in range(6):
        moved = market.transition(market.state, choose, {"arrivals": nobody})
        found.append(
            (float(moved.rewards["seller"]), float(moved.state["due"]), float(moved.state["stock"]))
        )
        market.state = moved.state
    assert found[:3] == [(-7.0, 3.0, 6.0), (0.0, 2.0, 6.0), (0.0, 1.0, 6.0)]
    assert found[3:] == [(0.0, 0.0, 10.0)] * 3


# -- what is seen ----------------------------------------------------------------------------------


def test_nobody_sees_what_is_latent_without_an_oracle() -> None:
    """Shock and reference price move what is seen only where `oracle` is set."""
    for oracle in (False, True):
        market = built(RICH, oracle=oracle)
        before = market.observe(market.state)
        hidden = {name: market.state[name] + 0.3 for name in ("shock", "reference")}
        after = market.observe(market.state | hidden)
        for name in market.groups:
            assert torch.equal(before[name], after[name]) is not oracle
        names = features.of_product(market.parameters) + features.of_season(market.parameters)
        assert ("log shock" in names) is ("reference price / list price" in names) is oracle


@pytest.mark.parametrize("factor", [1000.0, 1024.0, 1 / 4096])
def test_no_currency_matters(factor: float) -> None:
    """All money in another unit: the same is seen, and rewards are that much larger; to the bit for
    powers of two."""
    other = RICH | {
        "list_price": [factor * x for x in RICH["list_price"]],
        "cost": [factor * x for x in RICH["cost"]],
        "demand": {**LOGIT, "quality": [2.0 * factor, 2.3 * factor], "mu": 0.3 * factor},
        "stock": {**RICH["stock"], "order_cost": factor},
    }
    exact = factor != 1000
    markets = [built(given, worlds=32, dtype=torch.float32, seed=4) for given in (RICH, other)]
    generators = [torch.Generator().manual_seed(6) for _ in markets]
    options = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-4, "atol": 1e-4}
    money = options if exact else {"rtol": 1e-4, "atol": 1e-4 * factor}
    for _ in range(40):
        one, two = (
            market.step(drawn(market, g)) for market, g in zip(markets, generators, strict=True)
        )
        for name in one.rewards:
            torch.testing.assert_close(two.observations[name], one.observations[name], **options)
            torch.testing.assert_close(two.rewards[name], factor * one.rewards[name], **money)


def test_no_currency_matters_to_linear_demand() -> None:
    given = SEASON | {"demand": {"family": "linear", "size": [8.0], "slope": [0.005]}}
    other = given | {
        "list_price": [1024_000.0],
        "demand": {"family": "linear", "size": [8.0], "slope": [0.005 / 1024]},
    }
    found = [play(built(x, worlds=32, dtype=torch.float32), 10) for x in (given, other)]
    for (_, one), (_, two) in zip(*found, strict=True):
        assert torch.equal(one.observations["seller"], two.observations["seller"])
        assert torch.equal(1024 * one.rewards["seller"], two.rewards["seller"])


def test_symmetric_sellers_may_change_seats() -> None:
    """Two sellers alike: with actions, prices and customers swapped their rewards and what they see
    are swapped."""
    market = built(
        worlds=8,
        sellers={"a": 1, "b": 1},
        products=3,
        deadline=False,
        gamma=0.9,
        stock={"units": [9]},
    )
    chosen = drawn(market, torch.Generator().manual_seed(1))
    noise = market.draw_noise(market.generator)
    market.state["price"][:, :3] *= 1.1
    straight = market.transition(market.state, chosen, noise)

    def swap(x: Tensor) -> Tensor:
        return torch.cat([x[:, 3:], x[:, :3]], 1) if x.dim() == 2 and x.shape[1] == 6 else x

    turned = market.transition(
        {name: swap(x) for name, x in market.state.items()},
        {"a": chosen["b"], "b": chosen["a"]},
        {name: swap(x) for name, x in noise.items()},
    )
    one = market.observe(straight.state)
    two = market.observe(turned.state)
    for mine, other in (("a", "b"), ("b", "a")):
        torch.testing.assert_close(turned.rewards[mine], straight.rewards[other])
        torch.testing.assert_close(two[mine], one[other])
    assert not torch.equal(straight.rewards["a"], straight.rewards["b"])


def test_the_same_seed_gives_the_same_bytes() -> None:
    one, two, other = (
        list(play(built(RICH, worlds=16, dtype=torch.float32, seed=s), 20)) for s in (7, 7, 8)
    )
    for (state, step), (again, twin) in zip(one, two, strict=True):
        assert all(torch.equal(value, again[name]) for name, value in state.items())
        assert all(torch.equal(value, twin.rewards[name]) for name, value in step.rewards.items())
    assert not torch.equal(one[-1][1].rewards["big"], other[-1][1].rewards["big"])


# -- parameters ------------------------------------------------------------------------------------


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
    given = {"demand": LOGIT, "list_price": [2.0], "cost": [1.0]} | changes
    data = {
        "name": "shop",
        "market": {"name": "pricing", "worlds": 2, "parameters": given},
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
