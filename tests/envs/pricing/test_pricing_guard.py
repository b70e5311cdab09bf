"""Guard-rails: no price beyond a limit, whatever is proposed.

The mask says what stands; the code names the rule.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rl_markets.envs.pricing import features
from rl_markets.envs.pricing.guard import RULES, allowed, gate, lowest_price
from rl_markets.envs.pricing.sections import Guard
from tests.support.pricing_markets import DOUBLE, RICH, SEASON, built, drawn, parameters

N = 100_000
LIMITS = {"floor": 0.6, "ceiling": 1.25, "change": 0.15, "margin": 0.1}
GUARD = Guard.model_validate(LIMITS)


def adversary(seed: int, dtype: torch.dtype = DOUBLE) -> dict[str, Tensor]:
    """Proposals of any size and sign, and costs that jump over the list price.

    Infinite ones are among the proposals.
    """
    g = torch.Generator().manual_seed(seed)
    list_price = torch.exp(4 * torch.randn(N, generator=g, dtype=dtype))
    last = list_price * (0.3 + 1.5 * torch.rand(N, generator=g, dtype=dtype))
    proposed = list_price * 10 * torch.randn(N, generator=g, dtype=dtype)
    near = list_price * (0.5 + torch.rand(N, generator=g, dtype=dtype))
    proposed = torch.where(torch.rand(N, generator=g) < 0.5, proposed, near)
    for i, odd in enumerate((torch.inf, -torch.inf, 0.0, torch.nan)):
        proposed[50 * i : 50 * i + 50] = odd
    cost = list_price * torch.exp(torch.randn(N, generator=g, dtype=dtype) - 1)
    return {
        "proposed": proposed,
        "last": last,
        "list_price": list_price,
        "lowest": lowest_price(cost, 0.05, GUARD),
    }


@pytest.mark.parametrize("markdown_only", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_no_adversary_gets_past_the_limits(dtype: torch.dtype, markdown_only: bool) -> None:
    """1e5 proposals and cost shocks.

    Every limit holds but for what a later rule takes from it; the margin holds always.
    """
    g = adversary(int(markdown_only), dtype)
    price, code = gate(**g, guard=GUARD, markdown_only=markdown_only)
    slack = 2e-5 * g["list_price"]
    high = (1 + GUARD.change) * g["last"]
    if markdown_only:
        high = torch.minimum(high, g["last"])
    low = (1 - GUARD.change) * g["last"]
    assert bool(torch.isfinite(price).all())
    assert bool((price >= g["lowest"] - slack).all()), "the margin has the last word"
    free = price > g["lowest"] + slack  # the margin does not bind
    assert not bool((free & (price > high + slack)).any())
    assert not bool((free & (price < low - slack)).any())
    between = torch.minimum(torch.maximum(GUARD.ceiling * g["list_price"], low), high)
    assert not bool((free & (price > between + slack)).any()), (
        "above the ceiling only as far as the brake demands"
    )
    between = torch.maximum(torch.minimum(GUARD.floor * g["list_price"], high), low)
    assert not bool((free & (price < between - slack)).any())
    codes = set(range(len(RULES)))
    if not markdown_only:
        codes.remove(RULES.index("markdown"))
    assert set(code.tolist()) == codes


@pytest.mark.parametrize("markdown_only", [False, True])
def test_the_code_names_what_bound_last(markdown_only: bool) -> None:
    """Code 0 where the price is what was proposed.

    Else without the rule named the price would be another.
    """
    g = adversary(2)
    price, code = gate(**g, guard=GUARD, markdown_only=markdown_only)
    still = (price - g["proposed"]).abs() <= 1e-5 * g["list_price"]
    assert bool((code[still & torch.isfinite(g["proposed"])] == 0).float().mean() > 0.99), (
        "but where two rules cancel"
    )
    assert torch.equal(price[code == 0], g["proposed"][code == 0])
    off: dict[str, dict[str, Any]] = {
        "floor": {"floor": 0.0},
        "ceiling": {"ceiling": 1e6},
        "change": {"change": 1e6},
        "margin": {"margin": -1.0},
    }
    for name, without in off.items():
        chosen = code == RULES.index(name)
        assert int(chosen.sum()) > 100
        guard = Guard.model_validate(LIMITS | without)
        lowest = torch.zeros_like(price) if name == "margin" else g["lowest"]
        other, _ = gate(**(g | {"lowest": lowest}), guard=guard, markdown_only=markdown_only)
        least = 0.999 if name in ("change", "margin") else 0.9
        assert float((other != price)[chosen].double().mean()) > least


HAND: list[tuple[float, float, float, str]] = [
    # proposed, last, posted at a list price of 10 and a lowest of 7, rule
    (10.0, 10.0, 10.0, "none"),
    (13.0, 12.0, 12.5, "ceiling"),
    (12.4, 10.0, 11.5, "change"),
    (8.0, 10.0, 8.5, "change"),
    (5.0, 6.1, 7.0, "margin"),
    (13.0, 16.0, 13.6, "change"),
    (6.0, 8.0, 7.0, "margin"),
]


@pytest.mark.parametrize(("proposed", "last", "posted", "rule"), HAND)
def test_by_hand(proposed: float, last: float, posted: float, rule: str) -> None:
    """The brake may keep a price above the ceiling for a while.

    The margin lifts one above everything.
    """
    arguments = (torch.tensor([x], dtype=DOUBLE) for x in (proposed, last, 10.0, 7.0))
    price, code = gate(*arguments, GUARD)
    assert float(price) == pytest.approx(posted, rel=1e-12)
    assert RULES[int(code)] == rule


def test_what_is_no_number_changes_nothing() -> None:
    arguments = (
        torch.tensor(x, dtype=DOUBLE)
        for x in ([torch.nan, torch.nan], [9.0, 6.5], [10.0, 10.0], [7.0, 7.0])
    )
    price, code = gate(*arguments, GUARD)
    assert price.tolist() == [9.0, 7.0]
    assert [RULES[i] for i in code.tolist()] == ["change", "margin"]


def test_the_lowest_price_leaves_the_margin_after_the_fee() -> None:
    cost = torch.tensor([5.0, 0.0, 700.0], dtype=DOUBLE)
    price = lowest_price(cost, 0.05, GUARD)
    torch.testing.assert_close(
        ((1 - 0.05) * price - cost)[[0, 2]] / price[[0, 2]], torch.full((2,), 0.1, dtype=DOUBLE)
    )
    assert lowest_price(cost, 0.05, Guard.model_validate({})).tolist() == [0, 0, 0]


@pytest.mark.parametrize("markdown_only", [False, True])
def test_allowed_is_what_the_gate_leaves_alone_and_never_nothing(markdown_only: bool) -> None:
    g = {name: value[:20_000] for name, value in adversary(3).items()}
    del g["proposed"]
    choices = g["list_price"][:, None] * torch.linspace(0.5, 1.4, 9, dtype=DOUBLE)
    ok = allowed(choices, **g, guard=GUARD, markdown_only=markdown_only)
    wide = {name: value[:, None].expand_as(choices) for name, value in g.items()}
    price, code = gate(choices, **wide, guard=GUARD, markdown_only=markdown_only)
    assert bool(ok.any(-1).all()), "always at least one"
    some = (code == 0).any(-1)
    assert torch.equal(ok[some], code[some] == 0)
    assert 0 < int((~some).sum()) < len(some)
    assert bool((ok[~some].sum(-1) == 1).all())
    moved = (price - choices).abs()[~some]
    assert torch.equal(moved[ok[~some]], moved.amin(-1)), "the one that is moved least"


# -- in the market ---------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", ["move", "level"])
def test_a_markets_prices_keep_the_limits_whatever_is_chosen(actions: str) -> None:
    """2500 worlds, 40 periods of random choices: 6e5 prices."""
    market = built(RICH, worlds=2500, dtype=torch.float32, actions=actions, exploring_starts=0.0)
    own = slice(0, 6)
    generator = torch.Generator().manual_seed(0)
    list_price = market.list_price[own]
    g = market.parameters.guard
    for _ in range(40):
        last = market.state["price"][:, own]
        market.state = market.transition(
            market.state, drawn(market, generator), market.draw_noise(market.generator)
        ).state
        price = market.state["price"][:, own]
        slack = 2e-5 * list_price
        assert bool((price <= g.ceiling * list_price + slack).all())
        assert bool((price >= g.floor * list_price - slack).all())
        assert bool(((price - last).abs() <= g.change * last + slack).all())
        assert bool((0.95 * price - market.cost[own] >= g.margin * price - slack).all())


def test_the_mask_that_is_seen_is_what_the_gate_leaves_alone() -> None:
    """And a forbidden choice does no harm: it posts the price that the gate makes of it."""
    market = built(RICH, worlds=64, dtype=torch.float32)
    p = market.parameters
    generator = torch.Generator().manual_seed(0)
    forbidden = 0
    for _ in range(20):
        obs = market.observe(market.state)
        for k in range(len(p.levels)):
            actions = {name: torch.full((64, g.count, 2), k) for name, g in market.groups.items()}
            price, code = market.post(market.state, actions)
            mask = torch.cat([obs[name][..., -14:].flatten(1) for name in p.sellers], 1).view(
                64, 6, 7
            )[..., k]
            choices = market.choices(market.state)
            nothing = (
                torch.cat([obs[n][..., -14:].flatten(1) for n in p.sellers], 1).view(64, 6, 7)
            ).sum(-1) == 1
            assert torch.equal(mask.bool() | nothing, (code == 0) | nothing)
            assert torch.equal(price[code == 0], choices[..., k][code == 0])
            assert bool(torch.isfinite(price).all())
            forbidden += int((code > 0).sum())
        market.step(drawn(market, generator))
    assert forbidden > 1000


def test_who_is_braked_sees_its_last_price() -> None:
    for change, visible in ((0.1, True), (1.5, True), (1e6, False)):
        names = features.of_product(parameters(SEASON, guard={"change": change}))
        assert ("last price / list price" in names) is visible


def test_markdowns_never_rise_and_end_where_they_are() -> None:
    market = built(SEASON, worlds=256, markdown_only=True, stock={"units": [500]}, periods=30)
    generator = torch.Generator().manual_seed(0)
    name = "seller"
    for _ in range(30):
        last = market.state["price"]
        mask = market.observe(market.state)[name][:, 0, -5:]
        levels = market.levels * 1000
        assert torch.equal(mask.bool(), levels <= last + 1e-6)
        market.state = market.transition(
            market.state, drawn(market, generator), market.draw_noise(market.generator)
        ).state
        assert bool((market.state["price"] <= last).all())
    assert float((market.state["price"] == 400).double().mean()) > 0.98
    assert bool(market.masked)
    assert not built(SEASON).masked
