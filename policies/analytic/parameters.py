"""The analytic learner's hyper-parameters: one typed line each, with unit and bounds.

Imports neither torch nor ray.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field

from rl_markets.policies.spec import GradientParameters


class AnalyticParameters(GradientParameters):
    """Analytic policy gradient; it uses the market's known dynamics, so it is not model-free."""

    common: ClassVar[tuple[str, ...]] = ("horizon",)

    horizon: int = Field(
        8,
        ge=1,
        le=1000,
        description="periods that gradients go through; divides the rollout's length",
    )
    critic: Literal["value", "co-state"] = Field(
        "co-state",
        description="what ends the horizon: the value V, "
        "or the derivative of V in the logarithm of what the agent owns "
        "(the market says what that is), whose targets come from the same backward pass",
    )
    critic_learning_rate: float = Field(
        3e-3, gt=0, le=1, description="the critic's step size at the start; falls alike"
    )
    critic_steps: int = Field(
        1, ge=1, le=100, description="gradient steps of the critic for each of the actor"
    )
    target_rate: float = Field(
        0.1, gt=0, le=1, description="Polyak rate of the target critic, each gradient step"
    )
    exploration_std: float = Field(
        0.0,
        ge=0,
        le=3,
        description="standard deviation of the raw actions' noise in the runners, "
        "which choose the states",
    )
    averaging: float = Field(
        0.95, ge=0, lt=1, description="decay, per iteration, of the averaged actor that is deployed"
    )

    def smoke(self, rows: int) -> dict[str, Any]:
        """A horizon that divides a short rollout."""
        return {"horizon": math.gcd(self.horizon, 8)}

    def fine_tuning(self) -> dict[str, Any]:
        """Smaller steps, and a critic of values.

        What a deviator owns is one agent's share of the state.
        """
        return super().fine_tuning() | {"critic": "value"}
