"""What a runner writes down: preallocated buffers of one fragment, written in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rl_markets.envs.groups import JoinedGroups
from rl_markets.envs.market import Ended, Market, Step
from rl_markets.errors import MarketError
from rl_markets.policies.module import ACTIONS
from rl_markets.policies.rollout import ACTIVE, OBSERVATIONS, REWARDS, EpisodeEnds, Fragment


@dataclass(frozen=True)
class Recorded:
    """A learned policy.

    Attributes:
        groups: who follows it.
        separate: whether each agent has its own weights.
        central: whether its critic sees the market's global state.
    """

    groups: tuple[str, ...]
    separate: bool = False
    central: bool = False


class Recorder:
    """Buffers `[T, worlds, agents, ...]` of each learned policy.

    Args:
        market: what is recorded; it knows its global state at the time of `observe`.
        steps: T.
        policies: what to record.
    """

    def __init__(self, market: Market, steps: int, policies: Mapping[str, Recorded]) -> None:
        self.market = market
        self.steps = steps
        self.policies = policies
        self.joined = {
            name: joined_groups(market, policy.groups) for name, policy in policies.items()
        }
        self.central = any(policy.central for policy in policies.values())
        width = market.global_state().shape[1] if self.central else 0
        self.buffers: dict[str, dict[str, Tensor]] = {}
        for name, policy in policies.items():
            lead = (market.worlds, self.joined[name].total)
            (entries,) = market.groups[policy.groups[0]].observation_space.shape
            entries += width if policy.central else 0
            self.buffers[name] = {
                OBSERVATIONS: torch.empty((steps + 1, *lead, entries), device=market.device),
                REWARDS: torch.empty((steps, *lead), device=market.device),
            }
        self.ends: list[tuple[int, Step]] = []

    def observe(self, t: int, observations: Mapping[str, Tensor]) -> None:
        """Observations at the start of step t; with a central critic the global state behind
        them."""
        global_state = self.market.global_state() if self.central else None
        for name, policy in self.policies.items():
            buffer = self.buffers[name][OBSERVATIONS][t]
            own = self.joined[name].join(observations)
            if policy.central and global_state is not None:
                buffer[..., : own.shape[-1]] = own
                buffer[..., own.shape[-1] :] = global_state.unsqueeze(1)
            else:
                buffer.copy_(own)

    def action(self, t: int, policy: str, columns: Mapping[str, Tensor]) -> None:
        """What the policy did in step t, but for the actions themselves."""
        buffers = self.buffers[policy]
        for name, value in columns.items():
            if name == ACTIONS:
                continue
            if name not in buffers:
                buffers[name] = torch.empty(
                    (self.steps, *value.shape), device=value.device, dtype=value.dtype
                )
            buffers[name][t] = value

    def outcome(self, t: int, step: Step) -> None:
        """What came of step t."""
        for name, joined in self.joined.items():
            buffers = self.buffers[name]
            buffers[REWARDS][t] = joined.join(step.rewards)
            if step.active is not None and any(group in step.active for group in joined.counts):
                if ACTIVE not in buffers:
                    buffers[ACTIVE] = torch.ones_like(buffers[REWARDS], dtype=torch.bool)
                for group, own in joined.split(buffers[ACTIVE][t]).items():
                    if group in step.active:
                        own.copy_(step.active[group])
        if step.ended is not None or step.agent_done is not None:
            self.ends.append((t, step))

    # -- what is no number -------------------------------------------------------------------------

    def check_finite(self, seen: int | None = None) -> None:
        """One reduction a column and fragment; only where it fails is the culprit looked for: the
        earliest one.

        Args:
            seen: the last step whose observations are known, but not yet its rewards; None where
                the fragment is whole.

        Raises:
            MarketError: names group, world, agent and step.
        """
        culprits = []
        for name, buffers in self.buffers.items():
            for order, column in enumerate(
                (OBSERVATIONS, REWARDS)
            ):  # step t's observations come before its rewards
                values = buffers[column]
                if seen is not None:
                    values = values[: seen + 1 - order]
                finite = torch.isfinite(values)
                if not bool(finite.all()):
                    at = tuple(int(i) for i in (~finite).nonzero()[0])
                    culprits.append((at[0], order, name, column, at))
        if not culprits:
            return
        _, _, name, column, at = min(culprits)
        group, agent = self.joined[name].agent(at[2])
        value = float(self.buffers[name][column][at])
        entry = f", entry {at[3]}" if len(at) > 3 else ""
        raise MarketError(
            f"market {type(self.market).__name__}: {column} of group {group!r} is {value} in world "
            f"{at[1]}, "
            f"agent {agent}{entry}, step {at[0]} of the fragment: expected a finite number"
        )

    # -- fragments ---------------------------------------------------------------------------------

    def fragments(self) -> dict[str, Fragment]:
        """Each policy's buffers as trajectories `[T, worlds * agents, ...]`, world by world."""
        fragments = {}
        for name, policy in self.policies.items():
            columns = {
                column: buffer.flatten(1, 2) for column, buffer in self.buffers[name].items()
            }
            agents = self.joined[name].total
            world = torch.arange(self.market.worlds, device=self.market.device).repeat_interleave(
                agents
            )
            ends = self._episode_ends(name, columns[OBSERVATIONS])
            self._check_finals(name, ends)
            fragments[name] = Fragment(columns, ends, world, agents if policy.separate else None)
        return fragments

    def _check_finals(self, policy: str, ends: EpisodeEnds) -> None:
        """What agents saw last is finite, too: truncated episodes are bootstrapped from it.

        Raises:
            MarketError: names group, world, agent and step.
        """
        finite = torch.isfinite(ends.observations)
        if bool(finite.all()):
            return
        row, entry = (int(i) for i in (~finite).nonzero()[0])
        joined = self.joined[policy]
        world, place = divmod(int(ends.trajectory[row]), joined.total)
        group, agent = joined.agent(place)
        raise MarketError(
            f"market {type(self.market).__name__}: a final observation of group {group!r} is "
            f"{float(ends.observations[row, entry])} in world {world}, agent {agent}, entry "
            f"{entry}, step {int(ends.step[row])} of the fragment: expected a finite number"
        )

    def _episode_ends(self, policy: str, observations: Tensor) -> EpisodeEnds:
        parts = []
        for t, step in self.ends:
            ended = torch.zeros(0, dtype=torch.int64, device=observations.device)
            if step.ended is not None:
                ended = step.ended.worlds
                parts.append(self._world_ends(t, step.ended, policy))
            if step.agent_done is not None:
                parts += self._agent_ends(t, step.agent_done, policy, ended, observations)
        if not parts:
            none = torch.empty(0, dtype=torch.int64, device=observations.device)
            return EpisodeEnds(
                none, none, none.bool(), observations.new_empty((0, *observations.shape[2:]))
            )
        return EpisodeEnds(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _world_ends(self, t: int, ended: Ended, policy: str) -> tuple[Tensor, ...]:
        """The episode ends of all agents of worlds that ended in step t."""
        joined = self.joined[policy]
        agents = torch.arange(joined.total, device=ended.worlds.device)
        trajectory = (ended.worlds[:, None] * joined.total + agents).flatten()
        last = joined.join(ended.observations)
        if self.policies[policy].central:
            assert ended.global_state is not None
            last = torch.cat(
                [last, ended.global_state.unsqueeze(1).expand(-1, joined.total, -1)], -1
            )
        terminated = ended.terminated.repeat_interleave(joined.total)
        return torch.full_like(trajectory, t), trajectory, terminated, last.flatten(0, 1)

    def _agent_ends(
        self,
        t: int,
        agent_done: Mapping[str, Tensor],
        policy: str,
        ended: Tensor,
        observations: Tensor,
    ) -> list[tuple[Tensor, ...]]:
        """The episode ends of agents who were done in step t though their world went on."""
        joined = self.joined[policy]
        nobody = torch.zeros(
            self.market.worlds, joined.total, dtype=torch.bool, device=ended.device
        )
        done = joined.join(
            joined.split(nobody) | {g: agent_done[g] for g in joined.counts if g in agent_done}
        ).clone()
        done[ended] = False  # their episode ends are those of their worlds
        trajectory = done.flatten().nonzero().squeeze(-1)
        if not len(trajectory):
            return []
        last = observations[t + 1, trajectory]  # not looked at: the episode terminated
        return [
            (
                torch.full_like(trajectory, t),
                trajectory,
                torch.ones_like(trajectory, dtype=torch.bool),
                last,
            )
        ]


def joined_groups(market: Market, groups: tuple[str, ...]) -> JoinedGroups:
    """The agents of these groups of a market, side by side."""
    return JoinedGroups({group: market.groups[group].count for group in groups})
