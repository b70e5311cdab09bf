"""What one agent gains that reacts otherwise to what it sees, in a market with its shocks.

A policy's raw action is moved by a linear function of the observation: a level and a slope of each
column. A path without shocks (`envs/paths.py`) cannot tell what it costs to react wrongly to
shocks; this does. It is fitted by gradients through the market, and then played in the market
itself on other starts and shocks, so that what it gains there is no artefact of the fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rl_markets.envs.market import PolicyFunction, State
from rl_markets.envs.paths import Deviation, Squash


@dataclass(frozen=True)
class Reaction:
    """A linear change of the raw actions of each agent of a group.

    Attributes:
        weights: `[agents, 1 + columns, action]`: a level, and a slope of each column.
        centre, scale: of the columns.
        squash: between raw actions and the box.
    """

    weights: Tensor
    centre: Tensor
    scale: Tensor
    squash: Squash

    def moved(self, action: Tensor, seen: Tensor, weights: Tensor) -> Tensor:
        """The actions `[..., action]` of who sees `seen`, `[..., columns]`."""
        columns = (seen.double() - self.centre) / self.scale
        # the level counts like a column that is 1
        columns = torch.cat([torch.ones_like(columns[..., :1]), columns], -1)
        change = (columns.unsqueeze(-1) * weights).sum(-2)
        return self.squash.to_action(self.squash.to_raw(action.double()) + change)

    def policy(self, stay: PolicyFunction) -> PolicyFunction:
        """The group's policy, moved in every agent's place."""
        return lambda seen: self.moved(stay(seen), seen, self.weights).to(seen.dtype)


def best_reaction(
    deviation: Deviation, state: State, seen: Tensor, *, seed: int, steps: int = 15
) -> Reaction:
    """The reaction that gains most in the mean over an agent's worlds.

    Args:
        deviation: who leaves in which world, and for how long.
        state: where they leave.
        seen: rows of observations `[rows, columns]`: centre and spread of each column.
        seed: of the shocks.
        steps: of quasi-Newton; the search starts where nothing is changed.
    """
    market = deviation.market
    group = market.groups[deviation.group]
    centre = seen.double().mean(0)
    spread = seen.double().std(0)
    # what never moves tells nothing: its slope would be the level again
    moving = spread > 1e-6 * (1 + centre.abs())
    scale = torch.where(moving, spread, torch.inf)
    generator = torch.Generator(market.device).manual_seed(seed)
    with torch.no_grad():
        periods = deviation.periods + deviation.tail
        noise = [market.draw_noise(generator) for _ in range(periods)]
    size = (group.count, 1 + seen.shape[-1], *group.action_space.shape)
    weights = torch.zeros(size, dtype=torch.float64, device=market.device, requires_grad=True)
    # of the same memory: what the search finds is the reaction's
    reaction = Reaction(weights.detach(), centre, scale, deviation.squash)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=steps, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        own = weights[deviation.agents]
        rewards = deviation.follow(
            state, noise, lambda t, seen, action: reaction.moved(action, seen, own)
        )
        # a world that has no value moves no weight
        loss = -(1 - deviation.gamma) * rewards[torch.isfinite(rewards)].mean()
        weights.grad = torch.autograd.grad(loss, weights)[0].nan_to_num_(0.0)
        return loss

    optimizer.step(closure)
    return reaction
