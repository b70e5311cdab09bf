"""The household economy as one would write it by hand, in numpy: the fair opponent in `make bench`.

One world as dictionaries by agent for RLlib (faster for one world than tensors are), and many
worlds as arrays for Stable-Baselines3 (`by_hand_sb3`). Being written apart from the market, it is a
check of it in the tests.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rl_markets.envs.households.parameters import HouseholdsParameters

Array = NDArray[Any]

OBSERVATION_SPACE = gym.spaces.Box(-np.inf, np.inf, (7,), np.float32)
ACTION_SPACE = gym.spaces.Box(0.01, 0.99, (2,), np.float32)


class Economy:
    """Identical households (kappa = lambda = 1), observed as the market's `log` features.

    Actions are in [.01, .99].

    Attributes:
        k, l: capital and labour, `[households]` or `[worlds, households]`.
        z: log productivity, a number or `[worlds, 1]`.
    """

    k: Array
    l: Array  # noqa: E741 - labour
    z: Any

    def __init__(self, parameters: HouseholdsParameters, seed: int = 0) -> None:
        self.p = parameters
        self.rng = np.random.default_rng(seed)
        self.stationary = parameters.sigma / np.sqrt(1 - parameters.rho**2)
        self.low, self.high = (float(x) for x in np.log(parameters.starts))

    def advance(self, actions: Array, innovation: Any) -> Array:
        """A period: actions `[..., households, 2]` to rewards `[..., households]`."""
        p = self.p
        actions = np.clip(actions, 0.01, 0.99)
        share = actions[..., 0]
        self.l = actions[..., 1]
        K = self.k.mean(-1, keepdims=True)
        L = self.l.mean(-1, keepdims=True)
        Y = np.exp(self.z) * K**p.alpha * L ** (1 - p.alpha)
        wealth = (1 - p.alpha) * Y / L * self.l + (p.alpha * Y / K + (1 - p.delta)) * self.k
        c = share * wealth
        self.k = wealth - c
        self.z = p.rho * self.z + p.sigma * innovation
        rewards: Array = np.log(c) + p.b * np.log(1 - self.l)
        return rewards

    def features(self) -> Array:
        """Observations `[..., households, 7]`."""
        # the last two columns tell households apart, and stay 0 where all are alike
        observations = np.zeros((*self.k.shape, 7), np.float32)
        log_K = np.log(self.k.mean(-1, keepdims=True))
        log_L = np.log(self.l.mean(-1, keepdims=True))
        observations[..., 0] = np.log(self.k) - log_K
        observations[..., 1] = log_K / 2
        observations[..., 2] = np.log(self.l) - log_L
        observations[..., 3] = log_L
        observations[..., 4] = 10 * self.z
        return observations


class HandWrittenHouseholds(Economy, MultiAgentEnv):  # type: ignore[misc]
    """One world, for RLlib's own runner."""

    def __init__(self, parameters: HouseholdsParameters, seed: int = 0) -> None:
        MultiAgentEnv.__init__(self)
        Economy.__init__(self, parameters, seed)
        self.possible_agents = [f"households_{i}" for i in range(parameters.households)]
        self.agents = list(self.possible_agents)
        self.observation_spaces = dict.fromkeys(self.agents, OBSERVATION_SPACE)
        self.action_spaces = dict.fromkeys(self.agents, ACTION_SPACE)

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """One level of capital for all, log-uniform, and any labour."""
        self.k = np.full(len(self.agents), np.exp(self.rng.uniform(self.low, self.high)))
        self.l = np.full(len(self.agents), self.rng.uniform(0.01, 0.99))
        self.z = self.rng.normal() * self.stationary
        self.t = 0
        return self._observations(), {}

    def step(self, action_dict: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """One period."""
        rewards = self.advance(np.stack([action_dict[a] for a in self.agents]), self.rng.normal())
        self.t += 1
        by_agent = dict(zip(self.agents, rewards.tolist(), strict=True))
        terminated = {"__all__": False}
        truncated = {"__all__": self.t >= self.p.episode_length}
        return self._observations(), by_agent, terminated, truncated, {}

    def _observations(self) -> dict[str, Any]:
        return dict(zip(self.agents, self.features(), strict=True))
