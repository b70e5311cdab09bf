"""A market seen by one agent that may deviate, while everybody else follows frozen policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from rl_markets.envs.market import Market, Policy, State, Transition

DEVIATOR = "deviator"


class DeviationMarket(Market):
    """`market` with a single learning agent; whatever it can gain is what the frozen profile leaves on the table.

    Args:
        market: the market to deviate in.
        policies: group -> the frozen policy of its agents.
        group: the deviator's group.
        agent: the deviator's index in it.
    """

    def __init__(self, market: Market, policies: Mapping[str, Policy], group: str, agent: int = 0) -> None:
        super().__init__(
            worlds=market.worlds,
            episode_length=market.episode_length,
            device=str(market.device),
            stagger=market.stagger,
        )
        self.market, self.policies, self.group, self.agent = market, policies, group, agent
        self.groups = {DEVIATOR: replace(market.groups[group], count=1)}

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        """The market's own."""
        return self.market.initial_state(worlds, generator)

    def draw_noise(self, generator: torch.Generator) -> State:
        """The market's own."""
        return self.market.draw_noise(generator)

    def observe(self, state: State) -> dict[str, Tensor]:
        """What the deviator sees."""
        return {DEVIATOR: self._own(self.market.observe(state)[self.group])}

    @torch.no_grad()
    def frozen_actions(self, state: State) -> dict[str, Tensor]:
        """What everybody does who follows the frozen policies, the deviator's place included."""
        return {group: self.policies[group](seen) for group, seen in self.market.observe(state).items()}

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        """The market's dynamics with the deviator's action in its place."""
        profile = self.frozen_actions(state)
        mine = profile[self.group].clone()
        mine[:, self.agent] = actions[DEVIATOR][:, 0]
        moved = self.market.transition(state, profile | {self.group: mine}, noise)
        acted = None if moved.acted is None else {DEVIATOR: self._own(moved.acted[self.group])}
        return Transition(moved.state, {DEVIATOR: self._own(moved.rewards[self.group])}, moved.terminated, acted)

    def in_units(self, gain: float) -> tuple[float, str]:
        """The market's own."""
        return self.market.in_units(gain)

    def _own(self, values: Tensor) -> Tensor:
        return values[:, self.agent : self.agent + 1]
