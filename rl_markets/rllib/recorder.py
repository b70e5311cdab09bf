"""What a runner writes down: preallocated buffers of one fragment, written in place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rl_markets.envs.market import Market, Step
from rl_markets.errors import MarketError
from rl_markets.policies.module import ACTIONS
from rl_markets.policies.rollout import ACTED, OBSERVATIONS, REWARDS, EpisodeEnds, Fragment


@dataclass(frozen=True)
class Recorded:
    """A learned policy: its groups, whether each agent has its own weights, whether its critic sees the global state."""

    groups: tuple[str, ...]
    separate: bool = False
    central: bool = False


def side_by_side(by_group: dict[str, Tensor], groups: tuple[str, ...]) -> Tensor:
    """The groups' tensors `[worlds, agents, ...]` as one, along the agents."""
    return by_group[groups[0]] if len(groups) == 1 else torch.cat([by_group[g] for g in groups], 1)


class Recorder:
    """Buffers `[T, worlds, agents, ...]` of each learned policy.

    Args:
        market: what is recorded; it knows its global state at the time of `observe`.
        steps: T.
        policies: what to record.
    """

    def __init__(self, market: Market, steps: int, policies: dict[str, Recorded]) -> None:
        self.market, self.steps, self.policies = market, steps, policies
        self.central = any(p.central for p in policies.values())
        width = market.global_state().shape[1] if self.central else 0
        self.buffers: dict[str, dict[str, Tensor]] = {}
        for name, policy in policies.items():
            lead = (market.worlds, sum(market.groups[g].count for g in policy.groups))
            seen = market.groups[policy.groups[0]].observation_space.shape
            shape = (seen[0] + width,) if policy.central else seen
            self.buffers[name] = {
                OBSERVATIONS: torch.empty((steps + 1, *lead, *shape), device=market.device),
                REWARDS: torch.empty((steps, *lead), device=market.device),
            }
        self.ends: list[tuple[int, Step]] = []

    def observe(self, t: int, observations: dict[str, Tensor]) -> None:
        """Observations at the start of step t; with a central critic the global state behind them."""
        everything = self.market.global_state() if self.central else None
        for name, policy in self.policies.items():
            buffer, seen = self.buffers[name][OBSERVATIONS][t], side_by_side(observations, policy.groups)
            if policy.central and everything is not None:
                buffer[..., : seen.shape[-1]] = seen
                buffer[..., seen.shape[-1] :] = everything.unsqueeze(1)
            else:
                buffer.copy_(seen)

    def action(self, t: int, policy: str, columns: dict[str, Tensor]) -> None:
        """What the policy did in step t, but for the actions themselves."""
        buffers = self.buffers[policy]
        for name, value in columns.items():
            if name == ACTIONS:
                continue
            if name not in buffers:
                buffers[name] = torch.empty((self.steps, *value.shape), device=value.device, dtype=value.dtype)
            buffers[name][t] = value

    def outcome(self, t: int, step: Step) -> None:
        """What came of step t."""
        for name, policy in self.policies.items():
            buffers = self.buffers[name]
            buffers[REWARDS][t] = side_by_side(step.rewards, policy.groups)
            if step.acted is not None and any(g in step.acted for g in policy.groups):
                if ACTED not in buffers:
                    buffers[ACTED] = torch.ones_like(buffers[REWARDS], dtype=torch.bool)
                offset = 0
                for group in policy.groups:
                    count = self.market.groups[group].count
                    if group in step.acted:
                        buffers[ACTED][t, :, offset : offset + count] = step.acted[group]
                    offset += count
        if step.ended is not None or step.left is not None:
            self.ends.append((t, step))

    def check_finite(self) -> None:
        """One reduction a column and fragment; only where it fails is the culprit looked for: the earliest one.

        Raises:
            MarketError: names group, world, agent and step.
        """
        found = []
        for name, buffers in self.buffers.items():
            for order, column in enumerate((OBSERVATIONS, REWARDS)):  # step t's observations come before its rewards
                if not bool(torch.isfinite(buffers[column]).all()):
                    at = tuple(int(i) for i in (~torch.isfinite(buffers[column])).nonzero()[0])
                    found.append((at[0], order, name, column, at))
        if not found:
            return
        _, _, name, column, at = min(found)
        group, agent = self._agent(name, at[2])
        entry = f", entry {at[3]}" if len(at) > 3 else ""
        raise MarketError(
            f"market {type(self.market).__name__}: {column} of group {group!r} is {float(self.buffers[name][column][at])} "
            f"in world {at[1]}, agent {agent}{entry}, step {at[0]} of the fragment: expected a finite number"
        )

    def _agent(self, policy: str, place: int) -> tuple[str, int]:
        """Group and index in it of the agent at a place along a policy's agents."""
        for group in self.policies[policy].groups:
            count = self.market.groups[group].count
            if place < count:
                return group, place
            place -= count
        raise IndexError(place)

    def fragments(self) -> dict[str, Fragment]:
        """Each policy's buffers as trajectories `[T, worlds * agents, ...]`, world by world."""
        found = {}
        for name, policy in self.policies.items():
            columns = {n: b.flatten(1, 2) for n, b in self.buffers[name].items()}
            agents = self.buffers[name][REWARDS].shape[2]
            world = torch.arange(self.market.worlds, device=self.market.device).repeat_interleave(agents)
            ends = self._episode_ends(policy, agents, columns[OBSERVATIONS])
            found[name] = Fragment(columns, ends, world, agents if policy.separate else None)
        return found

    def _episode_ends(self, policy: Recorded, agents: int, observations: Tensor) -> EpisodeEnds:
        parts = []
        for t, step in self.ends:
            over = torch.zeros(0, dtype=torch.int64, device=observations.device)
            if step.ended is not None:
                over = step.ended.worlds
                parts.append(self._ended(t, step, policy, agents))
            if step.left is not None:
                parts += self._left(t, step, policy, over, agents, observations)
        if not parts:
            none = torch.empty(0, dtype=torch.int64, device=observations.device)
            return EpisodeEnds(none, none, none.bool(), observations.new_empty((0, *observations.shape[2:])))
        step_, trajectory, terminated, last = (torch.cat(column) for column in zip(*parts, strict=True))
        return EpisodeEnds(step_, trajectory, terminated, last)

    def _ended(self, t: int, step: Step, policy: Recorded, agents: int) -> tuple[Tensor, ...]:
        """The episode ends of worlds that ended in step t."""
        ended = step.ended
        assert ended is not None
        trajectory = (ended.worlds[:, None] * agents + torch.arange(agents, device=ended.worlds.device)).flatten()
        last = side_by_side(ended.observations, policy.groups)
        if policy.central:
            assert ended.global_state is not None
            last = torch.cat([last, ended.global_state.unsqueeze(1).expand(-1, agents, -1)], -1)
        return (
            torch.full_like(trajectory, t),
            trajectory,
            ended.terminated.repeat_interleave(agents),
            last.flatten(0, 1),
        )

    def _left(
        self, t: int, step: Step, policy: Recorded, over: Tensor, agents: int, observations: Tensor
    ) -> list[tuple[Tensor, ...]]:
        """The episode ends of agents that left in step t though their world went on."""
        assert step.left is not None
        lead = (self.market.worlds, 0)
        gone = {
            g: step.left.get(g, over.new_zeros(lead[0], self.market.groups[g].count, dtype=torch.bool))
            for g in policy.groups
        }
        left = side_by_side(gone, policy.groups).clone()
        left[over] = False  # cut already
        trajectory = left.flatten().nonzero().squeeze(-1)
        if not len(trajectory):
            return []
        last = observations[t + 1, trajectory]  # not looked at: the episode terminated
        return [(torch.full_like(trajectory, t), trajectory, torch.ones_like(trajectory, dtype=torch.bool), last)]
