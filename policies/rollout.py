"""What a runner hands to a learner: whole fragments of experience, one tensor a column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

OBSERVATIONS = "observations"
REWARDS = "rewards"
ACTIVE = "active"


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
        """The trajectories from `low` to `high` in units of `whole`-ths; separate policies' in
        whole worlds."""
        unit = self.separate or 1
        units = self.trajectories // unit
        return self.within(units * low // whole * unit, units * high // whole * unit)

    def by_agent(self, column: Tensor) -> Tensor:
        """`[T, N, ...]` as `[T, worlds, agents, ...]` where policies are separate; unchanged where
        they are shared."""
        return column if self.separate is None else column.unflatten(1, (-1, self.separate))

    def rows(self, column: Tensor) -> Tensor:
        """`[T, N, ...]` as `[T * N, ...]`, or as `[T * worlds, agents, ...]` where policies are
        separate."""
        return self.by_agent(column).flatten(0, 1)

    def values(self, network: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """A critic's values of all observations `[T + 1, N]`, and of the final ones `[m]` where
        episodes end."""
        seen = self.columns[OBSERVATIONS]
        ends = self.ends
        values = network(self.by_agent(seen))
        if self.separate is None:
            return values, network(ends.observations)
        agent = (
            ends.trajectory % self.separate
        )  # each agent's ends, side by side: rows `[most, agents, ...]`
        number = torch.zeros_like(agent)
        order = torch.argsort(agent, stable=True)
        counts = torch.bincount(agent, minlength=self.separate)
        first = torch.cumsum(counts, 0) - counts
        number[order] = torch.arange(len(agent), device=agent.device) - first[agent[order]]
        padded = seen.new_zeros(
            (int(counts.max()) if len(agent) else 0, self.separate, *seen.shape[2:])
        )
        padded[number, agent] = ends.observations
        return values.flatten(1), network(padded)[number, agent]


class Rollout:
    """Fragments of all policies, and the market's states `[times, worlds, ...]` where the learner
    wants them.

    RLlib's `LearnerGroup` shards whatever has a length and can be sliced, so that a rollout stands
    in for a list of episodes. Slicing by *shares* (and not by rows) keeps groups of different sizes
    together: each learner gets the same share of every policy's trajectories.
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
        cut = {p: f.share(low, high, whole) for p, f in self.fragments.items()}
        held = next(iter(self.states.values())).shape[1] if self.states else 0
        states = {
            n: s[:, held * low // whole : held * high // whole] for n, s in self.states.items()
        }
        return Rollout(cut, self.worlds, (self.span[0] + low, self.span[0] + high), states)

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
            columns = {n: c.cpu().numpy() for n, c in fragment.columns.items()}
            ends = {n: getattr(fragment.ends, n).cpu().numpy() for n in EpisodeEnds.__annotations__}
            world = fragment.world.cpu().numpy()
            return {"columns": columns, "ends": ends, "world": world, "separate": fragment.separate}

        return {
            "fragments": {p: plain(f) for p, f in self.fragments.items()},
            "worlds": self.worlds,
            "span": self.span,
            "states": {n: s.cpu().numpy() for n, s in self.states.items()},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        def tensor(array: Any) -> Tensor:
            return torch.from_numpy(array.copy())  # the object store's arrays are read-only

        self.fragments = {
            policy: Fragment(
                {n: tensor(c) for n, c in saved["columns"].items()},
                EpisodeEnds(**{n: tensor(c) for n, c in saved["ends"].items()}),
                tensor(saved["world"]),
                saved["separate"],
            )
            for policy, saved in state["fragments"].items()
        }
        self.worlds = state["worlds"]
        self.span = state["span"]
        self.states = {n: tensor(s) for n, s in state["states"].items()}

    def to(self, device: torch.device) -> Rollout:
        """The same rollout on `device`; nothing is copied if it is there already."""

        def move(fragment: Fragment) -> Fragment:
            ends = EpisodeEnds(
                **{n: getattr(fragment.ends, n).to(device) for n in EpisodeEnds.__annotations__}
            )
            columns = {n: c.to(device) for n, c in fragment.columns.items()}
            return Fragment(columns, ends, fragment.world.to(device), fragment.separate)

        states = {n: s.to(device) for n, s in self.states.items()}
        return Rollout(
            {p: move(f) for p, f in self.fragments.items()}, self.worlds, self.span, states
        )


def stacked(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """A market's states of several times `[worlds, ...]` as one, `[times, worlds, ...]`."""
    return (
        {name: torch.stack([state[name] for state in states]) for name in states[0]}
        if states
        else {}
    )


def concatenate(fragments: list[Fragment]) -> Fragment:
    """Fragments of the same length from several runners, side by side."""
    if len(fragments) == 1:
        return fragments[0]
    names = fragments[0].columns
    columns = {name: torch.cat([f.columns[name] for f in fragments], 1) for name in names}
    trajectories = _starts([f.trajectories for f in fragments])
    ends = EpisodeEnds(
        torch.cat([f.ends.step for f in fragments]),
        torch.cat([f.ends.trajectory + at for f, at in zip(fragments, trajectories, strict=True)]),
        torch.cat([f.ends.terminated for f in fragments]),
        torch.cat([f.ends.observations for f in fragments]),
    )
    worlds = _starts([int(f.world.max()) + 1 if len(f.world) else 0 for f in fragments])
    world = torch.cat([f.world + at for f, at in zip(fragments, worlds, strict=True)])
    return Fragment(columns, ends, world, fragments[0].separate)


def _starts(sizes: list[int]) -> list[int]:
    """Where each part begins when parts of these sizes lie one after the other."""
    return [0, *accumulate(sizes[:-1])]
