"""A group's agents as the rows of a Stable-Baselines3 `VecEnv`.

The one file that needs Stable-Baselines3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from rl_markets.envs.adapters.gymnasium import MarketVectorEnv
from rl_markets.envs.market import Market, PolicyFunction


def to_sb3(
    market: Market,
    group: str | None = None,
    *,
    others: Mapping[str, PolicyFunction] | None = None,
    seed: int = 0,
) -> MarketVecEnv:
    """The rows of `to_vector_env` as a Stable-Baselines3 `VecEnv`.

    Stable-Baselines3 does not take Gymnasium's. The arguments are those of `to_vector_env`.
    """
    return MarketVecEnv(MarketVectorEnv(market, group, others or {}, seed))


class MarketVecEnv(VecEnv):  # type: ignore[misc]
    """A market's agents as the rows of a `VecEnv`."""

    num_envs: int

    def __init__(self, env: MarketVectorEnv) -> None:
        self.env = env
        self._actions = None
        spaces = (env.single_observation_space, env.single_action_space)
        super().__init__(env.num_envs, *spaces)  # type: ignore[call-arg]

    def reset(self) -> NDArray[Any]:
        """Fresh episodes; `seed` was called for the first of the seeds, if at all."""
        # Stable-Baselines3 notes seeds and options for the next reset, which spends them.
        seeds: Any = self
        observations, _ = self.env.reset(seed=seeds._seeds[0])
        seeds._reset_seeds()
        seeds._reset_options()
        return observations

    def step_async(self, actions: Any) -> None:
        """Notes the actions."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_], list[dict[str, Any]]]:
        """(observations, rewards, dones, infos)."""
        observations, rewards, terminated, truncated, batch = self.env.step(self._actions)
        done = terminated | truncated
        cut = (truncated & ~terminated).tolist()
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": row_cut} for row_cut in cut]
        for row in np.flatnonzero(done):
            infos[row]["terminal_observation"] = batch["final_obs"][row]
        if "active" in batch:
            for info, active in zip(infos, batch["active"].tolist(), strict=True):
                info["active"] = active
        return observations, rewards, done, infos

    def close(self) -> None:
        """Closes the market."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The same for each row: they are agents of one market."""
        rows = self._get_indices(indices)  # type: ignore[attr-defined]
        return [getattr(self.env, attr_name)] * len(rows)

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Sets it for all rows."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Refused: a row is an agent, and has no environment of its own."""
        raise NotImplementedError(
            f"{method_name}: the rows are agents of one market, call the market itself"
        )

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No row is."""
        return [False] * len(self._get_indices(indices))  # type: ignore[attr-defined]
