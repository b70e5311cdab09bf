"""Our markets in the clothes of other libraries: PettingZoo, Gymnasium, Stable-Baselines3, RLlib's own runner.

A market restarts its worlds inside `step`; each adapter hands on the true final observations, and starts episodes from
a seed: the one given to `reset`, otherwise one drawn from a generator that the last given seed started. Only what an
adapter is for needs its library: this module imports without ray and without Stable-Baselines3.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from pettingzoo import ParallelEnv
from torch import Tensor

from rl_markets.envs.deviation import DeviationMarket
from rl_markets.envs.market import Market, MarketError, Policy, Step, TensorMarket

Agents = dict[str, Any]
"""Agent's name -> what is its own."""


def to_parallel_env(market: Market, *, seed: int = 0) -> MarketParallelEnv:
    """`market`, a single world, as a PettingZoo `ParallelEnv` with agents `GROUP_0`, `GROUP_1`, ...

    Args:
        market: of one world; its episodes then start at clock 0.
        seed: source of the episodes' seeds where `reset` is not given one.
    """
    return MarketParallelEnv(market, seed)


def to_vector_env(
    market: Market, group: str | None = None, *, others: Mapping[str, Policy] | None = None, seed: int = 0
) -> MarketVectorEnv:
    """All agents of one group, in all worlds, as the rows of a Gymnasium `VectorEnv`: they share a policy.

    Args:
        market: any number of worlds.
        group: whose agents; may be left out where there is only one.
        others: what every other group follows, such as `market.scripts()`.
        seed: source of seeds where `reset` is not given one.
    """
    return MarketVectorEnv(market, group, others or {}, seed)


def to_sb3(
    market: Market, group: str | None = None, *, others: Mapping[str, Policy] | None = None, seed: int = 0
) -> Any:
    """The rows of `to_vector_env` as a Stable-Baselines3 `VecEnv`, which does not take Gymnasium's."""
    return _sb3_class()(MarketVectorEnv(market, group, others or {}, seed))


def to_multi_agent_env(market: Market, *, seed: int = 0) -> Any:
    """`market`, a single world, as an RLlib `MultiAgentEnv` for its stock runner; agents as in `to_parallel_env`."""
    return _rllib_class()(MarketParallelEnv(market, seed))


class _Seeds:
    """One seed for each episode."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def next(self, given: int | None) -> int:
        """The seed given, from which all later ones follow, or the next one."""
        if given is not None:
            self._generator = np.random.default_rng(int(given))
            return int(given)
        return int(self._generator.integers(2**31))


def _array(tensor: Tensor, dtype: Any = None) -> NDArray[Any]:
    """A copy of its own, on the CPU."""
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array.astype(dtype or array.dtype)


# -- PettingZoo --------------------------------------------------------------------------------------------------------


class MarketParallelEnv(ParallelEnv):  # type: ignore[misc]
    """A single world, agent by agent. Agents that leave early are gone from `agents`; all are at the episode's end."""

    def __init__(self, market: Market, seed: int) -> None:
        if market.worlds != 1:
            raise ValueError(
                f"the market has {market.worlds} worlds: expected 1, one agent's name cannot stand for more"
            )
        inner = market
        while isinstance(inner, DeviationMarket):
            inner = inner.market
        if isinstance(inner, TensorMarket):
            inner.stagger = False
        self.market, self._seeds = market, _Seeds(seed)
        self.metadata = {"name": type(market).__name__, "render_modes": [], "is_parallelizable": True}
        self.render_mode = None
        self._place = {f"{name}_{i}": (name, i) for name, group in market.groups.items() for i in range(group.count)}
        self.possible_agents, self.agents = list(self._place), list[str]()
        spaces = {agent: market.groups[group] for agent, (group, _) in self._place.items()}
        self.observation_spaces = {agent: copy.deepcopy(group.observation_space) for agent, group in spaces.items()}
        self.action_spaces = {agent: copy.deepcopy(group.action_space) for agent, group in spaces.items()}
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
        self.agents, self._last_state = list(self.possible_agents), None
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
        rewards = {group: _array(reward[0]) for group, reward in step.rewards.items()}
        paid = {agent: float(rewards[self._place[agent][0]][self._place[agent][1]]) for agent in live}
        last = step.observations
        if step.ended is not None:
            last, self._last_state = step.ended.observations, step.ended.global_state
        return self._observations(last, live), paid, terminated, truncated, {agent: {} for agent in live}

    def state(self) -> NDArray[np.float32]:
        """The market's global state `[width]`; after the last step the episode's last one.

        Raises:
            MarketError: where the market gives none.
        """
        return _array((self.market.global_state() if self._last_state is None else self._last_state)[0], np.float32)

    def close(self) -> None:
        """Closes the market."""
        self.market.close()

    def _flags(self, step: Step, live: list[str]) -> tuple[Agents, Agents]:
        if step.ended is not None:
            terminated = bool(step.ended.terminated[0])
            return dict.fromkeys(live, terminated), dict.fromkeys(live, not terminated)
        left = {group: mask[0].tolist() for group, mask in (step.left or {}).items()}
        gone = {agent: group in left and left[group][i] for agent, (group, i) in self._place.items() if agent in live}
        return gone, dict.fromkeys(live, False)

    def _actions(self, actions: Mapping[str, Any], live: list[str]) -> dict[str, Tensor]:
        """Group -> `[1, agents, ...]`; those who left get an action that does not count."""
        if missing := [agent for agent in live if agent not in actions]:
            raise MarketError(f"no action for agent {missing[0]!r}: expected one for each of {len(live)} agents")
        rows: dict[str, list[Any]] = {group: [] for group in self.market.groups}
        for agent, (group, _) in self._place.items():
            rows[group].append(actions[agent] if agent in live else _idle(self.action_spaces[agent]))
        spaces = {group: self.market.groups[group].action_space for group in rows}
        return {group: _tensor(np.stack(row)[None], spaces[group], self.market) for group, row in rows.items()}

    def _observations(self, observations: Mapping[str, Tensor], agents: list[str]) -> Agents:
        dtypes = {name: group.observation_space.dtype for name, group in self.market.groups.items()}
        rows = {group: _array(seen[0], dtypes[group]) for group, seen in observations.items()}
        return {agent: rows[self._place[agent][0]][self._place[agent][1]].copy() for agent in agents}


