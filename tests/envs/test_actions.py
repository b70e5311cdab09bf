"""No market takes an action that is outside its space, by whichever door it comes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_markets.envs.adapters import to_multi_agent_env, to_parallel_env, to_sb3, to_vector_env
from rl_markets.envs.market import Market
from rl_markets.errors import ActionError
from rl_markets.experiment import load
from rl_markets.rllib.build import build_market
from tests.support.bazaar import Bazaar, drawn

ROOT = Path(__file__).parents[2]


def shipped(name: str) -> Callable[[int], Market]:
    experiment = load(ROOT / "tune_configs" / f"{name}.yaml")
    return lambda worlds: build_market(experiment, "cpu", worlds)


MARKETS: dict[str, Callable[[int], Market]] = {
    "bazaar": Bazaar,
    "households": shipped("households-3x3-mixture"),
    "krusell_smith": shipped("krusell-smith"),
    "fiscal": shipped("fiscal-full-depreciation"),
    "pricing": shipped("pricing-profit"),
    "points": shipped("pricing-points"),
    "pettingzoo": shipped("pettingzoo-cournot"),
}
every_market = pytest.mark.parametrize("build", MARKETS.values(), ids=MARKETS.keys())


def illegal(space: gym.spaces.Space[Any]) -> list[float]:
    """Values of one entry of an action that no agent may give."""
    if isinstance(space, gym.spaces.Box):
        low, high = float(space.low.flat[0]), float(space.high.flat[0])
        return [low - 1e-3, high + 1e-3, -1e9, math.nan, math.inf, -math.inf]
    choices = int(space.n if isinstance(space, gym.spaces.Discrete) else space.nvec[0])
    return [-1, choices, choices + 7, 0.7, math.nan, -math.inf]


def attacks(market: Market) -> Iterator[tuple[str, int, float]]:
    """Group, agent, value: the last agent of each group, who is easily overlooked."""
    for name, group in market.groups.items():
        for value in illegal(group.action_space):
            yield name, group.count - 1, value


def spoilt(legal: np.ndarray[Any, Any], value: float, place: tuple[int, ...]) -> Any:
    """Actions with one entry replaced; whole numbers stay whole where they can."""
    whole = float(value).is_integer() and legal.dtype.kind == "i"
    changed = legal.astype(legal.dtype if whole else np.float64)
    changed[place].reshape(-1)[...] = value
    if changed[place].ndim == 0:
        changed[place] = value
    return changed


def unchanged(market: Market, before: dict[str, Any]) -> bool:
    """Whether nothing has moved."""

    def same(a: Any, b: Any) -> bool:
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        return bool(np.array_equal(np.asarray(a), np.asarray(b)))

    return same(market.state_dict(), before)


@every_market
def test_a_step_refuses_what_is_outside(build: Callable[[int], Market]) -> None:
    market = build(2)
    market.reset(1)
    legal = drawn(market, np.random.default_rng(0))
    before = market.state_dict()
    for group, agent, value in attacks(market):
        actions = {name: own.numpy() for name, own in legal.items()}
        actions[group] = spoilt(actions[group], value, (1, agent))
        with pytest.raises(ActionError, match=f"agent '{group}_{agent}' in world 1"):
            market.step({name: torch.from_numpy(own) for name, own in actions.items()})
        assert unchanged(market, before)
    market.step(legal)


@every_market
def test_actions_of_other_shapes_or_groups_are_refused(build: Callable[[int], Market]) -> None:
    market = build(2)
    market.reset(1)
    legal = drawn(market, np.random.default_rng(0))
    group = next(iter(legal))
    wrong: list[dict[str, Any]] = [
        {},
        legal | {"nobody": legal[group]},
        legal | {group: legal[group][:1]},
        legal | {group: legal[group][..., None]},
        legal | {group: legal[group].numpy()},
        legal | {group: legal[group] > 0},
    ]
    for actions in wrong:
        with pytest.raises(ActionError):
            market.step(actions)


@every_market
@pytest.mark.parametrize("adapt", [to_parallel_env, to_multi_agent_env])
def test_agents_by_name_are_refused_by_name(
    build: Callable[[int], Market], adapt: Callable[[Market], Any]
) -> None:
    market = build(1)
    env = adapt(market)
    env.reset(seed=1)
    legal = {}
    for i, agent in enumerate(env.possible_agents):
        space = env.action_spaces[agent]
        space.seed(i)
        legal[agent] = space.sample()
    before = market.state_dict()
    for group, index, value in attacks(market):
        agent = f"{group}_{index}"
        action = np.asarray(legal[agent])
        with pytest.raises(ActionError, match=f"agent '{agent}'"):
            env.step(legal | {agent: spoilt(action[None], value, (0,))[0]})
        with pytest.raises(ActionError, match=f"agent '{agent}'"):
            env.step(legal | {agent: np.stack([action, action])})
        assert unchanged(market, before)
    env.step(legal)


@every_market
@pytest.mark.parametrize("adapt", [to_vector_env, to_sb3])
def test_rows_are_refused(build: Callable[[int], Market], adapt: Callable[..., Any]) -> None:
    if adapt is to_sb3:
        pytest.importorskip("stable_baselines3")
    market = build(2)
    group = next(iter(market.groups))
    legal = drawn(market, np.random.default_rng(0))
    others = {name: (lambda seen, own=own: own) for name, own in legal.items() if name != group}
    env = adapt(market, group, others=others)
    env.reset()
    count = market.groups[group].count
    rows = legal[group].numpy().reshape(2 * count, *legal[group].shape[2:])
    before = market.state_dict()
    for name, agent, value in attacks(market):
        if name != group:
            continue
        with pytest.raises(ActionError, match=f"agent '{group}_{agent}' in world 1"):
            env.step(spoilt(rows, value, (count + agent,)))
        assert unchanged(market, before)
    with pytest.raises(ActionError):
        env.step(rows[:1])
    env.step(rows)
