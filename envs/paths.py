"""What one agent gains that leaves a frozen profile, by gradients through the market.

`PathDeviation` is its best path without shocks; `envs/reactions.py` changes how it reacts to what
it sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_markets.envs.market import PolicyFunction, State, TensorMarket

INSIDE = 1e-4
"""Free actions stay so far, as a share of the box, from its bounds."""
Deviate = Callable[[int, Tensor, Tensor], Tensor]
"""What deviators do: period, what they see `[worlds, columns]`, what the policy would do there
`[worlds, action]` -> their action."""
LEFT_TORCH = "Tensor that requires grad"
"""What torch says to a function that turns such a tensor into numpy's."""


@dataclass(frozen=True)
class Deviation:
    """One agent of each world leaves a frozen profile, and gradients pass through what follows.

    The others go on to follow their policies, and react.

    Attributes:
        market: pure functions in double precision; gradients must go through everything, so that
            the deviator's effect on prices and on the others counts.
        policies: group -> the frozen policy.
        group: the deviators' group.
        agents: world -> its deviator's place in the group, `[worlds]`.
        gamma: discount factor.
        periods: how long it deviates; afterwards the deviator follows the policy again.
        tail: periods after those, so that what it leaves itself with is valued.
    """

    market: TensorMarket
    policies: Mapping[str, PolicyFunction]
    group: str
    agents: Tensor
    gamma: float
    periods: int = 80
    tail: int = 80

    def follow(self, state: State, noise: Sequence[State], deviate: Deviate) -> Tensor:
        """The deviators' discounted rewards from `state` on, `[worlds]`.

        Args:
            state: where they leave.
            noise: of each period; the last one goes on.
            deviate: what they do; see `Deviate`.
        """
        worlds = torch.arange(len(self.agents))
        total = torch.zeros(())
        for t in range(self.periods + self.tail):
            # Policies compute in single precision, the market and the search in double.
            seen = self.market.observe(state)
            actions = {
                group: _act(self.policies[group], own.float()).double()
                for group, own in seen.items()
            }
            if t < self.periods:
                theirs = actions[self.group].clone()
                own = seen[self.group][worlds, self.agents]
                theirs[worlds, self.agents] = deviate(t, own, theirs[worlds, self.agents])
                actions[self.group] = theirs
            shock = noise[min(t, len(noise) - 1)]
            transition = self.market.transition(state, actions, shock)
            reward = transition.rewards[self.group][worlds, self.agents]
            total = total + self.gamma**t * reward
            state = transition.state
        return total

    @property
    def squash(self) -> Squash:
        """Between any number and the box of the deviators' actions."""
        space: Any = self.market.groups[self.group].action_space
        low = torch.as_tensor(space.low, device=self.market.device).double()
        high = torch.as_tensor(space.high, device=self.market.device).double()
        return Squash(low, high - low)


@dataclass(frozen=True)
class Squash:
    """Raw actions, which may be any number, and actions of a box.

    Attributes:
        low: the lowest action.
        width: how far the highest is from it.
    """

    low: Tensor
    width: Tensor

    def to_action(self, raw: Tensor) -> Tensor:
        """Any number to the inside of the box."""
        return self.low + self.width * (INSIDE + (1 - 2 * INSIDE) * torch.sigmoid(raw))

    def to_raw(self, action: Tensor) -> Tensor:
        """The reverse; an action nearer to a bound than the inside is moved there."""
        share = ((action - self.low) / self.width - INSIDE) / (1 - 2 * INSIDE)
        return torch.logit(share.clamp(INSIDE, 1 - INSIDE))


@dataclass(frozen=True)
class PathDeviation(Deviation):
    """The actions that are best for who leaves, period by period, where no shocks matter.

    Without shocks the future is known, so that a path of actions is as good as a policy: its best
    path is the best response, up to the periods that are free and to the optimiser. The gain is a
    lower bound in any case, as staying is where the search starts.
    """

    def gains(self, state: State, *, steps: int = 40) -> Tensor:
        """Discounted reward that each world's deviator gains from `state`, `[worlds]`.

        `steps` are quasi-Newton's. NaN where the frozen profile's own reward is not finite.
        """
        squash = self.squash
        policy_raw: list[Tensor] = []

        def note(t: int, seen: Tensor, action: Tensor) -> Tensor:
            policy_raw.append(squash.to_raw(action))
            return action

        with torch.no_grad():
            noise = [self.market.draw_noise(torch.Generator(self.market.device).manual_seed(0))]
            stay = self.follow(state, noise, note)
        raw = torch.stack(policy_raw).requires_grad_()
        valued = torch.isfinite(stay)  # elsewhere the frozen profile itself has no value
        best = torch.zeros_like(stay).masked_fill_(~valued, torch.nan)
        optimizer = torch.optim.LBFGS(
            [raw], max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            path = self.follow(state, noise, lambda t, seen, action: squash.to_action(raw[t]))
            gains = path - stay
            # The search climbs the sum over worlds: each world keeps the best that it has met.
            best.copy_(torch.where(gains > best, gains, best).detach())
            loss = -(1 - self.gamma) * gains[valued].sum()
            # A world without a value moves nobody else's.
            raw.grad = torch.autograd.grad(loss, raw)[0].nan_to_num_(0.0)
            return loss

        optimizer.step(closure)
        return best


def _act(policy: PolicyFunction, observations: Tensor) -> Tensor:
    """What a policy does.

    One that leaves torch, as a rule of the user's may, reacts, but the search does not foresee it.
    """
    try:
        return policy(observations)
    except RuntimeError as error:
        if not (observations.requires_grad and LEFT_TORCH in str(error)):
            raise
        return policy(observations.detach())
