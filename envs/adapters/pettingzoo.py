"""A market as a PettingZoo `ParallelEnv`, agent by agent."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from pettingzoo import ParallelEnv
from torch import Tensor

from rl_markets.envs.adapters.common import Agents, Seeds, to_array, to_tensor
from rl_markets.envs.deviation import DeviationMarket
from rl_markets.envs.market import Market, Step, TensorMarket
from rl_markets.errors import MarketError


def to_parallel_env(market: Market, *, seed: int = 0) -> MarketParallelEnv:
    """`market`, a single world, as a PettingZoo `ParallelEnv` with agents `GROUP_0`, `GROUP_1`, ...

    Args:
        market: of one world; its episodes then start at clock 0.
        seed: source of the episodes' seeds where `reset` is not given one.
    """
    return MarketParallelEnv(market, seed)


class MarketParallelEnv(ParallelEnv):  # type: ignore[misc]
    """A single world, agent by agent. Agents that leave early are gone from `agents`; all are at
    the episode's end."""

    def __init__(self, market: Market, seed: int) -> None:
        if market.worlds != 1:
            raise ValueError(
                f"the market has {market.worlds} worlds: expected 1, one agent's name cannot stand "
                "for more"
            )
        inner = market
        while isinstance(inner, DeviationMarket):
            inner = inner.market
        if isinstance(inner, TensorMarket):
            inner.stagger = False
        self.market = market
        self._seeds = Seeds(seed)
        self.metadata = {
            "name": type(market).__name__,
            "render_modes": [],
            "is_parallelizable": True,
        }
        self.render_mode = None
        self._place = {
            f"{name}_{i}": (name, i)
            for name, group in market.groups.items()
            for i in range(group.count)
        }
        self.possible_agents = list(self._place)
        self.agents = list[str]()
        spaces = {agent: market.groups[group] for agent, (group, _) in self._place.items()}
        self.observation_spaces = {
            agent: copy.deepcopy(group.observation_space) for agent, group in spaces.items()
        }
        self.action_spaces = {
            agent: copy.deepcopy(group.action_space) for agent, group in spaces.items()
        }
        self._last_state: Tensor | None = None

    def observation_space(self, agent: str) -> Any:
        """Always the same object, so that it can be seeded."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        """Always the same object, so that it can be seeded."""
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Agents, Agents]:
        """A fresh episode: (observations, infos)."""
        observations = self.market.reset(self._seeds.next(seed))
        self.agents = list(self.possible_agents)
        self._last_state = None
        return self._observations(observations, self.agents), {agent: {} for agent in self.agents}

    def step(self, actions: Mapping[str, Any]) -> tuple[Agents, Agents, Agents, Agents, Agents]:
        """(observations, rewards, terminations, truncations, infos) of the agents that acted.

        Raises:
            MarketError: where the episode is over, or an agent has no action.
        """
        live = self.agents
        if not live:
            raise MarketError("step before reset: the episode is over")
        step = self.market.step(self._actions(actions, live))
        terminated, truncated = self._flags(step, live)
        self.agents = [agent for agent in live if not terminated[agent] and not truncated[agent]]
        rewards = {group: to_array(reward[0]) for group, reward in step.rewards.items()}
        paid = {
            agent: float(rewards[self._place[agent][0]][self._place[agent][1]]) for agent in live
        }
        last = step.observations
        if step.ended is not None:
            last = step.ended.observations
            self._last_state = step.ended.global_state
        return (
            self._observations(last, live),
            paid,
            terminated,
            truncated,
            {agent: {} for agent in live},
        )

    def state(self) -> NDArray[np.float32]:
        """The market's global state `[width]`; after the last step the episode's last one.

        Raises:
            MarketError: where the market gives none.
        """
        return to_array(
            (self.market.global_state() if self._last_state is None else self._last_state)[0],
            np.float32,
        )

    def close(self) -> None:
        """Closes the market."""
        self.market.close()

    def _flags(self, step: Step, live: list[str]) -> tuple[Agents, Agents]:
        if step.ended is not None:
            terminated = bool(step.ended.terminated[0])
            return dict.fromkeys(live, terminated), dict.fromkeys(live, not terminated)
        agent_done = {group: mask[0].tolist() for group, mask in (step.agent_done or {}).items()}
        gone = {
            agent: group in agent_done and agent_done[group][i]
            for agent, (group, i) in self._place.items()
            if agent in live
        }
        return gone, dict.fromkeys(live, False)

    def _actions(self, actions: Mapping[str, Any], live: list[str]) -> dict[str, Tensor]:
        """Group -> `[1, agents, ...]`; those who left get an action that does not count."""
        if missing := [agent for agent in live if agent not in actions]:
            raise MarketError(
                f"no action for agent {missing[0]!r}: expected one for each of {len(live)} agents"
            )
        rows: dict[str, list[Any]] = {group: [] for group in self.market.groups}
        for agent, (group, _) in self._place.items():
            rows[group].append(
                actions[agent] if agent in live else _idle(self.action_spaces[agent])
            )
        spaces = {group: self.market.groups[group].action_space for group in rows}
        return {
            group: to_tensor(np.stack(row)[None], spaces[group], self.market)
            for group, row in rows.items()
        }

    def _observations(self, observations: Mapping[str, Tensor], agents: list[str]) -> Agents:
        dtypes = {name: group.observation_space.dtype for name, group in self.market.groups.items()}
        rows = {group: to_array(seen[0], dtypes[group]) for group, seen in observations.items()}
        return {
            agent: rows[self._place[agent][0]][self._place[agent][1]].copy() for agent in agents
        }


def _idle(space: Any) -> Any:
    """Some action of `space`."""
    if isinstance(space, gym.spaces.Discrete):
        return np.int64(space.start)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return space.start.copy()
    return np.clip(np.zeros_like(space.low), space.low, space.high)
