"""What `check` accepts can be trained: learners act where they are put, and memory holds them."""

from __future__ import annotations

from typing import Any

import pytest

from rl_markets.errors import ExperimentError, FieldError
from rl_markets.experiment import parse
from rl_markets.experiment.machine import check_machine
from rl_markets.rllib.build import build_market
from tests.support.experiment_files import FILES, content
from tests.support.mutation import Mutation, mutated

BARE = {"algorithm.parameters": {}}
ZOO = "tests.support.zoo"

REFUSED = [
    ("households-rbc", {"algorithm": {"name": "dqn"}}, "algorithm.name = 'dqn': learns discrete"),
    ("krusell-smith", {"algorithm": {"name": "dqn"}}, "those of group 'households' are box"),
    ("pettingzoo-cournot", {"algorithm": {"name": "dqn"}}, "those of group 'agents' are box"),
    ("pricing-gvr", {"algorithm": {"name": "sac"}}, "those of group 'seller' are multidiscrete"),
    ("pricing-points", {"algorithm": {"name": "ddpg"}}, "those of group 'seller' are multidis"),
    (
        "fiscal",
        {"policies": {"all": {"groups": ["households", "government"]}}},
        "policies.all.groups: ['households', 'government'] have different spaces",
    ),
    (
        "pricing-gvr",
        {"algorithm": {"name": "ppo"}, "policies.POLICY.central_critic": True},
        "central_critic: market 'pricing' gives no global state",
    ),
    (
        "households-rbc",
        {
            "policies.POLICY.separate": True,
            "market.parameters.households": 10**6,
            "training.agent_steps": 10**10,
            "training.rollout_length": 1,
            "market.worlds": 2,
            "algorithm.parameters": {"minibatches": 1},
        },
        "policies.household.separate: 1e+06 networks of ",
    ),
    ("households-rbc-sac", {"algorithm.parameters.capacity": 10**9}, "a replay of 1e+09 rows"),
    ("pricing-profit", {"algorithm.parameters.capacity": 10**9}, "a replay of 1e+09 rows"),
    ("households-rbc", {"market.parameters.b": 1e300}, "market.parameters.b = 1e+300: expected 0"),
    ("krusell-smith", {"market.parameters.beta": 1e-300}, "beta = 1e-300: expected 0, or a size"),
    ("krusell-smith", {"market.parameters.hours": 1e30}, "hours = 1e+30: expected 0, or a size"),
    (
        "fiscal",
        {"market.parameters.initial_capital": [1e-300, 1.0]},
        "market.parameters.initial_capital.0 = 1e-300",
    ),
    ("households-rbc", {"market.parameters.b": 10**18}, "market.parameters.b = 1e+18: expected 0"),
    ("households-rbc", {"algorithm.parameters.gradient_clip": 1e-30}, "gradient_clip = 1e-30"),
    (
        "households-rbc",
        {"market.parameters.alpha": 0.999999},
        "market.parameters.initial_capital: missing; at rest there are 1e+",
    ),
    ("pricing-profit", {"algorithm.parameters.rule": {}}, "algorithm.parameters.rule"),
]


@pytest.mark.parametrize(("name", "changes", "said"), REFUSED)
def test_what_cannot_be_built_is_refused_with_its_field(
    name: str, changes: dict[str, Any], said: str
) -> None:
    path = next(path for path in FILES if path.stem == name)
    data = mutated(content(path), Mutation(name, changes))
    with pytest.raises((ExperimentError, FieldError)) as caught:
        check_machine(parse(data, "here"))
    assert said in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_market_tells_its_spaces_as_they_are_built(path: Any) -> None:
    experiment = parse(content(path), str(path))
    built = build_market(experiment, "cpu", 1).groups
    assert experiment.spaces == {name: group.spaces for name, group in built.items()}


def test_foreign_arguments_are_nobodys_to_judge() -> None:
    path = next(path for path in FILES if path.stem == "pettingzoo-cournot")
    data = content(path)
    data["market"]["parameters"]["arguments"] = {"firms": 2}
    assert parse(data, "here").groups == {"agents": 2}
