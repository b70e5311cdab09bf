"""TD3's networks: a deterministic actor, one or two critics, and slow targets of both."""

from __future__ import annotations

import copy
import math
from typing import ClassVar, cast

from rl_markets.policies.actors import NetworkActor
from rl_markets.policies.heads import NOISY_TANH, NoisyTanh
from rl_markets.policies.offpolicy import OffPolicyModule
from rl_markets.policies.td3.parameters import TD3Parameters


class TD3Module(OffPolicyModule[TD3Parameters]):
    """Actor and its slow target, critics and theirs; noise on raw actions explores."""

    distribution: ClassVar[str] = NOISY_TANH
    target_actor: NetworkActor

    def setup(self) -> None:
        """Builds the networks from `model_config`."""
        super().setup()
        p = self.hyperparameters
        self.explore_by(p.exploration_std)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)
        self.build_critics(p.critics)

    def explore_by(self, std: float) -> None:
        """Sets the standard deviation of the exploration noise on raw actions."""
        cast(NoisyTanh, self.actor.head).set_log_std(math.log(std))

    def get_non_inference_attributes(self) -> list[str]:
        """What runners drop."""
        return [*super().get_non_inference_attributes(), "target_actor"]
