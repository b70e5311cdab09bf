"""DQN's hyper-parameters: one typed line each, with unit and bounds. Imports neither torch nor ray."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from rl_markets.policies.registry import ReplayParameters

BELOW_ONE = ("eps-softmax", "eps-greedy", "entropy-budget", "loss-budget", "rank")
"""Rules whose knob is a share."""


class DQNParameters(ReplayParameters):
    """Double DQN (van Hasselt et al. 2016, arXiv 1509.06461) with a branch for each choice (arXiv 1711.08946)."""

    undiscounted: ClassVar[bool] = True
    common: ClassVar[tuple[str, ...]] = ("heads",)

    target_rate: float = Field(0.01, gt=0, le=1, description="Polyak rate of the target network, each gradient step")
    huber: float = Field(1.0, gt=0, description="errors beyond it, in the normalised loss, count linearly")
    normalise: bool = Field(
        True,
        description="learn action values in units of their own spread; false is the control that depends on the currency",
    )
    renormalising: float = Field(0.95, ge=0, lt=1, description="decay, per iteration, of the values' spread")
    rule: Literal[
        "eps-softmax",
        "entropy-budget",
        "loss-budget",
        "rank",
        "range-softmax",
        "zscore-softmax",
        "bootstrapped",
        "eps-greedy",
        "boltzmann",
    ] = Field("eps-softmax", description="how choices are explored; all but boltzmann ignore the rewards' unit")
    exploration: float = Field(
        1.0,
        gt=0,
        description="the rule's knob at the start: eps, h, d, rho, k, b, or tau in the unit of what is learned",
    )
    final_exploration: float | None = Field(
        0.02, gt=0, description="the knob in the end, linear in between; null keeps it"
    )
    exploration_share: float = Field(0.7, gt=0, le=1, description="share of training in which the knob moves")
    beta: float = Field(2.0, ge=0, description="how firmly eps-softmax ranks, in mean gaps; 0 is eps-greedy")
    noise_floor: float = Field(
        0.1, ge=0, description="gaps below so many running temporal-difference errors are not ranked (eps-softmax)"
    )

    heads: int = Field(1, ge=1, le=64, description="opinions of every choice, each learned from its half of the steps")

    @model_validator(mode="after")
    def _knob(self) -> DQNParameters:
        for name in ("exploration", "final_exploration"):
            value = getattr(self, name)
            if value is not None and self.rule in BELOW_ONE and value > 1:
                raise ValueError(f"{name} = {value:g}: expected at most 1 with rule {self.rule}")
        if self.rule == "bootstrapped" and self.heads == 1:
            raise ValueError("heads = 1: rule bootstrapped follows a random one of several heads; expected at least 2")
        return self

    def gently(self) -> dict[str, Any]:
        """Smaller steps, and half way to the exploration of the end."""
        changed = super().gently()
        if self.final_exploration is not None:
            changed["exploration"] = (self.exploration + self.final_exploration) / 2
        return changed
