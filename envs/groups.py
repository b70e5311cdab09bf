"""Agents of several groups side by side in one tensor: joined along the agents, and split again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rl_markets.envs.market import Owned, PolicyFunction


class JoinedGroups:
    """The groups' agents one after the other along a tensor's second dimension, `[worlds, agents,
    ...]`.

    Args:
        counts: group -> its agents in each world, in order.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = dict(counts)
        self.total = sum(self.counts.values())
        self._only: str | None = next(iter(self.counts)) if len(self.counts) == 1 else None

    def join(self, by_group: Mapping[str, Tensor]) -> Tensor:
        """Group -> `[worlds, agents of the group, ...]` as one tensor; of a single group its own,
        not copied."""
        if self._only is not None:
            return by_group[self._only]
        return torch.cat([by_group[group] for group in self.counts], 1)

    def split(self, values: Tensor) -> dict[str, Tensor]:
        """The reverse of `join`; views."""
        if self._only is not None:
            return {self._only: values}
        return dict(zip(self.counts, values.split(list(self.counts.values()), 1), strict=True))

    def start(self, group: str) -> int:
        """Place of a group's first agent among all."""
        start = 0
        for name, count in self.counts.items():
            if name == group:
                return start
            start += count
        raise KeyError(group)

    def agent(self, place: int) -> tuple[str, int]:
        """Group, and number in it, of the agent at a place among all."""
        for group, count in self.counts.items():
            if place < count:
                return group, place
            place -= count
        raise IndexError(place)

    def policy(self, policies: Mapping[str, PolicyFunction]) -> PolicyFunction:
        """The groups' policies as one, on joined observations; of a single group, its own."""
        if self._only is not None:
            return policies[self._only]
        return lambda observations: self.join(
            {group: policies[group](own) for group, own in self.split(observations).items()}
        )

    def owned(self, variable: str) -> dict[str, Owned]:
        """Group -> its agents' part of a state variable `[worlds, agents]`; see `Market.owned`."""
        starts = {group: self.start(group) for group in self.counts}
        return {
            group: Owned(variable, starts[group], starts[group] + count)
            for group, count in self.counts.items()
        }
