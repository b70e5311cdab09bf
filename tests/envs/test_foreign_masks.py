"""Foreign agents that may not do everything, and whose actions have any shape that is a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl_markets import workflow
from rl_markets.envs.pettingzoo import SPEC
from rl_markets.envs.pettingzoo.parameters import ForeignParameters
from rl_markets.errors import MarketError
from rl_markets.experiment import parse
from tests.support.running import tiny
from tests.support.zoo import STRICT, Strict

DISCRETE = ("discrete", "multi", "matrix", "binary")
TOLD = ("info", "observation")


def market(**arguments: Any) -> Any:
    return SPEC.build(ForeignParameters(env=STRICT, arguments=arguments), worlds=2)


def allowed(market: Any, observations: torch.Tensor) -> torch.Tensor:
    """The first choice in every branch that the mask allows, `[worlds, agents, ...]`."""
    space = market.groups["agents"].action_space
    branches = max(1, int(np.prod(space.shape)))
    choices = int(space.n if isinstance(space, gym.spaces.Discrete) else space.nvec[0])
    mask = observations[..., -branches * choices :].unflatten(-1, (branches, choices))
    return mask.argmax(-1).reshape(*observations.shape[:2], *space.shape)


@pytest.mark.parametrize("acts", DISCRETE)
@pytest.mark.parametrize("told", TOLD)
def test_masks_come_last_in_observations(acts: str, told: str) -> None:
    """An environment that refuses all but what it allows is played for several episodes."""
    strict = market(acts=acts, told=told)
    assert strict.groups["agents"].masked
    observations = strict.reset(0)
    for t in range(20):
        assert observations["agents"][0, 0, :2].tolist() == pytest.approx([t % 8 / 10] * 2)
        actions = allowed(strict, observations["agents"])
        step = strict.step({"agents": actions})
        assert (step.ended is not None) == (t % 8 == 7)
        observations = step.observations
    other = (allowed(strict, observations["agents"]) == 0).long()
    with pytest.raises(ValueError, match="illegal action"):
        strict.step({"agents": other})


@pytest.mark.parametrize("acts", Strict.SPACES)
def test_actions_of_every_shape_reach_the_environment(acts: str) -> None:
    strict = market(acts=acts, told="nowhere")
    group = strict.groups["agents"]
    padded = acts in ("multi", "matrix")
    assert group.masked is padded, "choices that a branch lacks"
    observations = strict.reset(0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        space = group.action_space
        if padded:
            drawn = allowed(strict, observations["agents"]).numpy()
        else:
            drawn = np.stack([[space.sample() for _ in range(2)] for _ in range(2)])
            space.seed(int(rng.integers(100)))
        observations = strict.step({"agents": torch.from_numpy(drawn)}).observations


def test_a_matrix_of_actions_keeps_its_places() -> None:
    strict = market(acts="box", told="nowhere")
    strict.reset(0)
    high = torch.from_numpy(strict.groups["agents"].action_space.high)
    assert high.tolist() == [1.0, 2.0, 3.0, 4.0]
    native = strict.kinds["agents"].native(high.expand(2, 2, -1).numpy())
    assert native[0, 0].tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("short", "expected 3 entries of 0 or 1"),
        ("nothing", "allows nothing"),
        ("fraction", "expected 3 entries of 0 or 1"),
        ("nan", "expected 3 entries of 0 or 1"),
    ],
)
def test_a_mask_that_is_none_is_named(told: str, fault: str, expected: str) -> None:
    strict = market(told=told, fault=fault)
    observations = strict.reset(0)
    for _ in range(2):
        actions = allowed(strict, observations["agents"])
        observations = strict.step({"agents": actions}).observations
    last = {"agents": allowed(strict, observations["agents"])}
    message = f"action_mask of agent 'a' .*{expected}.*world 0, step 3"
    with pytest.raises(MarketError, match=message):
        strict.step(last)


@pytest.mark.parametrize(
    ("acts", "told", "learner"),
    [
        ("discrete", "info", "ppo"),
        ("discrete", "observation", "dqn"),
        ("multi", "info", "dqn"),
        ("matrix", "observation", "ppo"),
        ("binary", "info", "ppo"),
        ("box", "nowhere", "sac"),
    ],
)
def test_learners_never_do_what_a_mask_forbids(
    ray_once: None, tmp_path: Path, acts: str, told: str, learner: str
) -> None:
    """Training, a look at the policy, and a deviator: the environment refuses all else."""
    parameters = {"env": STRICT, "arguments": {"acts": acts, "told": told}, "discount": 0.5}
    algorithm: dict[str, Any] = {"name": learner, "parameters": {}}
    if learner != "ppo":
        algorithm["parameters"] = {"updates": 1, "batch_size": 8, "capacity": 500}
    data = tiny(
        market={"name": "pettingzoo", "worlds": 4, "parameters": parameters},
        certificate={"deviation_agent_steps": 100},
        training={"agent_steps": 4 * 8 * 2 * 3},
    )
    data["algorithm"] = algorithm
    data["policies"]["household"] |= {"groups": ["agents"]}
    run = workflow.train(parse(data, "test"), tmp_path)
    assert run.certificate.is_file()
