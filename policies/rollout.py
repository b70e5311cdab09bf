"""What a runner hands to a learner: whole fragments of experience, one tensor a column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

OBSERVATIONS = "observations"
REWARDS = "rewards"
ACTIVE = "active"

Batch = dict[str, Tensor]
"""Columns of one policy, a row a step and agent.

`[rows, ...]`, or `[rows, agents, ...]` where each agent has a policy of its own.
"""


@dataclass(frozen=True)
class EpisodeEnds:
    """Where episodes end inside a fragment, sparsely.

    Attributes:
        step: `[m]` time index of the episode's last step.
        trajectory: `[m]` trajectory index.
        terminated: `[m]` bool; False where the value of `observations` must be bootstrapped.
        observations: `[m, ...]` the true final observations.
    """

    step: Tensor
    trajectory: Tensor
    terminated: Tensor
    observations: Tensor

    def within(self, low: int, high: int) -> EpisodeEnds:
        """The ends of trajectories `low <= i < high`, renumbered from zero."""
        keep = (self.trajectory >= low) & (self.trajectory < high)
        return EpisodeEnds(
            self.step[keep],
            self.trajectory[keep] - low,
            self.terminated[keep],
            self.observations[keep],
        )


@dataclass(frozen=True)
class Fragment:
    """One policy's experience: `T` steps of `N = worlds * agents` trajectories.

    Attributes:
        columns: name -> `[T, N, ...]`; `observations` has one row more, `[T + 1, N, ...]`.
        ends: of episodes.
        world: `[N]` which world each trajectory belongs to.
        separate: agents of a world where each has a policy of its own, None where one is shared.
            Trajectories lie world by world, agent by agent.
    """

    columns: dict[str, Tensor]
    ends: EpisodeEnds
    world: Tensor
    separate: int | None = None

    @property
    def steps(self) -> int:
        """T."""
        return int(self.columns[REWARDS].shape[0])

    @property
    def trajectories(self) -> int:
        """N."""
        return int(self.columns[REWARDS].shape[1])

    def within(self, low: int, high: int) -> Fragment:
        """The trajectories `low <= i < high`."""
        columns = {n: c[:, low:high] for n, c in self.columns.items()}
        return Fragment(columns, self.ends.within(low, high), self.world[low:high], self.separate)

    def share(self, low: int, high: int, whole: int) -> Fragment:
        """The trajectories from `low` to `high` in units of `whole`-ths.

        Separate policies' are shared out in whole worlds: each learner needs all agents' rows.
        """
        unit = self.separate or 1
        units = self.trajectories // unit
        return self.within(units * low // whole * unit, units * high // whole * unit)

    def by_agent(self, column: Tensor) -> Tensor:
        """`[T, N, ...]` as `[T, worlds, agents, ...]`; unchanged where policies are shared."""
        return column if self.separate is None else column.unflatten(1, (-1, self.separate))

    def rows(self, column: Tensor) -> Tensor:
        """`[T, N, ...]` as `[T * N, ...]`, or `[T * worlds, agents, ...]` of separate policies."""
        return self.by_agent(column).flatten(0, 1)

    def acting(self, batch: Batch) -> Batch:
        """Of all of the fragment's rows, those in which the agent acted.

        Separate policies keep all rows, as their agents lie side by side, and get the mask `active`
        to weigh them by.
        """
        if ACTIVE not in self.columns:
            return batch
        active = self.rows(self.columns[ACTIVE])
        if self.separate is not None:
            return {**batch, ACTIVE: active}
        return {name: column[active] for name, column in batch.items()}

    def values(self, network: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """A critic's values.

        Returns:
            of all observations `[T + 1, N]`, and of the final ones where episodes end `[m]`.
        """
        observations = self.columns[OBSERVATIONS]
        ends = self.ends
        values = network(self.by_agent(observations))
        if self.separate is None:
            return values, network(ends.observations)
        # a stack wants each agent's ends side by side: `[most ends of an agent, agents, ...]`
        agent = ends.trajectory % self.separate
        counts = torch.bincount(agent, minlength=self.separate)
        number = _numbers_within(agent, counts)
        most = int(counts.max()) if len(agent) else 0
        padded = observations.new_zeros((most, self.separate, *observations.shape[2:]))
        padded[number, agent] = ends.observations
        return values.flatten(1), network(padded)[number, agent]


def _numbers_within(group: Tensor, counts: Tensor) -> Tensor:
    """The running number, from 0, of each of the `[m]` entries among those of its own group.

    `counts` are the groups' numbers of entries.
    """
    number = torch.zeros_like(group)
    order = torch.argsort(group, stable=True)
    first = torch.cumsum(counts, 0) - counts
    number[order] = torch.arange(len(group), device=group.device) - first[group[order]]
    return number


class Rollout:
    """Fragments of all policies, and the market's states where the learner wants them.

    RLlib's `LearnerGroup` shards whatever has a length and can be sliced, so that a rollout stands
    in for a list of episodes. Slicing by *shares* (and not by rows) keeps groups of different sizes
    together: each learner gets the same share of every policy's trajectories.

    Args:
        fragments: by policy.
        worlds: of the runner.
        span: the shares held, of `SHARES`.
        states: name -> `[times, worlds, ...]`.
    """

    SHARES = 5040
    """Divisible by every number of learners up to ten."""

    def __init__(
        self,
        fragments: dict[str, Fragment],
        worlds: int,
        span: tuple[int, int] = (0, SHARES),
        states: dict[str, Tensor] | None = None,
    ) -> None:
        self.fragments = fragments
        self.worlds = worlds
        self.span = span
        self.states = states or {}

    def __len__(self) -> int:
        return self.span[1] - self.span[0]

    def __getitem__(self, index: slice) -> Rollout:
        low, high, _ = index.indices(len(self))
        whole = len(self)
        fragments = {
            policy: fragment.share(low, high, whole) for policy, fragment in self.fragments.items()
        }
        worlds = next(iter(self.states.values())).shape[1] if self.states else 0
        held = slice(worlds * low // whole, worlds * high // whole)
        states = {name: state[:, held] for name, state in self.states.items()}
        span = (self.span[0] + low, self.span[0] + high)
        return Rollout(fragments, self.worlds, span, states)

    def slice(self, index: slice, **_: Any) -> Rollout:
        """The same as `rollout[index]`; RLlib's name for it."""
        return self[index]

    def env_steps(self) -> int:
        """World steps, in proportion to the share held."""
        steps = max(fragment.steps for fragment in self.fragments.values())
        return steps * self.worlds * len(self) // self.SHARES

    def agent_steps(self) -> int:
        """Steps summed over agents."""
        return sum(fragment.steps * fragment.trajectories for fragment in self.fragments.values())

    def __getstate__(self) -> dict[str, Any]:
        def plain(fragment: Fragment) -> dict[str, Any]:
            return {
                "columns": _to_numpy(fragment.columns),
                "ends": _to_numpy(_fields(fragment.ends)),
                "world": fragment.world.cpu().numpy(),
                "separate": fragment.separate,
            }

        return {
            "fragments": {policy: plain(fragment) for policy, fragment in self.fragments.items()},
            "worlds": self.worlds,
            "span": self.span,
            "states": _to_numpy(self.states),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.fragments = {
            policy: Fragment(
                _to_torch(saved["columns"]),
                EpisodeEnds(**_to_torch(saved["ends"])),
                _to_tensor(saved["world"]),
                saved["separate"],
            )
            for policy, saved in state["fragments"].items()
        }
        self.worlds = state["worlds"]
        self.span = state["span"]
        self.states = _to_torch(state["states"])

    def to(self, device: torch.device) -> Rollout:
        """The same rollout on `device`; nothing is copied if it is there already."""

        def on_device(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device) for name, tensor in tensors.items()}

        fragments = {
            policy: Fragment(
                on_device(fragment.columns),
                EpisodeEnds(**on_device(_fields(fragment.ends))),
                fragment.world.to(device),
                fragment.separate,
            )
            for policy, fragment in self.fragments.items()
        }
        return Rollout(fragments, self.worlds, self.span, on_device(self.states))