def _idle(space: Any) -> Any:
    """Some action of `space`."""
    if isinstance(space, gym.spaces.Discrete):
        return np.int64(space.start)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return space.start.copy()
    return np.clip(np.zeros_like(space.low), space.low, space.high)


def _tensor(actions: Any, space: Any, market: Market) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(actions, dtype=space.dtype)).to(market.device)


# -- Gymnasium ---------------------------------------------------------------------------------------------------------


class MarketVectorEnv(gym.vector.VectorEnv):  # type: ignore[misc]
    """Rows `[worlds * agents]` of one group, world by world; restarts in the same step (`final_obs` in infos).

    An agent that leaves early is terminated; until its world ends, its row pays nothing, and `infos["acted"]` is False.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}  # noqa: RUF012 - Gymnasium's way

    def __init__(self, market: Market, group: str | None, others: Mapping[str, Policy], seed: int) -> None:
        self.market, self._seeds, groups = market, _Seeds(seed), list(market.groups)
        if group not in groups and (group is not None or len(groups) > 1):
            raise ValueError(f"group {group!r}: expected one of {', '.join(groups)}")
        self.group = groups[0] if group is None else group
        if unruled := [name for name in groups if name != self.group and name not in others]:
            raise ValueError(f"others: nobody plays group {unruled[0]!r}; expected a policy for it")
        self.others = {name: others[name] for name in groups if name != self.group}
        size = market.groups[self.group]
        self.num_envs, self._lead = market.worlds * size.count, (market.worlds, size.count)
        self.single_observation_space, self.single_action_space = size.observation_space, size.action_space
        self.observation_space = batch_space(size.observation_space, self.num_envs)
        self.action_space = batch_space(size.action_space, self.num_envs)
        self._seen: dict[str, Tensor] = {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[Any], dict[str, Any]]:
        """Fresh episodes in every world: (observations `[rows, ...]`, {}).

        Raises:
            ValueError: for a seed for each row, or a mask of rows: a world's agents start together.
        """
        if isinstance(seed, list | tuple):
            raise ValueError("seed is a list: expected one number, the rows are agents of the same worlds")
        if options and "reset_mask" in options:
            raise ValueError("options.reset_mask: rows cannot be reset alone, they are agents of the same worlds")
        super().reset(seed=seed)
        self._seen = self.market.reset(self._seeds.next(seed))
        return self._rows(self._seen), {}

    def step(
        self, actions: Any
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """(observations, rewards, terminations, truncations, infos), arrays `[rows, ...]`."""
        shape = (*self._lead, *self.single_action_space.shape)
        with torch.no_grad():
            profile = {name: policy(self._seen[name]) for name, policy in self.others.items()}
        profile[self.group] = _tensor(np.reshape(actions, shape), self.single_action_space, self.market)
        step = self.market.step(profile)
        self._seen = step.observations
        acted, left = self._mask(step.acted, True), self._mask(step.left, False)
        terminated, truncated = left.copy(), np.zeros_like(left)
        last = self._rows(step.observations)
        if step.ended is not None:
            over = _array(step.ended.worlds)
            true = _array(step.ended.terminated)[:, None] | ~acted[over]  # who had left before has nothing to come
            terminated[over], truncated[over] = true, ~true
            last.reshape(*self._lead, *last.shape[1:])[over] = _array(step.ended.observations[self.group])
        infos = self._infos((terminated | truncated).ravel(), last)
        if step.acted is not None and self.group in step.acted:
            infos |= {"acted": acted.ravel(), "_acted": np.ones(self.num_envs, bool)}
        rewards = _array(step.rewards[self.group], np.float32).ravel()
        return self._rows(step.observations), rewards, terminated.ravel(), truncated.ravel(), infos

    def close_extras(self, **_: Any) -> None:
        """Closes the market."""
        self.market.close()

    def _rows(self, observations: Mapping[str, Tensor]) -> NDArray[Any]:
        return _array(observations[self.group].flatten(0, 1), self.single_observation_space.dtype)

    def _mask(self, masks: Mapping[str, Tensor] | None, otherwise: bool) -> NDArray[np.bool_]:
        """`[worlds, agents]`."""
        given = (masks or {}).get(self.group)
        return np.full(self._lead, otherwise) if given is None else _array(given)

    def _infos(self, done: NDArray[np.bool_], last: NDArray[Any]) -> dict[str, Any]:
        """As Gymnasium's own vector environments in the same-step mode."""
        if not done.any():
            return {}
        final = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(done):
            final[row] = last[row].copy()
        return {"final_obs": final, "_final_obs": done.copy(), "final_info": {}, "_final_info": done.copy()}


