"""The parameters of the household economy, each typed, with unit and bounds. Imports no torch."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

GroupName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=80)]
START_MULTIPLES = (0.1, 8.0)
"""Of the steady state: where episodes start unless told otherwise."""
DECADES = 12
"""Orders of magnitude that a steady state may lie from 1 for episodes to start around it."""
Positive = Annotated[float, Field(gt=0)]


class HouseholdsParameters(BaseModel):
    """The heterogeneous real-business-cycle economy of MARL-BC (arXiv 2510.12272, Eqs. 1-5)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    households: int = Field(
        20, ge=1, le=1_000_000, description="number of households n in each world"
    )
    episode_length: int = Field(
        500, ge=1, le=1_000_000, description="periods after which an episode is truncated"
    )
    alpha: float = Field(0.36, gt=0, lt=1, description="output elasticity of capital")
    beta: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="discount factor of utility; the learner discounts by the same",
    )
    delta: float = Field(0.025, gt=0, le=1, description="depreciation rate of capital, per period")
    b: float = Field(5.0, gt=0, description="weight of leisure in utility log c + b log(1 - l)")
    rho: float = Field(0.9, ge=0, lt=1, description="persistence of log productivity A")
    sigma: float = Field(
        0.01, ge=0, le=1, description="standard deviation of the innovation of log A"
    )
    capital_productivity: list[Annotated[float, Field(ge=0)]] = Field(
        [1.0],
        min_length=1,
        description="kappa of each type; the types repeat in order over the households",
    )
    labour_productivity: list[Positive] = Field(
        [1.0],
        min_length=1,
        description="lambda of each type; the types repeat in order over the households",
    )
    conduct: Literal["price-taking", "strategic", "cooperative"] = Field(
        "price-taking",
        description="what gradients see: "
        "price-taking takes prices and aggregates as given; "
        "strategic counts the household's own effect on them, the others' choices given; "
        "cooperative lets all gradients pass, so that households choose for each other "
        "(no equilibrium); "
        "learning from samples is always strategic",
    )
    features: Literal["log", "raw"] = Field(
        "log",
        description="log observes logarithms, own quantities relative to the mean; "
        "raw observes levels as in the paper (saturates the actor)",
    )
    groups: dict[GroupName, Annotated[int, Field(ge=1)]] = Field(
        {},
        description="households by name and number, in order, "
        "so that policies can be theirs alone; "
        "left out, all are one group called households",
    )
    initial_capital: tuple[Positive, Positive] | None = Field(
        None,
        description="interval of the log-uniform draw of an episode's capital level; "
        "null follows the economy: a tenth of the steady state to eight times",
    )
    initial_dispersion: float = Field(
        0.0,
        ge=0,
        le=3,
        description="standard deviation of log capital across households when an episode starts",
    )

    @model_validator(mode="after")
    def _consistent(self) -> HouseholdsParameters:
        if self.initial_capital is not None:
            low, high = self.initial_capital
            if low > high:
                raise ValueError(f"initial_capital: expected low <= high, found [{low}, {high}]")
        for name in ("capital_productivity", "labour_productivity"):
            types = len(getattr(self, name))
            if self.households % types:
                raise ValueError(
                    f"{name}: {types} types do not divide {self.households} households evenly"
                )
        if not any(self.capital_productivity):
            raise ValueError(
                "capital_productivity: expected at least one positive value, found only zeros"
            )
        decades = math.log10(self.alpha / self._rent) / (1 - self.alpha)
        if self.initial_capital is None and abs(decades) > DECADES:
            raise ValueError(
                f"initial_capital: missing; at rest there are 1e{decades:+.0f} units of capital an "
                "hour, too extreme to start from; expected an interval, or other alpha, beta, delta"
            )
        if self.groups and sum(self.groups.values()) != self.households:
            raise ValueError(
                f"groups: have {sum(self.groups.values())} households, expected the "
                f"{self.households} of `households`"
            )
        return self

    @property
    def starts(self) -> tuple[float, float]:
        """Interval of an episode's first capital level; see `initial_capital`."""
        if self.initial_capital is not None:
            return self.initial_capital
        low, high = START_MULTIPLES
        return low * self.steady_capital, high * self.steady_capital

    @property
    def steady_capital(self) -> float:
        """Capital k at rest of households who are alike, all with the mean productivity.

        From 1 = beta (1 - delta + alpha y / k) and b c / (1 - l) = (1 - alpha) y / l.
        """
        kappa = sum(self.capital_productivity) / len(self.capital_productivity)
        lambda_ = sum(self.labour_productivity) / len(self.labour_productivity)
        r = self._rent / kappa
        intensity = (self.alpha / r) ** (1 / (1 - self.alpha))  # effective capital an hour
        y = intensity**self.alpha
        c = y - self.delta * intensity / kappa
        odds = (1 - self.alpha) * y / (self.b * c)  # l / (1 - l)
        return float(intensity * lambda_ * odds / (1 + odds) / kappa)

    @property
    def _rent(self) -> float:
        """What capital of productivity one earns at rest."""
        return 1 / self.beta - 1 + self.delta

    @property
    def group_sizes(self) -> dict[str, int]:
        """Group -> its households."""
        return self.groups or {"households": self.households}

    @property
    def homogeneous(self) -> bool:
        """Whether all households are alike in advance."""
        return len(set(self.capital_productivity)) == 1 and len(set(self.labour_productivity)) == 1
