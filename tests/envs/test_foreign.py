"""Foreign PettingZoo environments as markets: what goes in comes out, what is wrong is said, and
they are learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from pettingzoo import ParallelEnv
from pettingzoo.test import parallel_api_test
from rich.console import Console

from rl_markets import exported, workflow
from rl_markets.envs.adapters import to_parallel_env
from rl_markets.envs.pettingzoo import SPEC
from rl_markets.envs.pettingzoo.example import Cournot
from rl_markets.envs.pettingzoo.market import ForeignMarket
from rl_markets.envs.pettingzoo.parameters import ForeignParameters
from rl_markets.errors import ExperimentError, MarketError, RunFailedError
from rl_markets.experiment import Experiment, load, parse
from rl_markets.training.run_folder import RunFolder, read_rows
from rl_markets.training.session import TrainingSession
from tests.support.running import ROOT, tiny

SEEN = gym.spaces.Dict(
    {
        "target": gym.spaces.Discrete(3),
        "mood": gym.spaces.Box(-1, 1, (2,), np.float64),
        "pair": gym.spaces.Tuple((gym.spaces.MultiBinary(2), gym.spaces.MultiDiscrete([2, 3]))),
    }
)
WIDTH = 2 + (2 + 5) + 3  # mood, pair, target: a Dict goes by the alphabet


class Zoo(ParallelEnv):  # type: ignore[misc]
    """Red agents name the target they see (actions start at 5), blue ones hit a number; some leave,
    some come late.

    Args:
        lives: agent -> steps after which it terminates.
        cuts: agent -> steps after which it is truncated.
        born: agent -> step in which it appears.
        periods: steps after which everybody is truncated.
        fault: what is wrong, from step 2 on.
    """

    metadata = {"name": "zoo"}  # noqa: RUF012

    def __init__(
        self,
        lives: Any = None,
        cuts: Any = None,
        born: Any = None,
        periods: int = 6,
        fault: str = "",
        broken: bool = False,
    ) -> None:
        if broken:
            raise KeyError("no such\nworld")
        self.possible_agents = ["red_0", "blue_0", "red_1"]
        self.agents: list[str] = []
        self.lives = lives or {}
        self.cuts = cuts or {}
        self.born = born or {}
        self.periods = periods
        self.fault = fault
        self.actions: list[Any] = []

    def observation_space(self, agent: str) -> Any:
        return SEEN if agent.startswith("red") else gym.spaces.Box(-1, 1, (2, 2), np.float32)

    def action_space(self, agent: str) -> Any:
        return (
            gym.spaces.Discrete(3, start=5)
            if agent.startswith("red")
            else gym.spaces.Box(-2, 0.3, (1,), np.float64)
        )

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.random = np.random.default_rng(seed)
        self.steps = 0
        self.agents = [agent for agent in self.possible_agents if agent not in self.born]
        return self._observe(), {agent: {} for agent in self.agents}

    def _observe(self) -> dict[str, Any]:
        draw = self.random
        self.target = int(draw.integers(3))
        pair = (
            draw.integers(2, size=2, dtype=np.int8),
            np.array([draw.integers(2), draw.integers(3)]),
        )
        red = {"target": self.target, "mood": draw.uniform(-1, 1, 2), "pair": pair}
        blue = draw.uniform(-1, 1, (2, 2)).astype(np.float32)
        return {agent: red if agent.startswith("red") else blue for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        assert set(actions) == set(self.agents)
        self.actions.append(actions)
        self.steps += 1
        right = {
            a: float(v - 5 == self.target) if a[0] == "r" else -abs(float(v[0]))
            for a, v in actions.items()
        }
        dead = {a: self.lives.get(a) == self.steps for a in self.agents}
        cut = {a: self.steps >= self.periods or self.cuts.get(a) == self.steps for a in self.agents}
        active = self.agents
        self.agents = active + [a for a, step in self.born.items() if step == self.steps]
        seen = self._observe()
        self.agents = [a for a in self.agents if not dead.get(a) and not cut.get(a)]
        found: Any = [seen, right, dead, cut, {a: {} for a in active}]
        return tuple(self._spoil(found) if self.steps >= 2 and self.fault else found)

    def _spoil(self, found: Any) -> Any:
        seen, right, dead, cut, infos = found
        faults: dict[str, Any] = {
            "raise": lambda: 1 / 0,
            "four": lambda: found[:4],
            "list": lambda: [seen, [1.0], dead, cut, infos],
            "no-reward": lambda: [seen, {"red_0": 1.0}, dead, cut, infos],
            "no-observation": lambda: [{"red_0": seen["red_0"]}, right, dead, cut, infos],
            "shape": lambda: [seen | {"blue_0": np.zeros(4)}, right, dead, cut, infos],
            "key": lambda: [seen | {"red_1": {"target": 0}}, right, dead, cut, infos],
            "target": lambda: [
                seen | {"red_1": seen["red_1"] | {"target": 3}},
                right,
                dead,
                cut,
                infos,
            ],
            "reward": lambda: [seen, right | {"red_1": None}, dead, cut, infos],
            "flags": lambda: [seen, right, dead | {"red_1": [True, False]}, cut, infos],
            "vanish": lambda: [self.agents.remove("red_1"), found][1],
            "stranger": lambda: [self.agents.append("green_0"), found][1],
        }
        return faults[self.fault]()


class Bare(ParallelEnv):  # type: ignore[misc]
    """Two agents with spaces to order; reset and step do nothing right."""

    metadata = {"name": "bare"}  # noqa: RUF012

    def __init__(
        self, agents: int = 2, observes: str = "box", acts: str = "discrete", reset: Any = None
    ) -> None:
        if agents:
            self.possible_agents = [f"a{i}" for i in range(agents)]
        self.observes = observes
        self.acts = acts
        self.found = reset
        self.agents = []

    def observation_space(self, agent: str) -> Any:
        return {
            "box": gym.spaces.Box(0, 1, (1,)),
            "text": gym.spaces.Text(3),
            "empty": gym.spaces.Box(0, 1, (0,)),
        }[self.observes]

    def action_space(self, agent: str) -> Any:
        return {
            "discrete": gym.spaces.Discrete(2),
            "multi": gym.spaces.MultiDiscrete([2, 2]),
            "infinite": gym.spaces.Box(-np.inf, 1, (1,)),
            "matrix": gym.spaces.Box(0, 1, (2, 2)),
            "whole": gym.spaces.Box(0, 3, (1,), np.int64),
            "point": gym.spaces.Box(0, 0, (1,)),
        }[self.acts]

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return self.found if self.found is None else ({}, {})


NOT_CALLABLE = 3


def no_env(**_: Any) -> Any:
    return gym.Env()


def zoo(
    worlds: int = 2, groups: Any = None, max_steps: int | None = None, **arguments: Any
) -> ForeignMarket:
    parameters = {
        "env": "test_foreign:Zoo",
        "arguments": arguments,
        "groups": groups,
        "max_steps": max_steps,
    }
    market = SPEC.build(ForeignParameters(**parameters), worlds=worlds)
    assert isinstance(market, ForeignMarket)
    return market


def right(market: ForeignMarket) -> dict[str, torch.Tensor]:
    """Some actions of the default groups."""
    w = market.worlds
    return {"agents": torch.ones(w, 2, dtype=torch.int64), "agents_2": torch.full((w, 1, 1), -0.5)}


# -- mistakes --------------------------------------------------------------------------------------

ZOO = "test_foreign:Zoo"
BARE = "test_foreign:Bare"
MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no-colon": (
        {"env": "test_foreign.Zoo"},
        ["env = 'test_foreign.Zoo': expected package.module:callable"],
    ),
    "no-name": (
        {"env": "test_foreign:"},
        ["env = 'test_foreign:': expected package.module:callable"],
    ),
    "spaces": ({"env": "a b:c"}, ["env = 'a b:c': expected package.module:callable"]),
    "no-module": (
        {"env": "no_zoo.v1:env"},
        ["cannot be imported", "PYTHONPATH", "No module named 'no_zoo'"],
    ),
    "its-own-import-fails": ({"env": "pettingzoo.mpe:env"}, ["cannot be imported", "mpe2"]),
    "no-attribute": ({"env": "rl_markets.envs.pettingzoo.example:Cournt"}, ["has no 'Cournt'"]),
    "near-attribute": (
        {"env": "test_foreign:no_envs"},
        ["has no 'no_envs' (did you mean 'no_env'?)"],
    ),
    "not-callable": ({"env": "test_foreign:NOT_CALLABLE"}, ["is of type int: expected a callable"]),
    "not-parallel": (
        {"env": "test_foreign:no_env"},
        ["returns Env", "expected a pettingzoo.ParallelEnv"],
    ),
    "unknown-argument": (
        {"env": ZOO, "arguments": {"live": 1}},
        ["arguments: ", "'live'", "of test_foreign:Zoo"],
    ),
    "cannot-be-built": (
        {"env": ZOO, "arguments": {"broken": True}},
        ["cannot be built with arguments {'broken': True}: KeyError", "(test_foreign.py, line "],
    ),
    "no-agents": (
        {"env": BARE, "arguments": {"agents": 0}},
        ["has no possible_agents: expected a list"],
    ),
    "no-spaces": (
        {"env": BARE, "arguments": {"observes": "smell"}},
        ["cannot tell the spaces of agent 'a0': KeyError: 'smell'"],
    ),
    "text": (
        {"env": BARE, "arguments": {"observes": "text"}},
        ["agent 'a0': observation space Text(", "expected Box, Discrete"],
    ),
    "nothing-seen": (
        {"env": BARE, "arguments": {"observes": "empty"}},
        ["observation space Box(", "one entry"],
    ),
    **{
        f"acts-{kind}": (
            {"env": BARE, "arguments": {"acts": kind}},
            ["agent 'a0': action space ", "expected Discrete, or"],
        )
        for kind in ("multi", "infinite", "matrix", "whole", "point")
    },
    "no-match": (
        {"env": ZOO, "groups": {"red": ["red_*"], "blue": ["blu"]}},
        ["groups.blue: 'blu' matches no agent of test_foreign:Zoo (did you mean 'blue_0'?)"],
    ),
    "in-two": (
        {"env": ZOO, "groups": {"red": ["red_*"], "first": ["*_0"]}},
        ["groups.first: agent 'red_0' already belongs to group 'red'"],
    ),
    "in-none": (
        {"env": ZOO, "groups": {"red": ["red_*"]}},
        ["groups: agent 'blue_0' of test_foreign:Zoo is in no group"],
    ),
    "unlike": (
        {"env": ZOO, "groups": {"all": ["*"]}},
        ["groups.all: agents 'red_0' and 'blue_0' differ: Dict("],
    ),
    "no-groups": ({"env": ZOO, "groups": {}}, ["groups", "at least 1 entries"]),
    "no-patterns": ({"env": ZOO, "groups": {"all": []}}, ["groups.all", "at least 1 entries"]),
    "bad-name": ({"env": ZOO, "groups": {"a/b": ["*"]}}, ["groups.a/b", "text that matches"]),
    "no-steps": ({"env": ZOO, "max_steps": 0}, ["max_steps = 0: expected >= 1"]),
    "no-env": ({}, ["env: missing; expected `package.module:callable`"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line_that_names_the_field(name: str) -> None:
    parameters, expected = MISTAKES[name]
    data = tiny(market={"name": "pettingzoo", "worlds": 2, "parameters": parameters})
    with pytest.raises(ExperimentError) as caught:
        parse(data, "here")
    message = str(caught.value)
    assert message.startswith("here: market.parameters."), message
    assert message.isprintable(), "one line"
    for fragment in expected:
        assert fragment in message


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("four", "step returned tuple"),
        ("list", r"rewards are list \[1.0\]: expected a dict of agents"),
        ("no-reward", "rewards lack agent 'blue_0', which acted"),
        ("no-observation", "observations lack agent 'blue_0', which acted"),
        ("shape", r"observation of agent 'blue_0' has shape \(4,\): expected \(2, 2\)"),
        ("key", "observation of agent 'red_1' is .*: expected a dict of mood, pair, target"),
        (
            "target",
            r"observation of agent 'red_1' \['target'\] is '3': expected one of Discrete\(3\)",
        ),
        ("reward", "reward of agent 'red_1' is NoneType None: expected a number"),
        ("flags", "terminations of agent 'red_1' are list .*: expected a bool"),
        ("vanish", "agent 'red_1' is not in agents, but was neither terminated nor truncated"),
        ("stranger", "agents hold 'green_0', which is not in possible_agents"),
    ],
)
def test_a_broken_environment_is_named_with_agent_world_and_step(fault: str, expected: str) -> None:
    market = zoo(fault=fault)
    market.reset(0)
    market.step(right(market))
    with pytest.raises(
        MarketError, match=rf"^test_foreign:Zoo: {expected}.*; world 0, step 2 of its episode$"
    ):
        market.step(right(market))


@pytest.mark.parametrize(
    ("found", "expected"), [(None, "reset returned NoneType"), ((), "agents is empty after reset")]
)
def test_a_broken_reset_is_named(found: Any, expected: str) -> None:
    market = SPEC.build(ForeignParameters(env=BARE, arguments={"reset": found}), worlds=1)
    with pytest.raises(MarketError, match=f"{expected}.*; world 0, step 0"):
        market.reset(0)


def test_what_the_environment_raises_passes_through() -> None:
    market = zoo(fault="raise")
    market.reset(0)
    market.step(right(market))
    with pytest.raises(ZeroDivisionError) as caught:
        market.step(right(market))
    assert Path(str(caught.traceback[-1].path)).name == "test_foreign.py"


# -- what goes in comes out ------------------------------------------------------------------------


def counts(**parameters: Any) -> dict[str, int]:
    return SPEC.groups(ForeignParameters(**{"env": ZOO, **parameters}))


def test_groups_are_those_of_equal_spaces_unless_named() -> None:
    assert counts() == {"agents": 2, "agents_2": 1}
    assert counts(env="rl_markets.envs.pettingzoo.example:Cournot", arguments={"firms": 5}) == {
        "agents": 5
    }
    assert counts(groups={"blue": ["blue_0"], "red": ["red_?"]}) == {"blue": 1, "red": 2}
    assert counts(groups={"b": ["red_1"], "a": ["red_0"], "c": ["blue*"]}) == {
        "b": 1,
        "a": 1,
        "c": 1,
    }
    market = zoo(groups={"blue": ["blue_0"], "red": ["red_1", "red_0"]})
    assert {name: group.count for name, group in market.groups.items()} == {"blue": 1, "red": 2}
    assert market.groups["red"].action_space == gym.spaces.Discrete(3)
    assert market.groups["blue"].action_space == gym.spaces.Box(
        -2, np.float32(0.3), (1,), np.float32
    )
    assert [market.groups[g].observation_space.shape for g in ("red", "blue")] == [(WIDTH,), (4,)]


def test_a_market_says_what_its_environments_say() -> None:
    """Against copies stepped by hand, with the seeds that the market's generator draws, across
    restarts."""
    market = zoo(worlds=3)
    generator = torch.Generator().manual_seed(11)
    envs = [Zoo() for _ in range(3)]
    place = {"red_0": ("agents", 0), "red_1": ("agents", 1), "blue_0": ("agents_2", 0)}

    def begin(env: Zoo) -> dict[str, Any]:
        return env.reset(seed=int(torch.randint(2**31 - 1, (), generator=generator)))[0]  # type: ignore[no-any-return]

    def check(world: int, expected: dict[str, Any], observations: dict[str, torch.Tensor]) -> None:
        for agent, (group, i) in place.items():
            flat = gym.spaces.flatten(envs[world].observation_space(agent), expected[agent]).astype(
                np.float32
            )
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
            does = {
                "red_0": red[world, 0] + 5,
                "red_1": red[world, 1] + 5,
                "blue_0": blue[world, 0].astype(np.float64),
            }
            expected, paid, *_ = env.step(does)
            for agent, (group, i) in place.items():
                assert float(step.rewards[group][world, i]) == np.float32(paid[agent])
            assert (step.ended is not None) == (not env.agents) == (t % 6 == 5)
            if step.ended is not None:
                check(world, expected, step.ended.observations)
                expected = begin(env)
            check(world, expected, step.observations)
    given = market.envs[0].actions[-1]
    assert type(given["red_0"]) is np.int64
    assert given["blue_0"] in envs[0].action_space("blue_0")


def test_actions_outside_a_box_are_clamped_into_it() -> None:
    market = zoo()
    market.reset(0)
    market.step(right(market) | {"agents_2": torch.full((2, 1, 1), 7.0)})
    assert market.envs[0].actions[-1]["blue_0"] in market.envs[0].action_space("blue_0")


def test_who_leaves_early_is_out_until_the_world_ends() -> None:
    market = zoo(worlds=1, lives={"red_0": 2}, cuts={"blue_0": 3}, born={"red_1": 1}, periods=5)
    before = market.reset(0)
    assert not before["agents"][0, 1].any(), "not born yet"
    active = []
    agent_done = []
    seen = []
    ended = []
    for _ in range(6):
        step = market.step(right(market))
        assert step.active is not None
        active.append([*step.active["agents"][0].tolist(), *step.active["agents_2"][0].tolist()])
        gone = step.agent_done or {
            "agents": torch.zeros(1, 2).bool(),
            "agents_2": torch.zeros(1, 1).bool(),
        }
        agent_done.append([*gone["agents"][0].tolist(), *gone["agents_2"][0].tolist()])
        seen.append(
            [
                bool(step.observations[g][0, i].any())
                for g, i in (("agents", 0), ("agents", 1), ("agents_2", 0))
            ]
        )
        ended.append(None if step.ended is None else step.ended.terminated.tolist())
        if step.ended is not None:
            last = step.ended.observations
            assert [bool(last["agents"][0, 0].any()), bool(last["agents"][0, 1].any())] == [
                False,
                True,
            ]
    on = True
    off = False
    assert active == [
        [on, off, on],
        [on, on, on],
        [off, on, on],
        [off, on, off],
        [off, on, off],
        [on, off, on],
    ]
    assert agent_done == [
        [off] * 3,
        [on, off, off],
        [off, off, on],
        [off] * 3,
        [off] * 3,
        [off] * 3,
    ]
    assert seen[1:4] == [[on, on, on], [off, on, on], [off, on, off]], (
        "the last one is seen, then zeros"
    )
    assert ended == [None, None, None, None, [False], None]


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
    with pytest.raises(
        MarketError, match=r"Zoo gives no global state, .*: state\(\) raises NotImplementedError"
    ):
        without.global_state()


def test_there_and_back_again_passes_pettingzoos_check() -> None:
    """A foreign environment as a market as a PettingZoo environment."""
    parallel_api_test(to_parallel_env(zoo(worlds=1, lives={"red_0": 2})), num_cycles=30)
    parallel_api_test(Cournot(), num_cycles=30)


# -- through the service ---------------------------------------------------------------------------


def zoo_experiment(**sections: Any) -> Experiment:
    """Two groups, two policies; agents leave and come."""
    parameters = {
        "env": ZOO,
        "arguments": {"lives": {"red_0": 4}, "born": {"red_1": 1}, "periods": 6},
        "groups": {"red": ["red_*"], "blue": ["blue_*"]},
        "discount": 0.5,
    }
    data = tiny(
        market={"name": "pettingzoo", "worlds": 4, "parameters": parameters},
        policies={
            "namer": {"groups": ["red"], "hidden": [8]},
            "hitter": {"groups": ["blue"], "hidden": [8]},
        },
        training={"agent_steps": 4 * 8 * 3 * 4},
    )
    del data["policies"]["household"]
    for name, fields in sections.items():
        data[name] |= fields
    return parse(data, "test")


def test_groups_with_policies_of_their_own_train_and_resume(ray_once: None, tmp_path: Path) -> None:
    """The agent whose deviations are tried leaves early; the other red one comes late."""
    run = workflow.train(zoo_experiment(certificate={"deviation_agent_steps": 200}), tmp_path)
    names = [metric["name"] for metric in json.loads(run.certificate.read_text())["metrics"]]
    assert names == ["best_response_gain/trained/red", "best_response_gain/trained/blue"]
    rows = read_rows(run)
    assert [row["env_steps"] for row in rows] == [32, 64, 96, 128]
    assert all(
        np.isfinite(row[f"{name}/policy_loss"]) for row in rows for name in ("namer", "hitter")
    )
    resumed = []
    for _ in range(
        2
    ):  # from the same checkpoint always the same, though not what the whole run was
        TrainingSession(run, Console(quiet=True)).train(run.checkpoints.path(2))
        resumed.append([(row["iteration"], row["namer/policy_loss"]) for row in read_rows(run)])
    assert resumed[0] == resumed[1]
    assert [iteration for iteration, _ in resumed[0]] == [1, 2, 3, 4]


def test_it_trains_on_a_runner_of_its_own(ray_once: None, tmp_path: Path) -> None:
    """In another process, which finds the environment by its import path; a policy for each,
    critics that see all."""
    market = {
        "name": "pettingzoo",
        "worlds": 4,
        "parameters": {"env": "rl_markets.envs.pettingzoo.example:Cournot"},
    }
    data = tiny(market=market, training={"runners": 1, "agent_steps": 2 * 64})
    data["policies"]["household"] |= {
        "groups": ["agents"],
        "separate": True,
        "central_critic": True,
    }
    run = TrainingSession(RunFolder.create(parse(data, "test"), tmp_path), Console(quiet=True))
    run.train()
    assert [row["env_steps"] for row in read_rows(run.run)] == [32, 64]


def test_what_breaks_in_training_is_said_with_its_traceback(ray_once: None, tmp_path: Path) -> None:
    data = zoo_experiment().model_dump(mode="json")
    data["market"]["parameters"]["arguments"] = {"fault": "raise"}
    run = TrainingSession(RunFolder.create(parse(data, "test"), tmp_path), Console(quiet=True))
    with pytest.raises(RunFailedError, match="iteration 1 failed: ZeroDivisionError") as failure:
        run.train()
    assert "test_foreign.py" in failure.value.details


@pytest.fixture(scope="module")
def learned(ray_once: None, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The shipped experiment, a quarter of its length."""
    overrides = ["training.agent_steps=40_000", "market.parameters.discount=0.5"]
    overrides += ["certificate.seeds=2", "certificate.deviation_agent_steps=2048"]
    experiment = load(ROOT / "tune_configs" / "pettingzoo-cournot.yaml", overrides)
    return workflow.train(experiment, tmp_path_factory.mktemp("runs"))


def test_firms_learn_the_equilibrium_of_a_foreign_environment(learned: RunFolder) -> None:
    """Each sells a third of demand; before training, half of what it could."""
    demand = np.linspace(0.5, 1, 11, dtype=np.float32)[:, None]
    error = np.abs(exported.load(learned.path).act(demand) - demand / 3).max()
    random = np.abs(np.random.default_rng(0).uniform(0, 1, demand.shape) - demand / 3).max()
    assert error < 0.03
    assert random > 0.3


def test_its_page_shows_what_a_deviator_gains_and_no_answer(learned: RunFolder) -> None:
    certificate = json.loads(learned.certificate.read_text())
    assert (certificate["market"], certificate["answer"], certificate["passed"]) == (
        "pettingzoo",
        None,
        None,
    )
    assert [metric["name"] for metric in certificate["metrics"]] == [
        "best_response_gain/trained/agents"
    ]
    assert 0 <= certificate["metrics"][0]["value"] < 0.01
    page = learned.report.read_text()
    assert "gain of a trained deviator, agents" in page
    assert "No answer is known" in page
    assert "rl_markets.envs.pettingzoo.example:Cournot" in page
