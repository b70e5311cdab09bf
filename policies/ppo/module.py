"""PPO's networks: an actor and a critic that share nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_markets.policies.module import ACTIONS, EMAModule
from rl_markets.policies.ppo.parameters import PPOParameters

RAW = "raw"
"""Column of the raw actions, before they are squashed."""
LOG_PROB = "log_prob"
"""Column of the raw actions' log density under the policy that drew them."""


class PPOModule(EMAModule[PPOParameters]):
    """Actor, its moving average over iterations, and critic; runners do without the critic."""

    def setup(self) -> None:
        """Builds the networks from `model_config`."""
        super().setup()
        self.critic = self.critic_on(0)

    def get_non_inference_attributes(self) -> list[str]:
        """What runners drop."""
        return ["critic"]

    def explore(self, observations: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Samples the distribution; keeps the raw action and its log density for the ratio."""
        out = self.actor(observations)
        raw = self.head.sample(out, generator)
        return {
            ACTIONS: self.head.to_action(raw),
            RAW: raw,
            LOG_PROB: self.head.log_prob(out, raw),
        }
