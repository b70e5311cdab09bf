"""The household economy as one would write it for RLlib by hand: numpy, one world, dictionaries by agent.

It is the fair opponent of our runner in `rl-markets bench` (faster for one world than tensors are), and, being written
apart from the market, a check of it in the tests.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rl_markets.envs.households.parameters import HouseholdsParameters


class HandWrittenHouseholds(MultiAgentEnv):  # type: ignore[misc]
    """Identical households (kappa = lambda = 1), observed as the market's `log` features; actions in [.01, .99]."""

    def __init__(self, parameters: HouseholdsParameters, seed: int = 0) -> None:
        super().__init__()
        self.p, self.rng = parameters, np.random.default_rng(seed)
        self.possible_agents = [f"households_{i}" for i in range(parameters.households)]
        self.agents = list(self.possible_agents)
        observation = gym.spaces.Box(-np.inf, np.inf, (7,), np.float32)
        action = gym.spaces.Box(0.01, 0.99, (2,), np.float32)
        self.observation_spaces = dict.fromkeys(self.agents, observation)
        self.action_spaces = dict.fromkeys(self.agents, action)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """One level of capital for all, log-uniform, and any labour."""
        low, high = np.log(self.p.initial_capital)
        self.k = np.full(len(self.agents), np.exp(self.rng.uniform(low, high)))
        self.l = np.full(len(self.agents), self.rng.uniform(0.01, 0.99))
        self.z, self.t = self.rng.normal() * self.p.sigma / np.sqrt(1 - self.p.rho**2), 0
        return self._observations(), {}

    def step(self, action_dict: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """One period."""
        rewards = self.advance(np.stack([action_dict[a] for a in self.agents]), self.rng.normal())
        self.t += 1
        over = {"__all__": self.t >= self.p.episode_length}
        return self._observations(), dict(zip(self.agents, rewards.tolist(), strict=True)), {"__all__": False}, over, {}

    def advance(self, actions: np.ndarray[Any, Any], innovation: float) -> np.ndarray[Any, Any]:
        """The period's arithmetic: actions `[n, 2]` to rewards `[n]`."""
        p = self.p
        share, self.l = np.clip(actions, 0.01, 0.99).T
        K, L = self.k.mean(), self.l.mean()
        Y = np.exp(self.z) * K**p.alpha * L ** (1 - p.alpha)
        wealth = (1 - p.alpha) * Y / L * self.l + p.alpha * Y / K * self.k + (1 - p.delta) * self.k
        c = share * wealth
        self.k = wealth - c
        self.z = p.rho * self.z + p.sigma * innovation
        rewards: np.ndarray[Any, Any] = np.log(c) + p.b * np.log(1 - self.l)
        return rewards

    def _observations(self) -> dict[str, Any]:
        seen = np.zeros((len(self.agents), 7), np.float32)
        log_K, log_L = np.log(self.k.mean()), np.log(self.l.mean())
        seen[:, 0], seen[:, 1] = np.log(self.k) - log_K, log_K / 2
        seen[:, 2], seen[:, 3], seen[:, 4] = np.log(self.l) - log_L, log_L, 10 * self.z
        return dict(zip(self.agents, seen, strict=True))
