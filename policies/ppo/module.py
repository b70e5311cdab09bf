"""PPO's networks: an actor and a critic that share nothing."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from rl_markets.policies.module import ACTIONS, MarketModule
from rl_markets.policies.networks import Actor, follow

RAW, LOG_PROB = "raw", "log_prob"


class PPOModule(MarketModule):
    """Actor, its running average over iterations, and critic; runners do without the critic.

    The average is what is deployed: it filters the noise that the last updates left in the actor.
    """

    def setup(self) -> None:
        """Builds the networks from `model_config`."""
        super().setup()
        self.averaged = copy.deepcopy(self.actor).requires_grad_(False)
        self.critic = self.critic_on(0)

    @property
    def deployed(self) -> Actor:
        """The averaged actor."""
        return self.averaged

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Moves the average towards the actor; what is not a weight of the network is copied."""
        follow(list(self.averaged.net.parameters()), list(self.actor.net.parameters()), 1 - decay)
        self.averaged.head.load_state_dict(self.actor.head.state_dict())

    def get_non_inference_attributes(self) -> list[str]:
        """What runners drop."""
        return ["critic"]

    def explore(self, observations: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Samples the distribution; keeps the raw action and its log density for the ratio."""
        out = self.actor(observations)
        raw = self.actor.head.sample(out, generator)
        return {ACTIONS: self.actor.head.to_action(raw), RAW: raw, LOG_PROB: self.actor.head.log_prob(out, raw)}
