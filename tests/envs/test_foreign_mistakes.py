"""What is wrong with a foreign environment is said in one line that names it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from rl_markets.envs.pettingzoo import SPEC
from rl_markets.envs.pettingzoo.market import ForeignMarket
from rl_markets.envs.pettingzoo.parameters import ForeignParameters
from rl_markets.errors import ExperimentError, MarketError
from rl_markets.experiment import parse
from tests.support.running import ROOT, tiny
from tests.support.zoo import BARE, ZOO, right, zoo

MISTAKES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no-colon": (
        {"env": "tests.support.zoo.Zoo"},
        ["env = 'tests.support.zoo.Zoo': expected package.module:callable"],
    ),
    "no-name": (
        {"env": "tests.support.zoo:"},
        ["env = 'tests.support.zoo:': expected package.module:callable"],
    ),
    "spaces": ({"env": "a b:c"}, ["env = 'a b:c': expected package.module:callable"]),
    "no-module": (
        {"env": "no_zoo.v1:env"},
        ["there is no module 'no_zoo.v1'", "PYTHONPATH"],
    ),
    "its-own-import-fails": (
        {"env": "tests.support.unimportable:env"},
        ["cannot be imported", "No module named 'no_such_simulator'"],
    ),
    "no-attribute": ({"env": "rl_markets.envs.pettingzoo.example:Cournt"}, ["has no 'Cournt'"]),
    "near-attribute": (
        {"env": "tests.support.zoo:no_envs"},
        ["has no 'no_envs' (did you mean 'no_env'?)"],
    ),
    "not-callable": (
        {"env": "tests.support.zoo:NOT_CALLABLE"},
        ["is of type int: expected a callable"],
    ),
    "not-parallel": (
        {"env": "tests.support.zoo:no_env"},
        ["returns Env", "expected a pettingzoo.ParallelEnv"],
    ),
    "unknown-argument": (
        {"env": ZOO, "arguments": {"live": 1}},
        ["arguments: ", "'live'", "of tests.support.zoo:Zoo"],
    ),
    "cannot-be-built": (
        {"env": ZOO, "arguments": {"broken": True}},
        ["cannot be built with arguments {'broken': True}: KeyError", "(zoo.py, line "],
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
            [
                "agent 'a0': action space ",
                "expected Discrete, MultiDiscrete, MultiBinary, or a Box",
            ],
        )
        for kind in ("infinite", "whole", "point", "text")
    },
    "no-match": (
        {"env": ZOO, "groups": {"red": ["red_*"], "blue": ["blu"]}},
        ["groups.blue: 'blu' matches no agent of tests.support.zoo:Zoo (did you mean 'blue_0'?)"],
    ),
    "in-two": (
        {"env": ZOO, "groups": {"red": ["red_*"], "first": ["*_0"]}},
        ["groups.first: agent 'red_0' already belongs to group 'red'"],
    ),
    "in-none": (
        {"env": ZOO, "groups": {"red": ["red_*"]}},
        ["groups: agent 'blue_0' of tests.support.zoo:Zoo is in no group"],
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
        ("stranger", "agents hold 'green_0', which is not in possible_agents"),
    ],
)
def test_a_broken_environment_is_named_with_agent_world_and_step(fault: str, expected: str) -> None:
    market = zoo(fault=fault)
    market.reset(0)
    market.step(right(market))
    message = rf"^tests\.support\.zoo:Zoo: {expected}.*; world 0, step 2 of its episode$"
    with pytest.raises(MarketError, match=message):
        market.step(right(market))


@pytest.mark.parametrize(
    ("found", "expected"),
    [(None, "reset returned NoneType"), ((), "agents is empty after reset")],
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
    assert Path(str(caught.traceback[-1].path)).name == "zoo.py"


def test_cures_are_told_in_the_words_of_environments() -> None:
    """Every cure that has another form is one that is given, in the very words."""
    given = "".join(path.read_text() for path in (ROOT / "rl_markets" / "conformance").glob("*.py"))
    spoken = re.sub(r'"\s*f?"', "", given)
    for ours, theirs in ForeignMarket.cures.items():
        assert ours in spoken
        assert "torch" not in theirs
        assert "generator=" not in theirs
