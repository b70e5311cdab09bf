"""SAC's networks: a squashed Gaussian actor, twin critics with slow targets, and a temperature."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import Tensor, nn

from rl_markets.policies.heads import SQUASHED_GAUSSIAN
from rl_markets.policies.module import ACTIONS, MarketModule
from rl_markets.policies.networks import Actor, Critic

RAW = "raw"
REACH = 3.0
"""Critics see raw actions within about +-3, where tanh has reached .995."""


class SACModule(MarketModule):
    """Actor, its running average over iterations (which is deployed), critics Q1 and Q2 on (s, raw), log alpha.

    The twin critics are one stack of networks: one batched product serves both. With separate policies every agent has
    its own pair, and its own temperature.
    """

    distribution: ClassVar[str] = SQUASHED_GAUSSIAN

    def setup(self) -> None:
        """Builds the networks from `model_config`."""
        super().setup()
        self.averaged = copy.deepcopy(self.actor).requires_grad_(False)
        self.critic = self.critic_on(self.actor.head.inputs // 2, ensemble=2)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.zeros(self.actor.spec.get("copies") or 1))

    @property
    def deployed(self) -> Actor:
        """The averaged actor."""
        return self.averaged

    def values(self, critic: Critic, observations: Tensor, raw: Tensor) -> Tensor:
        """Normalised Q1 and Q2, `[2, ...]`.

        The critics see raw and not squashed actions: what is logarithmic near a bound, such as utility, is about linear
        in them. They see them bounded, so that no policy runs away to where the critics extrapolate.
        """
        return critic.normalized(torch.cat([observations, REACH * torch.tanh(raw / REACH)], -1))

    def get_non_inference_attributes(self) -> list[str]:
        """What runners drop."""
        return ["critic", "target", "log_alpha"]

    def explore(self, observations: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Samples the distribution; keeps the raw action."""
        raw = self.actor.head.sample(self.actor(observations), generator)
        return {ACTIONS: self.actor.head.to_action(raw), RAW: raw}
