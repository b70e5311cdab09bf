"""A `TensorMarket` in the middle of an episode, whose functions can be called one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rl_markets.conformance.probe import Actions, Subject, play
from rl_markets.envs.market import State, TensorMarket, Transition
from rl_markets.errors import Informs, TimeLimitError

RELATIVE = 1e-4
ABSOLUTE = 1e-6
"""Tolerance where sums may run in another order; the absolute one in units of the largest value."""
NO_FUNCTIONS = "no TensorMarket, whose functions can be called alone"


@dataclass(frozen=True)
class Moment:
    """A market in the middle of an episode: everything that its functions take.

    Attributes:
        market: whose functions are called.
        state, noise: name -> `[worlds, ...]`.
        actions: group -> `[worlds, agents, ...]`.
    """

    market: TensorMarket
    state: State
    actions: dict[str, Tensor]
    noise: State

    def step(self) -> Transition:
        """The dynamics at this moment."""
        return self.market.transition(self.state, self.actions, self.noise)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The arguments of `transition` by name."""
        return {"state": self.state, "actions": self.actions, "noise": self.noise}

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Moment:
        """Another moment, with `function` of every tensor."""

        def of(part: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: function(value) for name, value in part.items()}

        return Moment(self.market, of(self.state), of(self.actions), of(self.noise))

    def rows(self, worlds: Tensor) -> Moment:
        """Another moment, in whose world i is what was in `worlds[i]`."""
        return self.mapped(lambda value: value[worlds.to(value.device)])

    def outcome(self) -> dict[str, Tensor]:
        """All that follows from this moment, by name; every tensor leads with worlds."""
        transition = self.step()
        observations = self.market.observe(transition.state)
        outcome = {f"rewards of group {g!r}": v for g, v in transition.rewards.items()}
        outcome |= {f"state {name!r}": v for name, v in transition.state.items()}
        outcome |= {f"observations of group {g!r}": v for g, v in observations.items()}
        global_state = self.market.observe_globally(transition.state)
        if global_state is not None:
            outcome["the global state"] = global_state
        if transition.terminated is not None:
            outcome["terminated"] = transition.terminated
        masks = (("active", transition.active), ("agent_done", transition.agent_done))
        for what, mask in masks:
            outcome |= {f"{what} of group {g!r}": v for g, v in (mask or {}).items()}
        return outcome


def moment(subject: Subject, style: str = "mixed") -> Moment:
    """The shared market after a few random steps; nothing of it is the market's own.

    Raises:
        Informs: where the market is no `TensorMarket`, whose functions cannot be called alone.
    """
    market = subject.market
    if not isinstance(market, TensorMarket):
        raise Informs(NO_FUNCTIONS)
    with subject.limit() as limit:
        for _ in play(market, 5, limit):
            pass
    next_actions = Actions(market, 5, style)
    actions = [next_actions() for _ in range(3)][-1]  # the first two lie at the bounds
    noise = market.draw_noise(market.generator)
    return Moment(market, market.state, actions, noise).mapped(torch.clone)


def first_moment(subject: Subject) -> tuple[Moment, State]:
    """The shared market just after a reset, and the state that a step leads to.

    Raises:
        Informs: where the market is no `TensorMarket`, or its step fails.
        TimeLimitError: where its step takes too long.
    """
    market = subject.market
    if not isinstance(market, TensorMarket):
        raise Informs(NO_FUNCTIONS)
    try:
        with subject.limit() as limit:
            limit(market.reset, 0)
            actions = Actions(market, 0, "inner")()
            noise = market.draw_noise(market.generator)
            now = Moment(market, market.state, actions, noise)
            return now, limit(now.step).state
    except TimeLimitError:
        raise
    except Exception as error:
        raise Informs("not looked at: a step fails") from error


def close(one: Tensor, other: Tensor) -> bool:
    """Equal up to rounding, where NaN equals NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.is_floating_point() or not one.numel():
        return bool((one == other).all())
    scale = float(one.abs().nan_to_num(0, 0, 0).max())
    return torch.allclose(one, other, rtol=RELATIVE, atol=ABSOLUTE * scale, equal_nan=True)
