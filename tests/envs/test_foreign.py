"""Foreign PettingZoo environments as markets: what goes in comes out."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from pettingzoo.test import parallel_api_test

from rl_markets.envs.adapters import to_parallel_env
from rl_markets.envs.market import Step
from rl_markets.envs.pettingzoo import SPEC
from rl_markets.envs.pettingzoo.example import Cournot
from rl_markets.envs.pettingzoo.market import ForeignMarket
from rl_markets.envs.pettingzoo.parameters import ForeignParameters
from rl_markets.errors import MarketError
from tests.support.zoo import WIDTH, ZOO, Zoo, right, zoo


def counts(**parameters: Any) -> dict[str, int]:
    return SPEC.groups(ForeignParameters(**{"env": ZOO, **parameters}))


def test_groups_are_those_of_equal_spaces_unless_named() -> None:
    assert counts() == {"agents": 2, "agents_2": 1}
    example = "rl_markets.envs.pettingzoo.example:Cournot"
    assert counts(env=example, arguments={"firms": 5}) == {"agents": 5}
    assert counts(groups={"blue": ["blue_0"], "red": ["red_?"]}) == {"blue": 1, "red": 2}
    each = {"b": ["red_1"], "a": ["red_0"], "c": ["blue*"]}
    assert counts(groups=each) == {"b": 1, "a": 1, "c": 1}
    market = zoo(groups={"blue": ["blue_0"], "red": ["red_1", "red_0"]})
    assert {name: group.count for name, group in market.groups.items()} == {"blue": 1, "red": 2}
    assert market.groups["red"].action_space == gym.spaces.Discrete(3)
    box = gym.spaces.Box(-2, np.float32(0.3), (1,), np.float32)
    assert market.groups["blue"].action_space == box
    assert [market.groups[g].observation_space.shape for g in ("red", "blue")] == [(WIDTH,), (4,)]


PLACE = {"red_0": ("agents", 0), "red_1": ("agents", 1), "blue_0": ("agents_2", 0)}
"""Agent of the zoo -> its (group, number), by equal spaces."""


def test_a_market_says_what_its_environments_say() -> None:
    """A market is its copies stepped by hand, across restarts.

    With the seeds that the market's generator draws.
    """
    market = zoo(worlds=3)
    generator = torch.Generator().manual_seed(11)
    envs = [Zoo() for _ in range(3)]

    def begin(env: Zoo) -> dict[str, Any]:
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        observations: dict[str, Any] = env.reset(seed=seed)[0]
        return observations

    def check(world: int, expected: dict[str, Any], observations: dict[str, torch.Tensor]) -> None:
        for agent, (group, i) in PLACE.items():
            flat = gym.spaces.flatten(envs[world].observation_space(agent), expected[agent])
            flat = flat.astype(np.float32)
            assert observations[group][world, i].numpy().tobytes() == flat.tobytes()

    observations = market.reset(11)
    for world, env in enumerate(envs):
        check(world, begin(env), observations)
    draw = np.random.default_rng(0)
    for t in range(13):
        red = draw.integers(3, size=(3, 2))
        blue = draw.uniform(-2, 0.3, (3, 1, 1)).astype(np.float32)
        step = market.step({"agents": torch.from_numpy(red), "agents_2": torch.from_numpy(blue)})
        for world, env in enumerate(envs):
            actions = {"red_0": red[world, 0] + 5, "red_1": red[world, 1] + 5}
            actions["blue_0"] = blue[world, 0].astype(np.float64)
            expected, paid, *_ = env.step(actions)
            for agent, (group, i) in PLACE.items():
                assert float(step.rewards[group][world, i]) == np.float32(paid[agent])
            assert (step.ended is not None) == (not env.agents) == (t % 6 == 5)
            if step.ended is not None:
                check(world, expected, step.ended.observations)
                expected = begin(env)
            check(world, expected, step.observations)
    received = market.envs[0].actions[-1]
    assert type(received["red_0"]) is np.int64
    assert received["blue_0"] in envs[0].action_space("blue_0")


def test_a_bound_that_single_precision_misses_stays_inside() -> None:
    market = zoo()
    market.reset(0)
    high = torch.from_numpy(market.groups["agents_2"].action_space.high)
    market.step(right(market) | {"agents_2": high.expand(2, 1, 1)})
    assert market.envs[0].actions[-1]["blue_0"] in market.envs[0].action_space("blue_0")


def by_agent(flags: dict[str, torch.Tensor]) -> list[bool]:
    """Of red_0, red_1 and blue_0 in the first world."""
    return [bool(flags[group][0, i].any()) for group, i in PLACE.values()]


def acts(steps: list[Step]) -> list[bool]:
    """Whether red_0 of the first world acts in each step."""
    active = []
    for step in steps:
        assert step.active is not None
        active.append(by_agent(step.active)[0])
    return active


def test_who_leaves_early_is_out_until_the_world_ends() -> None:
    market = zoo(worlds=1, lives={"red_0": 2}, cuts={"blue_0": 3}, born={"red_1": 1}, periods=5)
    before = market.reset(0)
    assert not before["agents"][0, 1].any(), "not born yet"
    active = []
    agent_done = []
    visible = []
    ended = []
    for _ in range(6):
        step = market.step(right(market))
        assert step.active is not None
        active.append(by_agent(step.active))
        agent_done.append([False] * 3 if step.agent_done is None else by_agent(step.agent_done))
        visible.append(by_agent(step.observations))
        ended.append(None if step.ended is None else step.ended.terminated.tolist())
        if step.ended is not None:
            assert by_agent(step.ended.observations)[:2] == [False, True]
    on = True
    off = False
    first = [[on, off, on], [on, on, on], [off, on, on]]
    assert active == [*first, [off, on, off], [off, on, off], [on, off, on]]
    assert agent_done == [[off] * 3, [on, off, off], [off, off, on], *[[off] * 3] * 3]
    last_seen = [[on, on, on], [off, on, on], [off, on, off]]
    assert visible[1:4] == last_seen, "the last one is seen, then zeros"
    assert ended == [None, None, None, None, [False], None]


def test_who_pauses_does_not_act_and_goes_on_seeing_what_it_saw() -> None:
    market = zoo(worlds=1, pauses={"red_0": (2, 4)}, periods=6)
    market.reset(0)
    steps = [market.step(right(market)) for _ in range(6)]
    assert all(step.agent_done is None for step in steps), "it has not left"
    assert acts(steps) == [True, True, False, False, True, True]
    seen = [step.observations["agents"][0, 0] for step in steps]
    assert seen[1].any()
    assert torch.equal(seen[2], seen[1]), "what it saw when it left"
    assert not torch.equal(seen[3], seen[1]), "it is back"
    assert [float(step.rewards["agents"][0, 0]) for step in steps[2:4]] == [0.0, 0.0]
    assert steps[5].ended is not None


def test_who_died_may_come_back() -> None:
    """PettingZoo's own test forbids it; environments do it all the same."""
    market = zoo(worlds=1, lives={"red_0": 2}, pauses={"red_0": (99, 4)}, periods=6)
    market.reset(0)
    steps = [market.step(right(market)) for _ in range(6)]
    assert acts(steps) == [True, True, False, False, True, True]
    assert not steps[2].observations["agents"][0, 0].any(), "dead: it sees nothing"
    assert steps[3].observations["agents"][0, 0].any(), "back"


