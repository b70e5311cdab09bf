"""A group's agents, in all worlds, as the rows of a Gymnasium `VectorEnv`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.adapters.common import Seeds, to_array, to_tensor
from rl_markets.envs.market import Market, PolicyFunction
from rl_markets.errors import ActionError


def to_vector_env(
    market: Market,
    group: str | None = None,
    *,
    others: Mapping[str, PolicyFunction] | None = None,
    seed: int = 0,
) -> MarketVectorEnv:
    """All agents of one group, in all worlds, as the rows of a Gymnasium `VectorEnv`.

    They share a policy.

    Args:
        market: any number of worlds.
        group: whose agents; may be left out where there is only one.
        others: what every other group follows, such as `market.scripts()`.
        seed: source of seeds where `reset` is not given one.

    Raises:
        ValueError: for a group that the market has not, or another that nobody plays.
    """
    return MarketVectorEnv(market, group, others or {}, seed)


class MarketVectorEnv(gym.vector.VectorEnv):  # type: ignore[misc]
    """Rows `[worlds * agents]` of one group, world by world.

    Worlds restart in the same step (`final_obs` in infos). An agent that leaves early is
    terminated; until its world ends, its row pays nothing, and `infos["active"]` is False.
    """

    metadata: ClassVar[dict[str, Any]] = {
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": [],
    }

    def __init__(
        self, market: Market, group: str | None, others: Mapping[str, PolicyFunction], seed: int
    ) -> None:
        self.market = market
        self._seeds = Seeds(seed)
        groups = list(market.groups)
        if group not in groups and (group is not None or len(groups) > 1):
            raise ValueError(f"group {group!r}: expected one of {', '.join(groups)}")
        self.group = groups[0] if group is None else group
        if unplayed := [name for name in groups if name != self.group and name not in others]:
            raise ValueError(
                f"others: nobody plays group {unplayed[0]!r}; expected a policy for it"
            )
        self.others = {name: others[name] for name in groups if name != self.group}
        agents = market.groups[self.group]
        self.num_envs = market.worlds * agents.count
        self._lead = (market.worlds, agents.count)
        self.single_observation_space = agents.observation_space
        self.single_action_space = agents.action_space
        self.observation_space = batch_space(agents.observation_space, self.num_envs)
        self.action_space = batch_space(agents.action_space, self.num_envs)
        self._observations: dict[str, Tensor] = {}

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Fresh episodes in every world: (observations `[rows, ...]`, {}).

        Raises:
            ValueError: for a seed for each row, or a mask of rows: a world's agents start together.
        """
        if isinstance(seed, list | tuple):
            raise ValueError(
                "seed is a list: expected one number, the rows are agents of the same worlds"
            )
        if options and "reset_mask" in options:
            raise ValueError(
                "options.reset_mask: rows cannot be reset alone, they are agents of the same worlds"
            )
        super().reset(seed=seed)
        self._observations = self.market.reset(self._seeds.next(seed))
        return self._rows(self._observations), {}

    def step(
        self, actions: Any
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """(observations, rewards, terminations, truncations, infos), arrays `[rows, ...]`.

        Raises:
            ActionError: a row's action is outside its space; nothing has moved.
        """
        found = np.shape(actions)
        if found != self.action_space.shape:
            raise ActionError(f"actions: found {found}, expected {self.action_space.shape}")
        rows = np.reshape(actions, (*self._lead, *self.single_action_space.shape))
        with torch.no_grad():
            profile = {
                name: policy(self._observations[name]) for name, policy in self.others.items()
            }
        profile[self.group] = to_tensor(self.group, rows, self.market)
        step = self.market.step(profile)
        self._observations = step.observations
        active = self._mask(step.active, True)
        agent_done = self._mask(step.agent_done, False)
        terminated = agent_done.copy()
        truncated = np.zeros_like(agent_done)
        last = self._rows(step.observations)
        if step.ended is not None:
            over = to_array(step.ended.worlds)
            # Who had left before the world ended has nothing to come, even where it is cut.
            final = to_array(step.ended.terminated)[:, None] | ~active[over]
            terminated[over] = final
            truncated[over] = ~final
            by_world = last.reshape(*self._lead, *last.shape[1:])  # a view: `last` is written
            by_world[over] = to_array(step.ended.observations[self.group])
        infos = self._infos((terminated | truncated).ravel(), last)
        if step.active is not None and self.group in step.active:
            infos |= {"active": active.ravel(), "_active": np.ones(self.num_envs, bool)}
        rewards = to_array(step.rewards[self.group], np.float32).ravel()
        return self._rows(step.observations), rewards, terminated.ravel(), truncated.ravel(), infos

    def close_extras(self, **_: Any) -> None:
        """Closes the market."""
        self.market.close()

    def _rows(self, observations: Mapping[str, Tensor]) -> NDArray[Any]:
        return to_array(observations[self.group].flatten(0, 1), self.single_observation_space.dtype)

    def _mask(self, masks: Mapping[str, Tensor] | None, otherwise: bool) -> NDArray[np.bool_]:
        """The group's mask `[worlds, agents]`; `otherwise` for all where the market gives none."""
        mask = (masks or {}).get(self.group)
        return np.full(self._lead, otherwise) if mask is None else to_array(mask)

    def _infos(self, done: NDArray[np.bool_], last: NDArray[Any]) -> dict[str, Any]:
        """As Gymnasium's own vector environments in the same-step mode."""
        if not done.any():
            return {}
        final = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(done):
            final[row] = last[row].copy()
        return {
            "final_obs": final,
            "_final_obs": done.copy(),
            "final_info": {},
            "_final_info": done.copy(),
        }