# -- Stable-Baselines3 -------------------------------------------------------------------------------------------------


class _SB3:
    """The methods of a `VecEnv`; `_sb3_class` puts the base class beside them."""

    num_envs: int

    def __init__(self, env: MarketVectorEnv) -> None:
        self.env, self._actions = env, None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)  # type: ignore[call-arg]

    def reset(self) -> NDArray[Any]:
        """Fresh episodes; `seed` was called for the first of the seeds, if at all."""
        seeds: Any = self
        observations, _ = self.env.reset(seed=seeds._seeds[0])
        seeds._reset_seeds()
        seeds._reset_options()
        return observations

    def step_async(self, actions: Any) -> None:
        """Notes the actions."""
        self._actions = actions

    def step_wait(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], list[dict[str, Any]]]:
        """(observations, rewards, dones, infos)."""
        observations, rewards, terminated, truncated, found = self.env.step(self._actions)
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": cut} for cut in (truncated & ~terminated).tolist()]
        for row in np.flatnonzero(terminated | truncated):
            infos[row]["terminal_observation"] = found["final_obs"][row]
        if "acted" in found:
            for info, acted in zip(infos, found["acted"].tolist(), strict=True):
                info["acted"] = acted
        return observations, rewards, terminated | truncated, infos

    def close(self) -> None:
        """Closes the market."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same for each row: they are agents of one market."""
        return [getattr(self.env, attr_name)] * len(self._get_indices(indices))  # type: ignore[attr-defined]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Sets it for all rows."""
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Refused: a row is an agent, and has no environment of its own."""
        raise NotImplementedError(f"{method_name}: the rows are agents of one market, call the market itself")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No row is."""
        return [False] * len(self._get_indices(indices))  # type: ignore[attr-defined]


@functools.cache
def _sb3_class() -> Any:
    from stable_baselines3.common.vec_env import VecEnv

    return type("MarketVecEnv", (_SB3, VecEnv), {"__doc__": "A market's agents as the rows of a `VecEnv`."})


# -- RLlib -------------------------------------------------------------------------------------------------------------


class _RLlib:
    """The methods of a `MultiAgentEnv`; `_rllib_class` puts the base class beside them."""

    def __init__(self, env: MarketParallelEnv) -> None:
        self.env, self.possible_agents, self.agents = env, list(env.possible_agents), list(env.possible_agents)
        self.observation_spaces, self.action_spaces = env.observation_spaces, env.action_spaces
        super().__init__()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Agents, Agents]:
        """A fresh episode."""
        found = self.env.reset(seed, options)
        self.agents = list(self.env.agents)
        return found

    def step(self, action_dict: Agents) -> tuple[Agents, Agents, Agents, Agents, Agents]:
        """As `MarketParallelEnv`, and whether the episode is over for `__all__`."""
        self.agents = list(self.env.agents)  # those who act now: RLlib holds the names in the result against these
        observations, rewards, terminated, truncated, infos = self.env.step(action_dict)
        over, cut = not self.env.agents, any(truncated.values())
        terminated["__all__"], truncated["__all__"] = over and not cut, over and cut
        return observations, rewards, terminated, truncated, infos

    def close(self) -> None:
        """Closes the market."""
        self.env.close()


@functools.cache
def _rllib_class() -> Any:
    from ray.rllib.env.multi_agent_env import MultiAgentEnv

    return type("MarketMultiAgentEnv", (_RLlib, MultiAgentEnv), {"__doc__": "A market's world for RLlib's own runner."})
