"""The pricing market is the same market in plain loops.

Its accounts are honest, latents stay latent, and neither currency nor side matters.
"""

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
from rl_markets.experiment.yaml_file import parse_yaml
from tests.support.pricing_markets import DOUBLE, LOGIT, RICH, SEASON, Loop, built, drawn

SHIPPED = ("pricing-gvr", "pricing-clearance", "pricing-profit")


def shipped(name: str) -> dict[str, Any]:
    """The market's parameters in a shipped experiment."""
    text = (Path(tune_configs.__path__[0]) / f"{name}.yaml").read_text(encoding="utf-8")
    values: dict[str, Any] = parse_yaml(text)["market"]["parameters"]
    return values


# -- the contract ----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [*SHIPPED, "rich", "oracle", "markdown"])
def test_keeps_the_contract(case: str) -> None:
    more = {
        "rich": RICH,
        "oracle": RICH | {"oracle": True},
        "markdown": SEASON | {"markdown_only": True},
    }
    settings = shipped(case) if case in SHIPPED else more[case]
    spec = resolve("pricing")
    findings = examine(
        partial(build_named, "pricing", settings),
        spec=spec,
        parameters=spec.parameters(**settings),
        processes=False,
    )
    assert not [finding for finding in findings if finding.passed is False]
    assert sum(finding.passed is True for finding in findings) >= 10


# -- parity ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", ["move", "level"])
def test_a_market_of_everything_moves_as_plain_loops_say(actions: str) -> None:
    """40 periods of eleven sellers are those of the plain loops.

    Prices, sales, stocks, orders, memories, rewards, observations and masks.
    """
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
        transition = market.transition(market.state, chosen, noise)
        obs = market.observe(transition.state)
        for world, loop in enumerate(loops):
            choices = torch.cat([chosen[group][world].flatten() for group in p.sellers]).tolist()
            own_noise = {name: value[world].tolist() for name, value in noise.items()}
            rewards = loop.step(choices, own_noise)
            paid = torch.cat([transition.rewards[group][world] for group in p.sellers])
            torch.testing.assert_close(
                paid, torch.tensor(rewards, dtype=DOUBLE), rtol=1e-5, atol=1e-9
            )
            for name, value in transition.state.items():
                here = torch.as_tensor(loop.s[name], dtype=DOUBLE).view(-1)
                torch.testing.assert_close(
                    value[world].double().view(-1), here, rtol=1e-5, atol=1e-9, msg=f"{name}, {t}"
                )
            observed = torch.cat([obs[group][world] for group in p.sellers])
            slow = torch.tensor([loop.seen(firm) for firm in range(3)])
            torch.testing.assert_close(observed, slow, rtol=1e-5, atol=1e-5)
        market.state = transition.state
        ordered += int((transition.state["due"] > 0).sum())
        sold_out += int((transition.state["stock"] == 0).sum())
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
    """Rewards over a season are price times what left the stock.

    The rest is salvaged once, nothing is sold later.
    """
    market = built(SEASON, worlds=512, dtype=torch.float32, stock={"units": [5], "salvage": -30.0})
    over = torch.zeros(512, dtype=torch.bool)
    earned = torch.zeros(512)
    early = 0
    for t in range(5):
        left = market.state["stock"][:, 0]
        transition = market.transition(
            market.state,
            {"seller": torch.full((512, 1, 1), 1)},
            market.draw_noise(market.generator),
        )
        now = transition.state["stock"][:, 0]
        assert bool((now >= 0).all())
        assert bool((now <= left).all())
        assert bool((now == now.round()).all())
        assert transition.terminated is not None
        assert torch.equal(transition.terminated, (now == 0) | (t == 4))
        salvage = -30 * now * (t == 4)
        torch.testing.assert_close(transition.rewards["seller"][:, 0], 700 * (left - now) + salvage)
        early += int((transition.terminated & ~over & (t < 4)).sum())
        over |= transition.terminated
        earned += transition.rewards["seller"][:, 0]
        market.state = transition.state
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
            full = torch.full((len(worlds),), 5.0, dtype=DOUBLE)
            assert torch.equal(market.state["stock"][worlds, 0], full)
            assert not market.state["period"][worlds].any()
            time_left = step.ended.observations["seller"][:, 0, -1]
            stock = step.ended.observations["seller"][:, 0, 0]
            over = (time_left == 0) | (stock == 0)
            assert bool(over.all()), "what was last seen is the season's end"


