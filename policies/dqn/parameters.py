"""DQN's hyper-parameters: one typed line each, with unit and bounds.

Imports neither torch nor ray.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from rl_markets.policies.spec import ReplayParameters

SCHEDULES: dict[str, tuple[float, float | None]] = {
    "eps-softmax": (1.0, 0.02),
    "eps-greedy": (1.0, 0.02),
    "entropy-budget": (0.9, 0.02),
    "loss-budget": (0.9, 0.01),
    "rank": (0.9, 0.05),
    "range-softmax": (0.5, 40.0),
    "zscore-softmax": (0.5, 10.0),
    "bootstrapped": (1.0, None),
}
"""Rule -> its parameter at the start and in the end, where an experiment gives none.

Boltzmann's is an amount of money.
"""

SHARES = {
    "eps-softmax": True,
    "eps-greedy": True,
    "entropy-budget": False,
    "loss-budget": False,
    "rank": False,
}
"""Rule whose parameter is a share -> whether it may be 1."""


class DQNParameters(ReplayParameters):
    """Double DQN (van Hasselt et al. 2016, arXiv 1509.06461).

    With a branch for each choice (Tavakoli et al. 2018, arXiv 1711.08946).
    """

    undiscounted: ClassVar[bool] = True
    common: ClassVar[tuple[str, ...]] = ("heads",)

    target_rate: float = Field(
        0.01, gt=0, le=1, description="Polyak rate of the target network, each gradient step"
    )
    huber: float = Field(
        10.0,
        gt=0,
        description="errors beyond it, in the normalised loss, count linearly; "
        "a small one learns medians instead of means, which differ where sales are rare",
    )
    normalise: bool = Field(
        True,
        description="learn action values in units of their own spread; "
        "false is the control that depends on the currency",
    )
    renormalising: float = Field(
        0.95, ge=0, lt=1, description="decay, per iteration, of the values' spread"
    )
    centring: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share, each iteration, by which all values move at once "
        "towards what they miss in common (Naik et al. 2024); "
        "for long horizons without an end",
    )
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
    ] = Field(
        "eps-softmax",
        description="how choices are explored; all but boltzmann ignore the rewards' unit",
    )
    exploration: float = Field(
        1.0,
        gt=0,
        description="the rule's parameter at the start: "
        "eps, h, d, rho, k, b, or tau in the unit of what is learned",
    )
    final_exploration: float | None = Field(
        0.02, gt=0, description="the parameter in the end, linear in between; null keeps it"
    )
    exploration_share: float = Field(
        0.7, gt=0, le=1, description="share of training in which the parameter moves"
    )
    beta: float = Field(
        2.0, ge=0, description="how firmly eps-softmax ranks, in mean gaps; 0 is eps-greedy"
    )
    noise_floor: float = Field(
        0.1,
        ge=0,
        description="gaps below so many running temporal-difference errors "
        "are not ranked (eps-softmax)",
    )

    heads: int = Field(
        1,
        ge=1,
        le=64,
        description="opinions of every choice, each learned from its half of the steps",
    )

    @model_validator(mode="before")
    @classmethod
    def _schedule(cls, data: Any) -> Any:
        """The rule's own schedule, where the experiment gives none."""
        rule = data.get("rule", "eps-softmax") if isinstance(data, dict) else None
        if not isinstance(rule, str) or rule not in SCHEDULES or "exploration" in data:
            return data
        start, end = SCHEDULES[rule]
        return {"exploration": start, "final_exploration": end} | data

    @model_validator(mode="after")
    def _exploration_in_range(self) -> DQNParameters:
        if self.rule == "boltzmann" and "exploration" not in self.model_fields_set:
            raise ValueError(
                "exploration: missing; "
                "the temperature of rule boltzmann is in the unit of what is learned"
            )
        for name in ("exploration", "final_exploration"):
            value = getattr(self, name)
            if value is None or self.rule not in SHARES:
                continue
            may_be_one = SHARES[self.rule]
            if value > 1 or (value == 1 and not may_be_one):
                expected = "at most 1" if may_be_one else "less than 1"
                raise ValueError(f"{name} = {value:g}: expected {expected} with rule {self.rule}")
        if self.rule == "bootstrapped" and self.heads == 1:
            raise ValueError(
                "heads = 1: rule bootstrapped follows a random one of several heads; "
                "expected at least 2"
            )
        return self

    def fine_tuning(self) -> dict[str, Any]:
        """Smaller steps, and half way to the exploration of the end."""
        changed = super().fine_tuning()
        if self.final_exploration is not None:
            changed["exploration"] = (self.exploration + self.final_exploration) / 2
        return changed
