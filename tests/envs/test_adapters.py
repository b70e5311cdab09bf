"""Our markets in PettingZoo and RLlib: their own checks, our stricter ones, and learners."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from pettingzoo import ParallelEnv
from pettingzoo.test import parallel_api_test, parallel_seed_test

from rl_markets.envs.adapters import to_multi_agent_env, to_parallel_env
from rl_markets.envs.deviation import DeviationMarket
from rl_markets.envs.market import Market
from rl_markets.errors import MarketError
from tests.support.bazaar import LENGTH, Bazaar, drawn, economy, every_market

# -- PettingZoo ------------------------------------------------------------------------------------


@every_market
def test_pettingzoos_own_checks(build: Callable[[], Market]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(to_parallel_env(build()), num_cycles=50)
        parallel_seed_test(lambda: to_parallel_env(build()), num_cycles=50)


def episode(env: Any, seed: int | None, actions: np.random.Generator) -> bytes:
    """Every byte of an episode: observations, rewards, flags, agents, to its very end."""
    heard: list[Any] = [env.reset(seed=seed)[0]]
    while env.agents:
        for agent in env.possible_agents:
            env.action_space(agent).seed(int(actions.integers(2**31)))
        heard.append(list(env.agents))
        sampled = {agent: env.action_space(agent).sample() for agent in env.agents}
        heard += env.step(sampled)[:4]
    return b"".join(
        np.asarray(value).tobytes() + str(agent).encode()
        for part in heard
        for agent, value in (part.items() if isinstance(part, dict) else enumerate(part))
    )


def episodes(env: Any, seed: int, count: int = 3) -> list[bytes]:
    """An episode from a seed, and those that follow it without one."""
    actions = np.random.default_rng(5)
    return [episode(env, seed if i == 0 else None, actions) for i in range(count)]


def check_deterministic(build: Callable[[], Any]) -> None:
    """Same seed, same bytes over whole episodes and across restarts.

    In one object and in two; other seeds differ.
    """
    env = build()
    first = episodes(env, 7)
    assert episodes(env, 7) == first, "the same environment, seeded again"
    assert episodes(build(), 7) == first, "another environment with the same seed"
    assert episodes(build(), 8)[0] != first[0], "another seed"
    resets = [env.reset(seed=3)[0], *(env.reset()[0] for _ in range(3))]
    starts = {b"".join(np.asarray(obs).tobytes() for obs in reset.values()) for reset in resets}
    assert len(starts) == 4, "a reset without a seed starts an episode of its own"


@every_market
def test_whole_episodes_are_the_same_bytes(build: Callable[[], Market]) -> None:
    check_deterministic(lambda: to_parallel_env(build()))


class HalfSeeded(ParallelEnv):  # type: ignore[misc]
    """Heeds its seed for the start and the first step.

    From the second step on it draws from nowhere.
    """

    metadata = {"name": "half_seeded", "render_modes": []}  # noqa: RUF012
    possible_agents = ["only"]  # noqa: RUF012

    def __init__(self) -> None:
        self.agents: list[str] = []
        self._seen = gym.spaces.Box(0, 1, (1,), np.float32)
        self._does = gym.spaces.Discrete(2)
        self.random = np.random.default_rng(0)

    def observation_space(self, agent: str) -> Any:
        return self._seen

    def action_space(self, agent: str) -> Any:
        return self._does

    def _observe(self) -> dict[str, Any]:
        return {"only": self.random.random(1, dtype=np.float32)}

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.random = self.random if seed is None else np.random.default_rng(seed)
        self.agents = ["only"]
        self.steps = 0
        return self._observe(), {"only": {}}

    def step(self, actions: Any) -> Any:
        self.steps += 1
        if self.steps >= 2:
            self.random = np.random.default_rng()
        over = self.steps == 4
        obs = self._observe()
        self.agents = [] if over else self.agents
        return obs, {"only": 0.0}, {"only": False}, {"only": over}, {"only": {}}


def test_pettingzoos_seed_test_looks_at_one_step_only_and_ours_does_not() -> None:
    """It asks `any(terminations)` of a dict, which is true of its names."""
    parallel_seed_test(HalfSeeded)
    with pytest.raises(AssertionError, match="seeded again"):
        check_deterministic(HalfSeeded)


@every_market
def test_a_parallel_env_says_what_the_market_says(build: Callable[[], Market]) -> None:
    market = build()
    env = to_parallel_env(build())
    generator = np.random.default_rng(0)
    place = {
        f"{name}_{i}": (name, i)
        for name, group in market.groups.items()
        for i in range(group.count)
    }
    expected = market.reset(3)
    obs = env.reset(seed=3)[0]
    assert list(obs) == env.agents == env.possible_agents == list(place)
    while env.agents:
        live = list(env.agents)
        actions = drawn(market, generator)
        own_actions = {}
        for agent in live:
            group, i = place[agent]
            own_actions[agent] = actions[group][0, i].numpy()
        obs, paid, terminated, truncated, _ = env.step(own_actions)
        step = market.step(actions)
        expected = step.observations if step.ended is None else step.ended.observations
        assert list(obs) == list(paid) == list(terminated) == list(truncated) == live
        for agent, (group, i) in place.items():
            if agent in live:
                assert obs[agent].tobytes() == expected[group][0, i].numpy().tobytes()
                assert obs[agent] in env.observation_space(agent)
                assert paid[agent] == float(step.rewards[group][0, i])
                assert terminated[agent] or truncated[agent] or agent in env.agents
                cut_short = step.ended is not None and not bool(step.ended.terminated[0])
                assert truncated[agent] == cut_short
    assert step.ended is not None
    with pytest.raises(MarketError, match="the episode is over"):
        env.step({})


def test_agents_that_leave_are_gone_and_the_state_is_the_last_one() -> None:
    env = to_parallel_env(Bazaar())
    env.reset(seed=0)
    gone = []
    while env.agents:
        before = set(env.agents)
        obs = env.step({agent: env.action_space(agent).sample() for agent in env.agents})[0]
        gone.append(sorted(before - set(env.agents)))
        np.testing.assert_array_equal(env.state(), obs["sellers_0"])
    assert gone == [["buyers_0"], ["buyers_1"], ["buyers_2", "sellers_0", "sellers_1"]]
    env.reset()
    assert env.state()[0] == 0
    assert env.agents == env.possible_agents


def test_a_parallel_env_starts_at_clock_zero_and_is_one_world() -> None:
    policy = {"households": lambda x: x[..., :2] * 0 + 0.5}
    env = to_parallel_env(DeviationMarket(economy(stagger=True), policy, "households"))
    for _ in range(5):
        env.reset()
        for step in range(LENGTH):
            env.step({agent: env.action_space(agent).sample() for agent in env.agents})
            assert bool(env.agents) == (step < LENGTH - 1)
    with pytest.raises(ValueError, match="2 worlds: expected 1"):
        to_parallel_env(economy(worlds=2))
    env.reset()
    message = "no action for agent 'deviator_0': expected one for each of 1"
    with pytest.raises(MarketError, match=message):
        env.step({})
    assert env.state().shape == (4,)


# -- RLlib -----------------------------------------------------------------------------------------


@every_market
def test_a_multi_agent_env_counts_everybody(ray_once: None, build: Callable[[], Market]) -> None:
    from ray.rllib.env.multi_agent_env import MultiAgentEnv

    env = to_multi_agent_env(build())
    twin = to_parallel_env(build())
    assert isinstance(env, MultiAgentEnv)
    first_agent = env.possible_agents[0]
    assert env.get_observation_space(first_agent) == twin.observation_space(first_agent)
    for seed in (3, None):
        first = env.reset(seed=seed)[0]
        expected = twin.reset(seed=seed)[0]
        np.testing.assert_equal(first, expected)
        over = False
        while not over:
            actions = {agent: twin.action_space(agent).sample() for agent in twin.agents}
            step = env.step(actions)
            expected = twin.step(actions)
            over = any([step[2].pop("__all__"), step[3].pop("__all__")])
            np.testing.assert_equal(step, expected)
            assert over == (not twin.agents)
            assert env.agents == list(step[0]), "RLlib holds the one against the other"


@every_market
def test_rllibs_stock_runner_and_ppo_train(ray_once: None, build: Callable[[], Market]) -> None:
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.tune.registry import register_env

    register_env("ours", lambda _: to_multi_agent_env(build()))
    groups = list(build().groups)
    config = (
        PPOConfig()
        .environment("ours")
        .env_runners(num_env_runners=0, rollout_fragment_length=30)
        .multi_agent(
            policies=set(groups), policy_mapping_fn=lambda agent, *_, **__: agent.rsplit("_", 1)[0]
        )
        .training(train_batch_size_per_learner=60, minibatch_size=30, num_epochs=1)
        .debugging(seed=0, log_level="ERROR")
    )
    algorithm = config.build_algo()
    try:
        for iteration in (1, 2):
            result = algorithm.train()
            assert result["num_env_steps_sampled_lifetime"] == 60 * iteration
        for group in groups:
            assert np.isfinite(result["learners"][group]["total_loss"])
    finally:
        algorithm.stop()


def test_importing_the_adapters_imports_no_ray() -> None:
    program = (
        "import sys\n"
        "for banned in ('ray', 'stable_baselines3'):\n    sys.modules[banned] = None\n"
        "import rl_markets.envs.adapters as a\n"
        "print(a.to_parallel_env.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "to_parallel_env", done.stderr
