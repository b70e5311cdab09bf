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
from rl_markets.errors import ActionError, MarketError


def to_parallel_env(market: Market, *, seed: int = 0) -> MarketParallelEnv:
    """`market`, a single world, as a PettingZoo `ParallelEnv` with agents `GROUP_0`, `GROUP_1`, ...

    Args:
        market: of one world; its episodes then start at clock 0.
        seed: source of the episodes' seeds where `reset` is not given one.
    """
    return MarketParallelEnv(market, seed)


class MarketParallelEnv(ParallelEnv):  # type: ignore[misc]
    """A single world, agent by agent.

    Agents that leave early are gone from `agents`; all are at the episode's end.
    """

    def __init__(self, market: Market, seed: int) -> None:
        if market.worlds != 1:
            raise ValueError(
                f"the market has {market.worlds} worlds: expected 1, "
                "one agent's name cannot stand for more"
            )
        inner = market
        while isinstance(inner, DeviationMarket):
            inner = inner.market
        if isinstance(inner, TensorMarket):
            inner.stagger = False  # episodes start at clock 0
        self.market = market
        self._seeds = Seeds(seed)
        self.metadata = {
            "name": type(market).__name__,
            "render_modes": [],
            "is_parallelizable": True,
        }
        self.render_mode = None
        self._place: dict[str, tuple[str, int]] = {}
        # Each agent has spaces of its own, as each can be seeded.
        self.observation_spaces = {}
        self.action_spaces = {}
        for name, group in market.groups.items():
            for i in range(group.count):
                agent = f"{name}_{i}"
                self._place[agent] = (name, i)
                self.observation_spaces[agent] = copy.deepcopy(group.observation_space)
                self.action_spaces[agent] = copy.deepcopy(group.action_space)
        self.possible_agents = list(self._place)
        self.agents = list[str]()
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
            ActionError: where an action is outside its space; nothing has moved.
        """
        live = self.agents
        if not live:
            raise MarketError("step before reset: the episode is over")
        step = self.market.step(self._actions(actions, live))
        terminated, truncated = self._flags(step, live)
        self.agents = [agent for agent in live if not terminated[agent] and not truncated[agent]]
        by_group = {group: to_array(reward[0]) for group, reward in step.rewards.items()}
        places = {agent: self._place[agent] for agent in live}
        rewards = {agent: float(by_group[group][i]) for agent, (group, i) in places.items()}
        last = step.observations
        if step.ended is not None:
            last = step.ended.observations
            self._last_state = step.ended.global_state
        infos: Agents = {agent: {} for agent in live}
        return self._observations(last, live), rewards, terminated, truncated, infos

    def state(self) -> NDArray[np.float32]:
        """The market's global state `[width]`; after the last step the episode's last one.

        Raises:
            MarketError: where the market gives none.
        """
        state = self.market.global_state() if self._last_state is None else self._last_state
        return to_array(state[0], np.float32)

    def close(self) -> None:
        """Closes the market."""
        self.market.close()

    def _flags(self, step: Step, live: list[str]) -> tuple[Agents, Agents]:
        """Which of the agents that acted terminated, and which were truncated."""
        if step.ended is not None:
            # A world ends for all of its agents alike.
            terminated = bool(step.ended.terminated[0])
            return dict.fromkeys(live, terminated), dict.fromkeys(live, not terminated)
        agent_done = {group: mask[0].tolist() for group, mask in (step.agent_done or {}).items()}
        terminations = {
            agent: group in agent_done and agent_done[group][i]
            for agent, (group, i) in self._place.items()
            if agent in live
        }
        return terminations, dict.fromkeys(live, False)

    def _actions(self, actions: Mapping[str, Any], live: list[str]) -> dict[str, Tensor]:
        """Group -> `[1, agents, ...]`; those who left get an action that does not count."""
        if missing := [agent for agent in live if agent not in actions]:
            raise MarketError(
                f"no action for agent {missing[0]!r}: expected one for each of {len(live)} agents"
            )
        by_group: dict[str, list[Any]] = {group: [] for group in self.market.groups}
        for agent, (group, _) in self._place.items():
            space = self.action_spaces[agent]
            action = np.asarray(actions[agent]) if agent in live else _idle(space)
            if action.shape != space.shape:
                raise ActionError(
                    f"action of agent {agent!r}: found shape {list(action.shape)}, "
                    f"expected one of {space}"
                )
            by_group[group].append(action)
        return {
            name: to_tensor(name, np.stack(own)[None], self.market)
            for name, own in by_group.items()
        }

    def _observations(self, observations: Mapping[str, Tensor], agents: list[str]) -> Agents:
        """Each agent's own, a copy in the type of its space."""
        spaces = {name: group.observation_space for name, group in self.market.groups.items()}
        rows = {
            name: to_array(world[0], spaces[name].dtype) for name, world in observations.items()
        }
        places = {agent: self._place[agent] for agent in agents}
        return {agent: rows[group][i].copy() for agent, (group, i) in places.items()}


def _idle(space: Any) -> Any:
    """Some action of `space`."""
    if isinstance(space, gym.spaces.Discrete):
        return np.asarray(space.start)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return space.start.copy()
    return np.clip(np.zeros_like(space.low), space.low, space.high)
