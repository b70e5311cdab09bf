"""A foreign environment, as somebody else would write it: firms that choose quantities.

The duopoly of Cournot (1838), with a demand that moves.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

Vector = NDArray[np.float32]


class Cournot(ParallelEnv):  # type: ignore[misc]
    """`firms` sell the same good at price a - Q.

    Demand a is drawn anew each period and seen by all.
    Observation `[1]`: a in [.5, 1]. Action `[1]`: quantity q in [0, 1]. Reward: q (a - Q).
    In equilibrium each sells a / (firms + 1).
    """

    metadata: ClassVar[dict[str, Any]] = {
        "name": "cournot",
        "render_modes": [],
        "is_parallelizable": True,
    }

    def __init__(self, firms: int = 2, periods: int = 16) -> None:
        self.possible_agents = [f"firm_{i}" for i in range(firms)]
        self.agents: list[str] = []
        self.periods = periods
        self.period = 0
        self.demand = 1.0
        self.random = np.random.default_rng()
        self._observation = gym.spaces.Box(0.5, 1.0, (1,), np.float32)
        self._actions = {
            agent: gym.spaces.Box(0.0, 1.0, (1,), np.float32) for agent in self.possible_agents
        }

    def observation_space(self, agent: str) -> gym.spaces.Box:
        """Demand."""
        return self._observation

    def action_space(self, agent: str) -> gym.spaces.Box:
        """A quantity."""
        return self._actions[agent]

    def reset(
        self, seed: int | None = None, options: Any = None
    ) -> tuple[dict[str, Vector], dict[str, Any]]:
        """The first period."""
        if seed is not None:
            self.random = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self.period = 0
        return self._observe(), {agent: {} for agent in self.agents}

    def _observe(self) -> dict[str, Vector]:
        self.demand = self.random.uniform(0.5, 1.0)
        return {agent: np.array([self.demand], np.float32) for agent in self.agents}

    def step(self, actions: dict[str, Vector]) -> Any:
        """Sells, then draws the next period's demand."""
        price = self.demand - sum(float(actions[agent][0]) for agent in self.agents)
        rewards = {agent: float(actions[agent][0]) * price for agent in self.agents}
        self.period += 1
        over = self.period >= self.periods
        observations = self._observe()
        flags = [dict.fromkeys(self.agents, flag) for flag in (False, over)]
        infos: dict[str, Any] = {agent: {} for agent in self.agents}
        self.agents = [] if over else self.agents
        return observations, rewards, *flags, infos

    def state(self) -> Vector:
        """Demand."""
        return np.array([self.demand], np.float32)
