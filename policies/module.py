"""The RLlib module that acts in markets: what a runner asks of any learner's networks."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from safetensors.torch import load_file
from torch import Tensor

from rl_markets.policies.networks import Actor

ACTIONS = "actions"
"""Column of the actions given to the market, in its action space."""


class MarketModule(TorchRLModule):  # type: ignore[misc]
    """Base of every learner's module.

    `model_config` holds `actor` (the spec of `networks.Actor`), `seed` (of the initial weights), optionally `weights`
    (a safetensors file with the actor to start from) and whatever else the learner's `setup` reads.
    """

    actor: Actor

    def setup(self) -> None:
        """Builds the actor; subclasses add their critics after it, drawing from the same generator."""
        self.generator = torch.Generator().manual_seed(self.model_config["seed"])
        self.actor = Actor(self.model_config["actor"], self.generator)
        if weights := self.model_config.get("weights"):
            self.actor.load_state_dict(load_file(weights))

    @abstractmethod
    def explore(self, observations: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Acts with exploration.

        Args:
            observations: `[N, observation]`.
            generator: source of all randomness.

        Returns:
            columns `[N, ...]` for the learner; `actions` among them, in the action space.
        """

    @property
    def deployed(self) -> Actor:
        """The network that is evaluated and exported."""
        return self.actor

    def exploit(self, observations: Tensor) -> Tensor:
        """The deterministic policy's actions, `[N, action]`."""
        return self.deployed.act(observations)

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {ACTIONS: self.exploit(batch["obs"])}
