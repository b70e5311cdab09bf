"""PPO's networks: an actor and a critic that share nothing."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from torch import Tensor

from rl_markets.policies.module import ACTIONS, MarketModule
from rl_markets.policies.networks import Critic

RAW, LOG_PROB = "raw", "log_prob"


class PPOModule(MarketModule, ValueFunctionAPI, InferenceOnlyAPI):  # type: ignore[misc]
    """Actor and critic; runners hold the actor only."""

    def setup(self) -> None:
        """Builds both networks from `model_config`."""
        super().setup()
        actor = self.model_config["actor"]
        self.critic = Critic(actor["observation"], actor["hidden"], actor["activation"], self.generator)

    def get_non_inference_attributes(self) -> list[str]:
        """What runners drop."""
        return ["critic"]

    def explore(self, observations: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Samples the distribution; keeps the raw action and its log density for the ratio."""
        out = self.actor(observations)
        raw = self.actor.head.sample(out, generator)
        return {ACTIONS: self.actor.head.to_action(raw), RAW: raw, LOG_PROB: self.actor.head.log_prob(out, raw)}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        """V of `batch["obs"]`."""
        values: Tensor = self.critic(batch["obs"])
        return values

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"out": self.actor(batch["obs"]), "normalized_values": self.critic.normalized(batch["obs"])}
