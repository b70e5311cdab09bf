"""SAC's hyper-parameters: one typed line each, with unit and bounds. Imports neither torch nor ray."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from rl_markets.policies.registry import LearnerParameters


class ReplayParameters(LearnerParameters):
    """What every learner that replays has."""

    updates: int = Field(16, ge=1, le=1_000_000, description="gradient steps in each iteration")
    batch_size: int = Field(256, ge=1, le=10**7, description="rows of each gradient step, over all learners")
    capacity: int = Field(
        1_000_000, ge=1, le=10**9, description="rows that each learner's replay keeps; separate policies' count worlds"
    )
    store_replay: bool = Field(True, description="checkpoints hold the replay, so that a resumed run goes on alike")

    def small(self, rows: int) -> dict[str, Any]:
        """Few and small gradient steps."""
        return {"updates": min(self.updates, 8), "batch_size": min(self.batch_size, 64)}


class SACParameters(ReplayParameters):
    """Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905)."""

    critic_learning_rate: float = Field(
        3e-3, gt=0, le=1, description="the critics' step size at the start; falls alike"
    )
    alpha_learning_rate: float = Field(3e-3, gt=0, le=1, description="the temperature's step size; falls alike")
    initial_alpha: float = Field(
        0.05, gt=0, le=100, description="temperature at the start, in standard deviations of Q"
    )
    target_entropy: float = Field(
        -0.2,
        ge=-4.5,
        le=2.4,
        description="entropy aimed at, nats for each raw action; a standard deviation of .2 has -.2",
    )
    final_target_entropy: float | None = Field(
        None, ge=-4.5, le=2.4, description="entropy aimed at in the end, linear in between; null keeps it"
    )
    target_rate: float = Field(0.03, gt=0, le=1, description="Polyak rate of the target critics, each gradient step")
    averaging: float = Field(
        0.95, ge=0, lt=1, description="decay, per iteration, of the averaged actor that is deployed"
    )

    def gently(self) -> dict[str, Any]:
        """Smaller steps, and the entropy of the end."""
        changed = super().gently()
        if self.final_target_entropy is not None:
            changed["target_entropy"] = (self.target_entropy + self.final_target_entropy) / 2
        return changed
