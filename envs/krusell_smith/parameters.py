"""The parameters of the Krusell-Smith economy, each typed, with unit and bounds.

Imports no torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]
Probability = Annotated[float, Field(ge=0, le=1)]
Pair = tuple[Probability, Probability]
Rates = tuple[Pair, Pair]
"""[e][e'] the chain of employment, given a switch of the aggregate state."""

TOLERANCE = 1e-6
"""Of probabilities that must add up."""


class KrusellSmithParameters(BaseModel):
    """Krusell and Smith's economy (1998) with log utility and no choice of labour.

    As in MARL-BC (arXiv 2510.12272).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    households: int = Field(
        50, ge=1, le=1_000_000, description="number of households n in each world"
    )
    episode_length: int = Field(
        200, ge=1, le=1_000_000, description="quarters after which an episode is truncated"
    )
    alpha: float = Field(0.36, gt=0, lt=1, description="output elasticity of capital")
    beta: float = Field(
        0.95,
        gt=0,
        lt=1,
        description="discount factor of utility, a quarter; MARL-BC has .95, Krusell and Smith .99",
    )
    delta: float = Field(0.025, gt=0, le=1, description="depreciation rate of capital, per quarter")
    hours: float = Field(
        1.11,
        gt=0,
        description="efficient hours of an employed household; an unemployed one has none",
    )
    productivity: tuple[Positive, Positive] = Field(
        (1.01, 0.99), description="A in the good state and in the bad one"
    )
    persistence: float = Field(
        0.875, gt=0, lt=1, description="probability that the aggregate state stays what it is"
    )
    unemployment: tuple[Positive, Positive] = Field(
        (0.04, 0.10), description="unemployment rate in good and bad state"
    )
    employment: tuple[tuple[Rates, Rates], tuple[Rates, Rates]] = Field(
        (
            (((35 / 36, 1 / 36), (2 / 3, 1 / 3)), ((89 / 96, 7 / 96), (1 / 4, 3 / 4))),
            (((59 / 60, 1 / 60), (3 / 4, 1 / 4)), ((43 / 45, 2 / 45), (2 / 5, 3 / 5))),
        ),
        description="probabilities [z][z'][e][e'] of employment e' after e "
        "when the state goes from z to z' (0 good and employed); "
        "as in Krusell and Smith, spells of 1.5 and 2.5 quarters",
    )
    capital_productivity: list[Positive] = Field(
        [1.0],
        min_length=1,
        description="kappa of each type; the types repeat in order over the households",
    )
    conduct: Literal["price-taking", "cooperative"] = Field(
        "price-taking",
        description="price-taking stops gradients through prices and aggregates; "
        "cooperative lets them pass, and the households then save for each other: "
        "no competitive equilibrium",
    )
    initial_capital: tuple[Positive, Positive] = Field(
        (3.0, 30.0), description="interval of the log-uniform draw of an episode's mean capital"
    )
    initial_dispersion: float = Field(
        1.0,
        ge=0,
        le=3,
        description="standard deviation of log capital across households when an episode starts",
    )

    @model_validator(mode="after")
    def _consistent(self) -> KrusellSmithParameters:
        low, high = self.initial_capital
        if low > high:
            raise ValueError(f"initial_capital: expected low <= high, found [{low}, {high}]")
        if any(u >= 1 for u in self.unemployment):
            raise ValueError(
                f"unemployment: expected rates below 1, found {list(self.unemployment)}"
            )
        if self.households % len(self.capital_productivity):
            types = len(self.capital_productivity)
            raise ValueError(
                f"capital_productivity: {types} types do not divide "
                f"{self.households} households evenly"
            )
        self._check_employment()
        return self

    def _check_employment(self) -> None:
        u = self.unemployment
        for z in range(2):
            for next_z in range(2):
                (ee, eu), (ue, uu) = self.employment[z][next_z]
                where = f"employment[{z}][{next_z}]"
                if abs(ee + eu - 1) > TOLERANCE or abs(ue + uu - 1) > TOLERANCE:
                    raise ValueError(
                        f"{where}: expected rows that add up to 1, found {[[ee, eu], [ue, uu]]}"
                    )
                next_rate = (1 - u[z]) * eu + u[z] * uu
                if abs(next_rate - u[next_z]) > TOLERANCE:
                    raise ValueError(
                        f"{where}: leads to unemployment {next_rate:.4g}, expected {u[next_z]:g}"
                    )
