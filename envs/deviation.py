"""A market seen by one agent that may deviate, while everybody else follows frozen policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rl_markets.envs.market import (
    Ended,
    Market,
    PolicyFunction,
    State,
    Step,
    TensorMarket,
    Transition,
)

DEVIATOR = "deviator"


class DeviationMarket(Market):
    """`market` with a single learning agent; whatever it can gain is what the frozen profile leaves
    on the table.

    Args:
        market: the market to deviate in.
        policies: group -> the frozen policy of its agents.
        group: the deviator's group.
        agent: the deviator's index in it.
    """

    def __init__(
        self, market: Market, policies: Mapping[str, PolicyFunction], group: str, agent: int = 0
    ) -> None:
        self.market = market
        self.policies = policies
        self.group = group
        self.agent = agent
        self.worlds = market.worlds
        self.device = market.device
        self.groups = {DEVIATOR: replace(market.groups[group], count=1)}
        self._seen: dict[str, Tensor] = {}

    @property
    def episode_length(self) -> int | None:  # type: ignore[override]
        """The market's own."""
        return self.market.episode_length

    @episode_length.setter
    def episode_length(self, steps: int | None) -> None:
        self.market.episode_length = steps

    def reset(self, seed: int) -> dict[str, Tensor]:
        """The market's own; what the deviator sees."""
        return self._own(self._note(self.market.reset(seed)))

    @torch.no_grad()
    def profile(self) -> dict[str, Tensor]:
        """What everybody does now who follows the frozen policies, the deviator's place
        included."""
        return {group: self.policies[group](seen) for group, seen in self._seen.items()}

    def step(self, actions: Mapping[str, Tensor]) -> Step:
        """The market's step with the deviator's action in its place."""
        step = self.market.step(self._in_place(self.profile(), actions))
        ended = step.ended
        if ended is not None:
            ended = Ended(
                ended.worlds, ended.terminated, self._own(ended.observations), ended.global_state
            )
        active, agent_done = (
            None if mask is None else self._own(mask) for mask in (step.active, step.agent_done)
        )
        return Step(
            self._own(self._note(step.observations)),
            self._own(step.rewards),
            ended,
            active,
            agent_done,
        )

    def state_dict(self) -> dict[str, Any]:
        """The market's own."""
        return self.market.state_dict()

    def load_state_dict(self, saved: Mapping[str, Any]) -> dict[str, Tensor]:
        """The reverse of `state_dict`."""
        return self._own(self._note(self.market.load_state_dict(saved)))

    def global_state(self) -> Tensor:
        """The market's own."""
        return self.market.global_state()

    def in_units(self, gain: float) -> tuple[float, str]:
        """The market's own."""
        return self.market.in_units(gain)

    def close(self) -> None:
        """Closes the market."""
        self.market.close()

    def _in_place(
        self, profile: dict[str, Tensor], actions: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The profile with the deviator's action in its place."""
        mine = profile[self.group].clone()
        mine[:, self.agent] = actions[DEVIATOR][:, 0]
        return profile | {self.group: mine}

    def _note(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        self._seen = observations
        return observations

    def _own(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {DEVIATOR: values[self.group][:, self.agent : self.agent + 1]}


class DifferentiableDeviation(DeviationMarket):
    """The same on a differentiable market, as pure functions too: the others' answer to a deviation
    is differentiated."""

    differentiable = True
    market: TensorMarket

    @property
    def state(self) -> State:
        """The market's own."""
        return self.market.state

    def observe(self, state: State) -> dict[str, Tensor]:
        """What the deviator sees of `state`."""
        return self._own(self.market.observe(state))

    def observe_globally(self, state: State) -> Tensor | None:
        """The market's own."""
        return self.market.observe_globally(state)

    def draw_noise(self, generator: torch.Generator) -> State:
        """The market's own."""
        return self.market.draw_noise(generator)

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        """The market's own, with the deviator's action in its place."""
        profile = {
            group: self.policies[group](seen) for group, seen in self.market.observe(state).items()
        }
        moved = self.market.transition(state, self._in_place(profile, actions), noise)
        active, agent_done = (
            None if mask is None else self._own(mask) for mask in (moved.active, moved.agent_done)
        )
        return Transition(
            moved.state, self._own(moved.rewards), moved.terminated, active, agent_done
        )


def deviation(
    market: Market, policies: Mapping[str, PolicyFunction], group: str
) -> DeviationMarket:
    """`market` with the first agent of `group` free to deviate from `policies`."""
    kind = (
        DifferentiableDeviation
        if market.differentiable and isinstance(market, TensorMarket)
        else DeviationMarket
    )
    return kind(market, policies, group)
