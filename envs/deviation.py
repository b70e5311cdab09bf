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
    """`market` with a single learning agent, everybody else frozen.

    Whatever it can gain is what the frozen profile leaves on the table.

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
        self._observations: dict[str, Tensor] = {}

    @property
    def episode_length(self) -> int | None:  # type: ignore[override]
        """The market's own."""
        return self.market.episode_length

    def truncate_after(self, steps: int | None) -> None:
        """The market's own."""
        self.market.truncate_after(steps)

    def align(self, steps: int) -> None:
        """The market's own."""
        self.market.align(steps)

    def reset(self, seed: int) -> dict[str, Tensor]:
        """The market's own; what the deviator sees."""
        return self._own(self._remember(self.market.reset(seed)))

    @torch.no_grad()
    def profile(self) -> dict[str, Tensor]:
        """What the frozen policies do now, in the deviator's place too."""
        return self._act(self._observations)

    def step(self, actions: Mapping[str, Tensor]) -> Step:
        """The market's step with the deviator's action in its place."""
        step = self.market.step(self._in_place(self.profile(), actions))
        ended = step.ended
        if ended is not None:
            final = self._own(ended.observations)
            ended = Ended(ended.worlds, ended.terminated, final, ended.global_state)
        return Step(
            observations=self._own(self._remember(step.observations)),
            rewards=self._own(step.rewards),
            ended=ended,
            active=self._own_mask(step.active),
            agent_done=self._own_mask(step.agent_done),
        )

    def state_dict(self) -> dict[str, Any]:
        """The market's own."""
        return self.market.state_dict()

    def load_state_dict(self, saved: Mapping[str, Any]) -> dict[str, Tensor]:
        """The reverse of `state_dict`."""
        return self._own(self._remember(self.market.load_state_dict(saved)))

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
        group_actions = profile[self.group].clone()
        group_actions[:, self.agent] = actions[DEVIATOR][:, 0]
        return profile | {self.group: group_actions}

    def _act(self, observations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The frozen policies' actions."""
        return {group: self.policies[group](obs) for group, obs in observations.items()}

    def _remember(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the frozen policies will act on in the next step."""
        self._observations = observations
        return observations

    def _own(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The deviator's part of what all agents have."""
        return {DEVIATOR: values[self.group][:, self.agent : self.agent + 1]}

    def _own_mask(self, mask: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
        return None if mask is None else self._own(mask)


class DifferentiableDeviation(DeviationMarket):
    """The same on a differentiable market, as pure functions too.

    The others' answer to a deviation is differentiated.
    """

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
        # Not `profile`, which is without gradients: the others react, and that counts.
        profile = self._act(self.market.observe(state))
        transition = self.market.transition(state, self._in_place(profile, actions), noise)
        return Transition(
            state=transition.state,
            rewards=self._own(transition.rewards),
            terminated=transition.terminated,
            active=self._own_mask(transition.active),
            agent_done=self._own_mask(transition.agent_done),
        )


def deviation(
    market: Market, policies: Mapping[str, PolicyFunction], group: str
) -> DeviationMarket:
    """`market` with the first agent of `group` free to deviate from `policies`."""
    if market.differentiable and isinstance(market, TensorMarket):
        return DifferentiableDeviation(market, policies, group)
    return DeviationMarket(market, policies, group)
