"""TD3's hyper-parameters: one typed line each, with unit and bounds.

Imports neither torch nor ray.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from rl_markets.policies.spec import ActorCriticReplayParameters

Critics = Annotated[
    int, Field(ge=1, le=2, description="critics whose smallest value is the target")
]
PolicyDelay = Annotated[
    int,
    Field(
        ge=1, le=1000, description="gradient steps of the critics for each one of actor and targets"
    ),
]
SmoothingStd = Annotated[
    float,
    Field(
        ge=0,
        le=3,
        description="standard deviation of the noise on the target actor's raw actions; 0 for none",
    ),
]


class TD3Parameters(ActorCriticReplayParameters):
    """Twin delayed deep deterministic policy gradients (Fujimoto et al. 2018, arXiv 1802.09477)."""

    critics: Critics = 2
    policy_delay: PolicyDelay = 2
    smoothing_std: SmoothingStd = 0.1
    smoothing_clip: float = Field(
        0.25, gt=0, le=10, description="largest noise on the target actor's raw actions"
    )
    exploration_std: float = Field(
        0.4, gt=0, le=3, description="standard deviation of the noise on raw actions at the start"
    )
    final_exploration_std: float | None = Field(
        None, gt=0, le=3, description="the same in the end, linear in between; null keeps it"
    )

    def fine_tuning(self) -> dict[str, Any]:
        """Smaller steps, and half way to the exploration of the end."""
        changed = super().fine_tuning()
        if self.final_exploration_std is not None:
            changed["exploration_std"] = (self.exploration_std + self.final_exploration_std) / 2
        return changed
