"""Short horizons through a market's known dynamics, with gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rl_markets.envs.market import Dynamics, Owned, State

Actors = Callable[[dict[str, Tensor]], dict[str, Tensor]]
"""Observations by group -> actions by group, with gradients."""


@dataclass
class Unrolled:
    """What a horizon of H periods leaves, by group.

    Attributes:
        observations: `[H + 1]` of `[worlds, agents, ...]`.
        rewards: `[H]` of `[worlds, agents]`; 0 after an agent's episode ended.
        alive: `[H + 1]` of `[worlds, agents]`, 1 until an agent's episode terminated.
        nudges: `[H]` of `[worlds, agents]`, zeros added to the logarithm of what each agent owns at
            the start of each period; the objective's gradient in them is the co-state. Empty where
            the market names nothing that is owned.
        owned: `[worlds, agents]`, what each agent owns in the end.
        global_states: `[H + 1]` of `[worlds, width]`; empty where the market gives none.
        everybody: whether all were alive throughout.
    """

    observations: dict[str, list[Tensor]]
    rewards: dict[str, list[Tensor]]
    alive: dict[str, list[Tensor]]
    nudges: dict[str, list[Tensor]] = field(default_factory=dict)
    owned: dict[str, Tensor] = field(default_factory=dict)
    global_states: list[Tensor] = field(default_factory=list)
    everybody: bool = True


def unroll(
    market: Dynamics,
    state: State,
    horizon: int,
    act: Actors,
    generator: torch.Generator,
    owned: Mapping[str, Owned],
) -> Unrolled:
    """`horizon` periods from `state` `[worlds, ...]`, with shocks of their own.

    Args:
        market: its pure functions are called; its own state is left alone.
        state: where to start.
        horizon: H.
        act: what everybody does.
        generator: draws the shocks.
        owned: group -> what its agents own, whose co-state is wanted.
    """
    found = Unrolled(
        observations={group: [] for group in market.groups},
        rewards={group: [] for group in market.groups},
        alive={group: [] for group in market.groups},
    )
    found.nudges = {group: [] for group in owned}
    for group, agents in market.groups.items():
        found.alive[group].append(torch.ones((market.worlds, agents.count), device=market.device))
    for _ in range(horizon):
        state = _nudged(state, owned, found)
        moved = market.transition(
            state, act(_seen(market, state, found)), market.draw_noise(generator)
        )
        for group, rewards in moved.rewards.items():
            alive = found.alive[group][-1]
            found.rewards[group].append(alive * rewards)
            if moved.terminated is not None:
                alive = alive * (~moved.terminated).unsqueeze(-1)
            if moved.agent_done is not None and group in moved.agent_done:
                alive = alive * ~moved.agent_done[group]
            found.alive[group].append(alive)
        found.everybody &= moved.terminated is None and moved.agent_done is None
        state = moved.state
    _seen(market, state, found)
    found.owned = {group: own.of(state) for group, own in owned.items()}
    return found


def _seen(market: Dynamics, state: State, found: Unrolled) -> dict[str, Tensor]:
    """What is observed of `state`; noted, with the global state where the market gives one."""
    seen = market.observe(state)
    for group, observations in seen.items():
        found.observations[group].append(observations)
    everything = market.observe_globally(state)
    if everything is not None:
        found.global_states.append(everything)
    return seen


def _nudged(state: State, owned: Mapping[str, Owned], found: Unrolled) -> State:
    """The same state, as a function of a nudge to the logarithm of what each agent owns."""
    state = dict(state)
    for group, own in owned.items():
        whole = state[own.variable]
        nudge = torch.zeros_like(own.of(state), requires_grad=True)
        found.nudges[group].append(nudge)
        after = whole.shape[1] - own.start - nudge.shape[1]
        state[own.variable] = whole * torch.exp(torch.nn.functional.pad(nudge, (own.start, after)))
    return state