@pytest.mark.parametrize(
    ("options", "length", "terminated"),
    [
        ({"lives": dict.fromkeys(["red_0", "red_1", "blue_0"], 3)}, 3, True),
        ({"lives": {"red_0": 2, "red_1": 4, "blue_0": 4}}, 4, True),
        ({"lives": {"red_0": 6, "red_1": 6}}, 6, False),
        ({"max_steps": 2}, 2, False),
        ({"max_steps": 9}, 6, False),
    ],
)
def test_a_world_terminates_where_nobody_was_truncated(
    options: dict[str, Any], length: int, terminated: bool
) -> None:
    market = zoo(**options)
    market.reset(0)
    for t in range(1, 13):
        step = market.step(right(market))
        assert (step.ended is not None) == (t % length == 0)
        if step.ended is not None:
            assert step.ended.worlds.tolist() == [0, 1]
            assert step.ended.terminated.tolist() == [terminated] * 2
            assert step.agent_done is None


def test_an_episode_without_length_is_as_long_as_the_environment_says() -> None:
    """What `best_response.discounted_rewards` asks for."""
    market = zoo(max_steps=2)
    market.episode_length = None
    market.reset(0)
    assert [market.step(right(market)).ended is not None for _ in range(6)] == [False] * 5 + [True]


def test_same_seed_same_bytes_and_worlds_of_their_own() -> None:
    def heard(market: ForeignMarket, seed: int) -> bytes:
        parts = [market.reset(seed)]
        for _ in range(14):
            step = market.step(right(market))
            parts += [step.observations, step.rewards]
        return b"".join(value.numpy().tobytes() for part in parts for value in part.values())

    market = zoo()
    first = heard(market, 5)
    assert heard(market, 5) == heard(zoo(), 5) == first
    assert heard(market, 6) != first
    observations = market.reset(5)["agents"]
    assert not torch.equal(observations[0], observations[1])


def test_what_was_returned_stays_as_it_was() -> None:
    market = zoo()
    kept = [market.reset(0)["agents"]]
    copies = [kept[0].clone()]
    for _ in range(7):
        kept.append(market.step(right(market)).observations["agents"])
        copies.append(kept[-1].clone())
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


def test_a_saved_market_goes_on_with_fresh_episodes_always_the_same() -> None:
    market = zoo()
    market.reset(1)
    market.step(right(market))
    saved = market.state_dict()
    first = [market.load_state_dict(saved)["agents"], zoo().load_state_dict(saved)["agents"]]
    assert torch.equal(*first)
    assert not torch.equal(first[0], market.reset(1)["agents"])
    assert market.step(right(market)).ended is None


def test_a_foreign_state_is_the_global_state() -> None:
    market = SPEC.build(
        ForeignParameters(env="rl_markets.envs.pettingzoo.example:Cournot"), worlds=3
    )
    observations = market.reset(0)["agents"]
    assert torch.equal(market.global_state(), observations[:, 0])
    for _ in range(16):
        step = market.step({"agents": torch.full((3, 2, 1), 0.2)})
    assert step.ended is not None
    assert step.ended.global_state is not None
    assert torch.equal(step.ended.global_state, step.ended.observations["agents"][:, 0])
    assert torch.equal(market.global_state(), step.observations["agents"][:, 0])
    without = zoo()
    without.reset(0)
    message = r"Zoo gives no global state, .*: state\(\) raises NotImplementedError"
    with pytest.raises(MarketError, match=message):
        without.global_state()


def test_there_and_back_again_passes_pettingzoos_check() -> None:
    """A foreign environment as a market as a PettingZoo environment."""
    parallel_api_test(to_parallel_env(zoo(worlds=1, lives={"red_0": 2})), num_cycles=30)
    parallel_api_test(Cournot(), num_cycles=30)
