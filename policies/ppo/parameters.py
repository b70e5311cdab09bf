"""PPO's hyper-parameters: one typed line each, with unit and bounds.

Imports neither torch nor ray.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from rl_markets.policies.spec import GradientParameters


class PPOParameters(GradientParameters):
    """Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347)."""

    undiscounted: ClassVar[bool] = True

    common: ClassVar[tuple[str, ...]] = ("epochs", "minibatches")

    critic_learning_rate: float = Field(
        1e-3, gt=0, le=1, description="the critic's step size at the start; falls alike"
    )
    gae_lambda: float = Field(
        0.95, ge=0, le=1, description="trace decay of generalised advantage estimation"
    )
    common_baseline: bool = Field(
        False,
        description="subtract the other agents' mean advantage in the same world and step, "
        "which takes out shocks that all share; "
        "meant for many agents that hardly move each other's rewards",
    )
    centring: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share, each iteration, by which all values move at once "
        "towards what they miss in common; 0 leaves that to the critic's steps",
    )
    clip: float = Field(
        0.2, gt=0, lt=1, description="the probability ratio is clipped to 1 +- clip"
    )
    epochs: int = Field(
        4, ge=1, le=100, description="passes over each rollout, equal for every policy"
    )
    minibatches: int = Field(
        8, ge=1, le=10_000, description="equal slices of each pass, one gradient step each"
    )
    entropy_weight: float = Field(0.0, ge=0, le=10, description="weight of the entropy bonus")
    averaging: float = Field(
        0.95, ge=0, lt=1, description="decay, per iteration, of the averaged actor that is deployed"
    )
    log_std: float = Field(
        -0.5, ge=-10, le=3, description="initial log standard deviation of raw continuous actions"
    )
    final_log_std: float | None = Field(
        None,
        ge=-10,
        le=3,
        description="log standard deviation at the end, linear in between; null trains it instead",
    )

    def fine_tuning(self) -> dict[str, Any]:
        """Smaller steps, and half way to the exploration of the end."""
        changed = super().fine_tuning()
        if self.final_log_std is not None:
            changed["log_std"] = (self.log_std + self.final_log_std) / 2
        return changed

    def smoke(self, rows: int) -> dict[str, Any]:
        """No more minibatches than there are pairs of rows."""
        return {"minibatches": max(1, min(self.minibatches, rows // 2))}
