"""What another policy in an agent's place would earn, in the market's own `reset` and `step`.

Nothing is set by hand: starts, shocks, restarts and every column of the observations are the
market's. Everybody else plays on as before, and reacts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rl_markets.envs.market import Market, PolicyFunction

HORIZON_WEIGHT = 1e-3
"""Play ends where the discount factor falls below this weight."""
LONGEST = 100_000
"""Steps after which an episode without discounting is given up."""
AT_ONCE = 20
"""Of a group's agents at most one in so many leaves the profile in the same world: prices hardly
move by it, and thousands of agents are examined in a few worlds."""
WORLDS = 60
"""Worlds of one examination, unless they are large."""
FEW_AGENTS = 300
"""There are more worlds until they have so many agents: small ones cost little."""
MOST_AGENTS = 40_000
"""Agents, over all worlds, of one examination."""


@dataclass(frozen=True)
class Gains:
    """What agents gain by another policy in their place: a row for each that left the profile.

    Attributes:
        gain: `[rows]`, discounted reward.
        agent: `[rows]`, which agent of its group.
        observations: `[rows, observation]`, what it saw when it left.
        stay: `[rows]`, discounted reward of playing on as before.
    """

    gain: Tensor
    agent: Tensor
    observations: Tensor
    stay: Tensor


def horizon(gamma: float, weight: float = HORIZON_WEIGHT) -> int:
    """Steps until nothing counts any more; without discounting, episodes end by themselves."""
    if gamma == 1:
        return LONGEST
    return math.ceil(math.log(weight) / math.log(gamma)) if gamma > 0 else 1


def places(agents: int, everybody: int) -> Tensor:
    """Who leaves the profile in which world: bool `[worlds, agents]`.

    Each agent in as many worlds as the next, and alone where agents are few.

    Args:
        agents: of the group.
        everybody: agents of a world, over all groups.
    """
    apart = min(agents, AT_ONCE)
    worlds = max(1, min(max(WORLDS, FEW_AGENTS // everybody), MOST_AGENTS // everybody))
    if worlds > apart:
        worlds -= worlds % apart
    return torch.arange(worlds)[:, None] % apart == torch.arange(agents) % apart


@torch.no_grad()
def gains_in_place(
    market: Market,
    policies: Mapping[str, PolicyFunction],
    group: str,
    instead: PolicyFunction,
    leaving: Tensor,
    gamma: float,
    *,
    seed: int,
    burn_in: int = 0,
) -> Gains:
    """Discounted reward that agents gain who follow `instead`, on the same starts and shocks.

    Args:
        market: with as many worlds as `leaving`; episodes last until they end by themselves.
        policies: group -> the profile as it plays.
        group: whose agents leave it.
        instead: what they follow, a policy of the whole group's observations.
        leaving: bool `[worlds, agents]`.
        gamma: discount factor.
        seed: of starts and shocks.
        burn_in: steps of the profile before anybody leaves it, so that it chooses the states.
    """
    observations = reach(market, policies, seed, burn_in)
    start = market.state_dict()
    leaving = leaving.to(market.device)
    seen = observations[group][leaving]
    steps = horizon(gamma)
    stay = discounted_rewards(market, observations, policies, group, gamma, steps)
    observations = market.load_state_dict(start)
    changed = dict(policies)
    changed[group] = replaced(policies[group], instead, leaving)
    gain = discounted_rewards(market, observations, changed, group, gamma, steps) - stay
    agent = torch.arange(leaving.shape[1], device=market.device).expand_as(leaving)
    return Gains(gain[leaving], agent[leaving], seen, stay[leaving])


def reach(
    market: Market, policies: Mapping[str, PolicyFunction], seed: int, steps: int
) -> dict[str, Tensor]:
    """Observations where a market stands after `steps` of a profile from its own starts."""
    market.truncate_after(None)
    observations = market.reset(seed)
    for _ in range(steps):
        actions = {name: policies[name](own) for name, own in observations.items()}
        observations = market.step(actions).observations
    return observations


def replaced(stay: PolicyFunction, instead: PolicyFunction, leaving: Tensor) -> PolicyFunction:
    """A group's policy with `instead` in the places of those who leave, bool `[..., agents]`."""

    def act(observations: Tensor) -> Tensor:
        own = stay(observations)
        other = instead(observations).to(own)
        return torch.where(leaving.reshape(*leaving.shape, *[1] * (own.dim() - 2)), other, own)

    return act


@torch.no_grad()
def discounted_rewards(
    market: Market,
    observations: Mapping[str, Tensor],
    policies: Mapping[str, PolicyFunction],
    group: str,
    gamma: float,
    steps: int,
) -> Tensor:
    """Discounted rewards of a group's agents until their world ends: `[worlds, agents]`.

    Args:
        market: stands where `observations` were made.
        observations: group -> what is seen there.
        policies: group -> what it follows.
        group: whose rewards.
        gamma: discount factor.
        steps: at the most.
    """
    total = torch.zeros(
        (market.worlds, market.groups[group].count), dtype=torch.float64, device=market.device
    )
    going = torch.ones((market.worlds, 1), dtype=torch.float64, device=market.device)
    for t in range(steps):
        actions = {name: policies[name](own) for name, own in observations.items()}
        step = market.step(actions)
        observations = step.observations
        total += gamma**t * going * step.rewards[group].double()
        if step.ended is not None:
            going[step.ended.worlds] = 0.0
            if not bool(going.any()):
                break
    return total