def test_demand_beyond_the_stock_is_lost() -> None:
    """Mean sales are E[min(D, 2)].

    The customers of a good that is sold out do not come back.
    """
    market = built(SEASON, worlds=200_000, dtype=torch.float32, stock={"units": [2]})
    transition = market.transition(
        market.state,
        {"seller": torch.zeros((200_000, 1, 1), dtype=torch.int64)},
        market.draw_noise(market.generator),
    )
    lam = 6 * torch.exp(torch.tensor(-0.8))
    expected = 2 - 2 * torch.exp(-lam) - lam * torch.exp(-lam)
    sold = 2 - transition.state["stock"][:, 0]
    assert float((sold.mean() - expected).abs()) < 4 * float(sold.std()) / 200_000**0.5


def test_orders_arrive_after_their_lead_time_and_cost_once() -> None:
    stock = {"units": [10], "reorder_below": 8, "lead_time": 3, "order_cost": 7.0}
    market = built(
        worlds=1, stock=stock, deadline=False, gamma=0.9, demand={**LOGIT, "visitors": 1.0}
    )
    choose = {"seller": torch.zeros((1, 1, 1), dtype=torch.int64)}
    nobody = torch.zeros((1, 1), dtype=DOUBLE)
    market.state["stock"][:] = 6
    periods = []
    for _ in range(6):
        transition = market.transition(market.state, choose, {"arrivals": nobody})
        periods.append(
            (
                float(transition.rewards["seller"]),
                float(transition.state["due"]),
                float(transition.state["stock"]),
            )
        )
        market.state = transition.state
    assert periods[:3] == [(-7.0, 3.0, 6.0), (0.0, 2.0, 6.0), (0.0, 1.0, 6.0)]
    assert periods[3:] == [(0.0, 0.0, 10.0)] * 3


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
    """With all money in another unit the same is seen, and rewards are that much larger.

    To the bit for powers of two.
    """
    other = RICH | {
        "list_price": [factor * x for x in RICH["list_price"]],
        "cost": [factor * x for x in RICH["cost"]],
        "demand": {**LOGIT, "quality": [2.0 * factor, 2.3 * factor], "mu": 0.3 * factor},
        "stock": {**RICH["stock"], "order_cost": factor},
    }
    exact = factor != 1000
    markets = [
        built(settings, worlds=32, dtype=torch.float32, seed=4) for settings in (RICH, other)
    ]
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
    settings = SEASON | {"demand": {"family": "linear", "size": [8.0], "slope": [0.005]}}
    other = settings | {
        "list_price": [1024_000.0],
        "demand": {"family": "linear", "size": [8.0], "slope": [0.005 / 1024]},
    }
    plays = [play(built(x, worlds=32, dtype=torch.float32), 10) for x in (settings, other)]
    for (_, one), (_, two) in zip(*plays, strict=True):
        assert torch.equal(one.observations["seller"], two.observations["seller"])
        assert torch.equal(1024 * one.rewards["seller"], two.rewards["seller"])


def test_symmetric_sellers_may_change_seats() -> None:
    """Two sellers alike may be swapped.

    With actions, prices and customers swapped, their rewards and what they see are swapped.
    """
    market = built(
        worlds=8,
        sellers={"a": 1, "b": 1},
        products=3,
        deadline=False,
        gamma=0.9,
        stock={"units": [9]},
    )
    actions = drawn(market, torch.Generator().manual_seed(1))
    noise = market.draw_noise(market.generator)
    market.state["price"][:, :3] *= 1.1
    straight = market.transition(market.state, actions, noise)

    def swap(x: Tensor) -> Tensor:
        return torch.cat([x[:, 3:], x[:, :3]], 1) if x.dim() == 2 and x.shape[1] == 6 else x

    turned = market.transition(
        {name: swap(x) for name, x in market.state.items()},
        {"a": actions["b"], "b": actions["a"]},
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
