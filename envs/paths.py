"""The best deviation along a path without shocks.

One agent's actions are optimised, everybody else follows a policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl_markets.envs.market import PolicyFunction, State, TensorMarket

INSIDE = 1e-4
"""Free actions stay so far, as a share of the box, from its bounds."""
LEFT_TORCH = "Tensor that requires grad"
"""What torch says to a function that turns such a tensor into numpy's."""


@dataclass(frozen=True)
class PathDeviation:
    """One agent of each world leaves a frozen profile for the actions that are best for it.

    Without shocks the future is known, so that a path of actions is as good as a policy: its best
    path is the best response, up to the periods that are free and to the optimiser. The gain is a
    lower bound in any case, as staying is where the search starts. The others go on to follow their
    policies, and react.

    Attributes:
        market: pure functions in double precision, without shocks that matter; gradients must go
            through everything, so that the deviator's effect on prices and on the others counts.
        policies: group -> the frozen policy.
        group: the deviators' group.
        agents: world -> its deviator's place in the group, `[worlds]`.
        gamma: discount factor.
        periods: how many actions are free; afterwards the deviator follows the policy again.
        tail: periods after those, so that what it leaves itself with is valued.
    """

    market: TensorMarket
    policies: Mapping[str, PolicyFunction]
    group: str
    agents: Tensor
    gamma: float
    periods: int = 80
    tail: int = 80

    def gains(self, state: State, *, steps: int = 40) -> Tensor:
        """Discounted reward that each world's deviator gains from `state`, `[worlds]`.

        `steps` are quasi-Newton's. NaN where the frozen profile's own reward is not finite.
        """
        with torch.no_grad():
            noise = self.market.draw_noise(torch.Generator(self.market.device).manual_seed(0))
            stay, raw = self._follow(state, noise, None)
        raw = raw.requires_grad_()
        valued = torch.isfinite(stay)  # elsewhere the frozen profile itself has no value
        best = torch.zeros_like(stay).masked_fill_(~valued, torch.nan)
        optimizer = torch.optim.LBFGS(
            [raw], max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            gains = self._follow(state, noise, raw)[0] - stay
            # The search climbs the sum over worlds: each world keeps the best that it has met.
            best.copy_(torch.where(gains > best, gains, best).detach())
            loss = -(1 - self.gamma) * gains[valued].sum()
            # A world without a value moves nobody else's.
            raw.grad = torch.autograd.grad(loss, raw)[0].nan_to_num_(0.0)
            return loss

        optimizer.step(closure)
        return best

    @property
    def _box(self) -> tuple[Tensor, Tensor]:
        """The lowest action, and how far the highest is from it."""
        space: Any = self.market.groups[self.group].action_space
        low = torch.as_tensor(space.low, device=self.market.device).double()
        high = torch.as_tensor(space.high, device=self.market.device).double()
        return low, high - low

    def _follow(self, state: State, noise: State, raw: Tensor | None) -> tuple[Tensor, Tensor]:
        """The deviators' discounted rewards `[worlds]`, and their raw actions.

        Raw actions are `[periods, worlds, action]`. Without them the deviators do what the policy
        says, and the raw actions that this amounts to are returned.
        """
        worlds = torch.arange(len(self.agents))
        total = torch.zeros(())
        policy_raw = []
        for t in range(self.periods + self.tail):
            # Policies compute in single precision, the market and the search in double.
            actions = {
                group: _act(self.policies[group], observations.float()).double()
                for group, observations in self.market.observe(state).items()
            }
            if t < self.periods and raw is not None:
                group_actions = actions[self.group].clone()
                group_actions[worlds, self.agents] = self._to_action(raw[t])
                actions[self.group] = group_actions
            elif t < self.periods:
                policy_raw.append(self._to_raw(actions[self.group][worlds, self.agents]))
            transition = self.market.transition(state, actions, noise)
            reward = transition.rewards[self.group][worlds, self.agents]
            total = total + self.gamma**t * reward
            state = transition.state
        return total, torch.stack(policy_raw) if raw is None else raw

    def _to_action(self, raw: Tensor) -> Tensor:
        """Any number to the inside of the box."""
        low, width = self._box
        return low + width * (INSIDE + (1 - 2 * INSIDE) * torch.sigmoid(raw))

    def _to_raw(self, action: Tensor) -> Tensor:
        """The reverse; an action nearer to a bound than the inside is moved there."""
        low, width = self._box
        share = ((action - low) / width - INSIDE) / (1 - 2 * INSIDE)
        return torch.logit(share.clamp(INSIDE, 1 - INSIDE))


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
