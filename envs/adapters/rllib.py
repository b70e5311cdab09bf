"""A market as an RLlib `MultiAgentEnv`, for RLlib's stock runner.

The one file of `envs` that imports ray.
"""

from __future__ import annotations

from typing import Any

from ray.rllib.env.multi_agent_env import MultiAgentEnv

from rl_markets.envs.adapters.common import Agents
from rl_markets.envs.adapters.pettingzoo import MarketParallelEnv
from rl_markets.envs.market import Market


def to_multi_agent_env(market: Market, *, seed: int = 0) -> MarketMultiAgentEnv:
    """`market`, a single world, as an RLlib `MultiAgentEnv` for its stock runner.

    Args:
        market: of one world.
        seed: as for `to_parallel_env`, whose agents these are.
    """
    return MarketMultiAgentEnv(MarketParallelEnv(market, seed))


class MarketMultiAgentEnv(MultiAgentEnv):  # type: ignore[misc]
    """A market's world for RLlib's own runner."""

    def __init__(self, env: MarketParallelEnv) -> None:
        self.env = env
        self.possible_agents = list(env.possible_agents)
        self.agents = list(env.possible_agents)
        self.observation_spaces = env.observation_spaces
        self.action_spaces = env.action_spaces
        super().__init__()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Agents, Agents]:
        """A fresh episode."""
        observations, infos = self.env.reset(seed, options)
        self.agents = list(self.env.agents)
        return observations, infos

    def step(self, action_dict: Agents) -> tuple[Agents, Agents, Agents, Agents, Agents]:
        """As `MarketParallelEnv`, and whether the episode is over for `__all__`."""
        # Those who act now: RLlib holds the names in the result against these.
        self.agents = list(self.env.agents)
        observations, rewards, terminated, truncated, infos = self.env.step(action_dict)
        over = not self.env.agents
        cut = any(truncated.values())
        terminated["__all__"] = over and not cut
        truncated["__all__"] = over and cut
        return observations, rewards, terminated, truncated, infos

    def close(self) -> None:
        """Closes the market."""
        self.env.close()
