"""Many hand-written worlds as a `VecEnv`: each household a slot.

So the paper trains by Stable-Baselines3. The only module that imports it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from benchmarks.speed import economy
from benchmarks.speed.by_hand import ACTION_SPACE, OBSERVATION_SPACE, Array, Economy
from rl_markets.envs.households.parameters import HouseholdsParameters

__all__ = ["PPO", "SAC", "HandWrittenVecEnv", "networks"]


class HandWrittenVecEnv(Economy, VecEnv):  # type: ignore[misc]
    """Slots world by world, household by household; worlds restart one by one, in the same step."""

    def __init__(self, parameters: HouseholdsParameters, worlds: int, seed: int = 0) -> None:
        Economy.__init__(self, parameters, seed)
        VecEnv.__init__(self, worlds * parameters.households, OBSERVATION_SPACE, ACTION_SPACE)
        self.worlds = worlds

    def reset(self) -> Array:
        """Fresh episodes; clocks are spread, so that worlds do not end together."""
        n = self.p.households
        self.k = np.empty((self.worlds, n), np.float32)
        self.l = np.empty((self.worlds, n), np.float32)
        self.z = np.empty((self.worlds, 1), np.float32)
        self._start(np.arange(self.worlds))
        self.t = self.rng.integers(self.p.episode_length, size=self.worlds)
        return self.features().reshape(self.num_envs, 7)

    def _start(self, worlds: Array) -> None:
        size = (len(worlds), 1)
        self.k[worlds] = np.exp(self.rng.uniform(self.low, self.high, size))
        self.l[worlds] = self.rng.uniform(0.01, 0.99, size)
        self.z[worlds] = self.stationary * self.rng.standard_normal(size)

    def step_async(self, actions: Array) -> None:
        """Notes the actions."""
        self._actions = actions

    def step_wait(self) -> tuple[Array, Array, Array, list[dict[str, Any]]]:
        """One period in every world."""
        n = self.p.households
        innovation = self.rng.standard_normal((self.worlds, 1), np.float32)
        rewards = self.advance(self._actions.reshape(self.worlds, n, 2), innovation).ravel()
        self.t += 1
        observations = self.features()
        ended = np.flatnonzero(self.t >= self.p.episode_length)
        infos: list[dict[str, Any]] = [{}] * self.num_envs  # one for all: nobody writes to it
        if len(ended):
            slots = (ended[:, None] * n + np.arange(n)).ravel()
            last_observations = observations[ended].reshape(-1, 7)
            for slot, last in zip(slots, last_observations, strict=True):
                # where the library looks for them, to bootstrap from what the clock cut
                infos[slot] = {"terminal_observation": last, "TimeLimit.truncated": True}
            self._start(ended)
            self.t[ended] = 0
            observations[ended] = self.features()[ended]
        dones = np.zeros((self.worlds, n), bool)
        dones[ended] = True
        return observations.reshape(self.num_envs, 7), rewards, dones.ravel(), infos

    def close(self) -> None:
        """Nothing to close."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Asked for the render mode only."""
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Not asked for."""

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Not asked for."""
        raise NotImplementedError

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """None is."""
        return [False] * self.num_envs


def networks() -> dict[str, Any]:
    """`policy_kwargs` with our networks."""
    return {"net_arch": list(economy.SIZE.hidden), "activation_fn": nn.Tanh}
