"""Agents who stand side by side in one tensor, told apart as groups."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rl_markets.envs.market import Owned, Policy


class Seats:
    """Who sits where: the groups' agents one after the other along a tensor's second dimension.

    Args:
        counts: group -> its agents, in order.
    """

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = dict(counts)
        self.total = sum(self.counts.values())
        self._only: str | None = next(iter(self.counts)) if len(self.counts) == 1 else None

    def apart(self, values: Tensor) -> dict[str, Tensor]:
        """`[worlds, agents, ...]` as group -> `[worlds, agents of the group, ...]`; views."""
        if self._only is not None:
            return {self._only: values}
        return dict(zip(self.counts, values.split(list(self.counts.values()), 1), strict=True))

    def together(self, by_group: Mapping[str, Tensor]) -> Tensor:
        """The reverse of `apart`."""
        return by_group[self._only] if self._only is not None else torch.cat([by_group[g] for g in self.counts], 1)

    def policy(self, policies: Mapping[str, Policy]) -> Policy:
        """The groups' policies as one, on observations `[worlds, agents, ...]` of all; of one group, its own."""
        if self._only is not None:
            return policies[self._only]
        return lambda seen: self.together({g: policies[g](own) for g, own in self.apart(seen).items()})

    def owned(self, variable: str) -> dict[str, Owned]:
        """Group -> its agents' part of a state variable `[worlds, agents]`; see `Market.owned`."""
        found, start = {}, 0
        for group, count in self.counts.items():
            found[group] = Owned(variable, start, start + count)
            start += count
        return found
