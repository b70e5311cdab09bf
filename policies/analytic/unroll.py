"""Short horizons through a market's known dynamics, with gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from rl_markets.envs.market import Dynamics, Owned, State, Transition

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

    Returns:
        What was observed and earned, with gradients in the actors' weights and the nudges.
    """
    unrolled = _nothing_yet(market, owned)
    for _ in range(horizon):
        state = _nudged(state, owned, unrolled)
        actions = act(_observe(market, state, unrolled))
        transition = market.transition(state, actions, market.draw_noise(generator))
        _note_rewards(transition, unrolled)
        state = transition.state

    # the state that the horizon ends in: the critic says what it is worth
    _observe(market, state, unrolled)
    unrolled.owned = {group: own.of(state) for group, own in owned.items()}
    return unrolled


def _nothing_yet(market: Dynamics, owned: Mapping[str, Owned]) -> Unrolled:
    """A horizon of no periods: everybody is alive."""
    unrolled = Unrolled(
        observations={group: [] for group in market.groups},
        rewards={group: [] for group in market.groups},
        alive={group: [] for group in market.groups},
        nudges={group: [] for group in owned},
    )
    for group, agents in market.groups.items():
        alive = torch.ones((market.worlds, agents.count), device=market.device)
        unrolled.alive[group].append(alive)
    return unrolled


def _note_rewards(transition: Transition, unrolled: Unrolled) -> None:
    """Notes a period's rewards, and who is alive after it."""
    terminated = transition.terminated
    agent_done = transition.agent_done
    for group, rewards in transition.rewards.items():
        alive = unrolled.alive[group][-1]
        unrolled.rewards[group].append(alive * rewards)
        # a world's end is the end of all of its agents
        if terminated is not None:
            alive = alive * (~terminated).unsqueeze(-1)
        if agent_done is not None and group in agent_done:
            alive = alive * ~agent_done[group]
        unrolled.alive[group].append(alive)
    unrolled.everybody &= terminated is None and agent_done is None


def _observe(market: Dynamics, state: State, unrolled: Unrolled) -> dict[str, Tensor]:
    """What is observed of `state`; noted, with the global state where the market gives one."""
    observations = market.observe(state)
    for group, of_group in observations.items():
        unrolled.observations[group].append(of_group)
    global_state = market.observe_globally(state)
    if global_state is not None:
        unrolled.global_states.append(global_state)
    return observations


def _nudged(state: State, owned: Mapping[str, Owned], unrolled: Unrolled) -> State:
    """The same state, as a function of a nudge to the logarithm of what each agent owns."""
    state = dict(state)
    for group, own in owned.items():
        variable = state[own.variable]
        nudge = torch.zeros_like(own.of(state), requires_grad=True)
        unrolled.nudges[group].append(nudge)
        # the group's agents are some of the variable's columns; the others are not nudged
        after = variable.shape[1] - own.start - nudge.shape[1]
        padded = torch.nn.functional.pad(nudge, (own.start, after))
        state[own.variable] = variable * torch.exp(padded)
    return state
