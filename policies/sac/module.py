"""SAC's networks: a squashed Gaussian actor, twin critics with slow targets, and a temperature."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from rl_markets.policies.heads import SQUASHED_GAUSSIAN
from rl_markets.policies.offpolicy import OffPolicyModule
from rl_markets.policies.sac.parameters import SACParameters


class SACModule(OffPolicyModule[SACParameters]):
    """Actor, twin critics, and log alpha, the logarithm of the temperature.

    With separate policies every agent has its own temperature, too: `[agents]`, else `[1]`.
    """

    distribution: ClassVar[str] = SQUASHED_GAUSSIAN

    def setup(self) -> None:
        """Builds the networks from `model_config`."""
        super().setup()
        self.build_critics(2)
        self.log_alpha = nn.Parameter(torch.zeros(self.actor.spec.get("copies") or 1))

    def get_non_inference_attributes(self) -> list[str]:
        """What runners drop."""
        return [*super().get_non_inference_attributes(), "log_alpha"]
