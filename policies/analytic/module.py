"""The analytic learner's networks: a deterministic actor, and a critic with a slow target."""

from __future__ import annotations

import copy
import math
from typing import ClassVar, cast

import torch
from torch import Tensor

from rl_markets.policies.analytic.parameters import AnalyticParameters
from rl_markets.policies.heads import NOISY_TANH, NoisyTanh
from rl_markets.policies.module import ACTIONS, EMAModule

SILENCE = 1e-8
"""Standard deviation that stands for none: its logarithm is what is set."""


class AnalyticModule(EMAModule[AnalyticParameters]):
    """Actor, its moving average (which is deployed), critic and target critic.

    The critic gives V, or the co-state: the derivative of V in the logarithm of what is owned.
    """

    distribution: ClassVar[str] = NOISY_TANH

    def setup(self) -> None:
        """Builds the networks from `model_config`."""
        super().setup()
        std = max(SILENCE, self.hyperparameters.exploration_std)
        cast(NoisyTanh, self.actor.head).set_log_std(math.log(std))
        self.critic = self.critic_on(0)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)

    def get_non_inference_attributes(self) -> list[str]:
        """What runners drop."""
        return ["critic", "target"]

    def explore(self, observations: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The actor's actions with noise.

        The learner takes nothing but the states that they lead to.
        """
        raw = self.head.sample(self.actor(observations), generator)
        return {ACTIONS: self.head.to_action(raw)}
