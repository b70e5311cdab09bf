"""What adapters share: seeds of episodes, and tensors as arrays and back."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.market import Market
from rl_markets.errors import ActionError

Agents = dict[str, Any]
"""Agent's name -> what is its own."""


class Seeds:
    """One seed for each episode, drawn from a generator that starts with `seed`."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def next(self, given: int | None) -> int:
        """The seed given, from which all later ones follow, or the next one."""
        if given is not None:
            self._generator = np.random.default_rng(int(given))
            return int(given)
        return int(self._generator.integers(2**31))


def to_array(tensor: Tensor, dtype: Any = None) -> NDArray[Any]:
    """A copy of its own, on the CPU."""
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return array.astype(dtype or array.dtype)


def to_tensor(name: str, actions: Any, market: Market) -> Tensor:
    """A group's actions `[worlds, agents, ...]`, checked, on the market's device.

    Raises:
        ActionError: the agent, its value, and its space.
    """
    space = market.groups[name].action_space
    array = np.asarray(actions)
    if array.dtype.kind not in "iuf":
        raise ActionError(f"actions of group {name!r}: found {array.dtype}, expected numbers")
    if isinstance(space, gym.spaces.Box):
        array = array.astype(space.dtype)  # bounds are of this type, too
    market.border.check_group(name, torch.from_numpy(np.ascontiguousarray(array)))
    return torch.from_numpy(np.ascontiguousarray(array, dtype=space.dtype)).to(market.device)