def _fields(ends: EpisodeEnds) -> dict[str, Tensor]:
    return {name: getattr(ends, name) for name in EpisodeEnds.__annotations__}


def _to_numpy(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


def _to_torch(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: _to_tensor(array) for name, array in arrays.items()}


def _to_tensor(array: np.ndarray) -> Tensor:
    # a copy, as the object store's arrays are read-only
    return torch.from_numpy(array.copy())


def stacked(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A market's states of several times `[worlds, ...]` as one, `[times, worlds, ...]`."""
    if not states:
        return {}
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def concatenate(fragments: list[Fragment]) -> Fragment:
    """Fragments of the same length from several runners, side by side."""
    if len(fragments) == 1:
        return fragments[0]
    columns = {
        name: torch.cat([fragment.columns[name] for fragment in fragments], 1)
        for name in fragments[0].columns
    }

    # trajectories and worlds are numbered through
    first_trajectory = _starts([fragment.trajectories for fragment in fragments])
    first_world = _starts([_worlds_of(fragment) for fragment in fragments])
    trajectory = [
        fragment.ends.trajectory + first
        for fragment, first in zip(fragments, first_trajectory, strict=True)
    ]
    world = [fragment.world + first for fragment, first in zip(fragments, first_world, strict=True)]
    ends = EpisodeEnds(
        torch.cat([fragment.ends.step for fragment in fragments]),
        torch.cat(trajectory),
        torch.cat([fragment.ends.terminated for fragment in fragments]),
        torch.cat([fragment.ends.observations for fragment in fragments]),
    )
    return Fragment(columns, ends, torch.cat(world), fragments[0].separate)


def _worlds_of(fragment: Fragment) -> int:
    """How many worlds its trajectories belong to; a learner's share may have none."""
    return int(fragment.world.max()) + 1 if len(fragment.world) else 0


def _starts(sizes: list[int]) -> list[int]:
    """Where each part begins when parts of these sizes lie one after the other."""
    return [0, *accumulate(sizes[:-1])]
