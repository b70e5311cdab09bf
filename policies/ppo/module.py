"""PPO's networks: an actor and a critic that share nothing."""

from __future__ import annotations

import copy
from typing import Any

import torch
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from torch import Tensor

from rl_markets.policies.module import ACTIONS, MarketModule
from rl_markets.policies.networks import Actor, Critic

RAW, LOG_PROB = "raw", "log_prob"


class PPOModule(MarketModule, ValueFunctionAPI, InferenceOnlyAPI):  # type: ignore[misc]
    """Actor, its running average over iterations, and critic; runners do without the critic.

    The average is what is deployed: it filters the noise that the last updates left in the actor.
    """

    def setup(self) -> None:
        """Builds the networks from `model_config`."""
        super().setup()
        actor = self.model_config["actor"]
        self.averaged = copy.deepcopy(self.actor).requires_grad_(False)
        self.critic = Critic(actor["observation"], actor["hidden"], actor["activation"], self.generator)

    @property
    def deployed(self) -> Actor:
        """The averaged actor."""
        return self.averaged

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Moves the average towards the actor; what is not a weight of the network is copied."""
        for mean, latest in zip(self.averaged.net.parameters(), self.actor.net.parameters(), strict=True):
            mean.lerp_(latest, 1 - decay)
        self.averaged.head.load_state_dict(self.actor.head.state_dict())

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
