"""The border of a market: actions outside their space are refused before anything moves.

A negative index would count from the end, a fraction be cut off, a NaN poison the state for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rl_markets.errors import ActionError

ROUNDING = 1e-6
"""Of a box's width: so far outside may be what somebody rescaled in single precision."""


class Border:
    """What the agents of some groups may do.

    Args:
        worlds: of the market.
        groups: group -> its `AgentGroup`.
    """

    def __init__(self, worlds: int, groups: Mapping[str, Any]) -> None:
        self._limits = {
            name: _Limits((worlds, group.count), group.action_space)
            for name, group in groups.items()
        }

    def check(self, actions: Mapping[str, Tensor]) -> None:
        """Actions of every group, `[worlds, agents, ...]`, are inside their spaces.

        Values on another device than the CPU are not read: that would wait for the device with
        every step. Adapters check before they send them there.

        Raises:
            ActionError: the agent, its value, and its space.
        """
        if actions.keys() != self._limits.keys():
            _refuse_groups(actions, self._limits)
        for name in self._limits:
            self.check_group(name, actions[name])

    def check_group(self, name: str, actions: Tensor) -> None:
        """The actions of one group `[worlds, agents, ...]`; see `check`."""
        self._limits[name].check(name, actions)


class _Limits:
    """The bounds of one group's actions."""

    def __init__(self, lead: tuple[int, int], space: Any) -> None:
        self.space = space
        self.whole = not isinstance(space, gym.spaces.Box)
        self.shape = (*lead, *space.shape)
        if isinstance(space, gym.spaces.Box):
            last_digit = np.spacing(np.maximum(abs(space.low), abs(space.high)))
            slack = ROUNDING * (space.high - space.low) + 2 * last_digit
            low = space.low - slack
            high = space.high + slack
        else:
            low = space.start
            high = low + (space.n if isinstance(space, gym.spaces.Discrete) else space.nvec) - 1
        self.low = torch.as_tensor(np.array(low))
        self.high = torch.as_tensor(np.array(high))
        # Inside these is inside for sure, which takes one pass to tell.
        self.inner = (float(self.low.max()), float(self.high.min()))

    def check(self, name: str, value: Tensor) -> None:
        """One group's actions."""
        if not isinstance(value, Tensor) or value.shape != self.shape:
            shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ActionError(
                f"actions of group {name!r}: found {shape}, expected a tensor {list(self.shape)}"
            )
        if value.device.type != "cpu":
            return
        value = value.detach()
        if value.dtype == torch.bool or value.is_complex():
            raise ActionError(f"actions of group {name!r}: found {value.dtype}, expected numbers")
        array = value.numpy()  # numpy's reductions take half of torch's time
        inside = array.min() >= self.inner[0] and array.max() <= self.inner[1]
        if not inside or (self.whole and value.is_floating_point()):
            self._check_each(name, value)

    def _check_each(self, name: str, value: Tensor) -> None:
        """The first agent outside, if there is one."""
        inside = (value >= self.low) & (value <= self.high)
        if self.whole and value.is_floating_point():
            inside &= value == value.round()
        if bool(inside.all()):
            return
        world, agent = (~inside).reshape(*self.shape[:2], -1).any(-1).nonzero()[0].tolist()
        raise ActionError(
            f"action of agent '{name}_{agent}' in world {world}: "
            f"found {value[world, agent].tolist()!s:.100}, expected one of {self.space}"
        )


def _refuse_groups(actions: Mapping[str, Tensor], groups: Mapping[str, Any]) -> NoReturn:
    missing = [name for name in groups if name not in actions]
    unknown = [name for name in actions if name not in groups]
    found = f"none for group {missing[0]!r}" if missing else f"unknown group {unknown[0]!r}"
    raise ActionError(f"actions: {found}; expected {', '.join(groups)}")
