"""SAC's hyper-parameters: one typed line each, with unit and bounds.

Imports neither torch nor ray.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from rl_markets.policies.spec import ActorCriticReplayParameters


class SACParameters(ActorCriticReplayParameters):
    """Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905)."""

    alpha_learning_rate: float = Field(
        3e-3, gt=0, le=1, description="the temperature's step size; falls alike"
    )
    initial_alpha: float = Field(
        0.05, gt=0, le=100, description="temperature at the start, in standard deviations of Q"
    )
    target_entropy: float = Field(
        -0.2,
        ge=-4.5,
        le=2.4,
        description="entropy aimed at, nats for each raw action; "
        "a standard deviation of .2 has -.2",
    )
    final_target_entropy: float | None = Field(
        None,
        ge=-4.5,
        le=2.4,
        description="entropy aimed at in the end, linear in between; null keeps it",
    )

    def fine_tuning(self) -> dict[str, Any]:
        """Smaller steps, and half way to the entropy of the end."""
        changed = super().fine_tuning()
        if self.final_target_entropy is not None:
            changed["target_entropy"] = (self.target_entropy + self.final_target_entropy) / 2
        return changed
