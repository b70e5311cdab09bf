"""The parameters of the economy with a government: one typed line each, with unit and bounds.

Imports no torch.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0)]


class FiscalParameters(BaseModel):
    """The household economy of MARL-BC (arXiv 2510.12272), and a government that taxes it.

    The government sets the tax schedule in an interest of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    households: int = Field(
        20, ge=1, le=1_000_000, description="number of identical households n in each world"
    )
    episode_length: int = Field(
        50, ge=1, le=1_000_000, description="periods after which an episode is truncated"
    )
    alpha: float = Field(0.36, gt=0, lt=1, description="output elasticity of capital")
    beta: float = Field(
        0.95, gt=0, lt=1, description="discount factor of households and government"
    )
    delta: float = Field(
        0.025, gt=0, le=1, description="depreciation rate of capital, per period; not deductible"
    )
    b: float = Field(5.0, gt=0, description="weight of leisure in utility log c + b log(1 - l)")
    rho: float = Field(0.9, ge=0, lt=1, description="persistence of log productivity A")
    sigma: float = Field(
        0.01, ge=0, le=1, description="standard deviation of the innovation of log A"
    )
    theta: float = Field(
        0.1,
        gt=0,
        le=100,
        description="weight of the public good, theta log G, in the government's reward",
    )
    progressivity: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="p of the schedule: what is left of income y is in proportion to y^(1-p); "
        "0 is a flat rate",
    )
    initial_capital: tuple[Positive, Positive] = Field(
        (0.1, 10.0), description="interval of the log-uniform draw of an episode's capital level"
    )
    initial_dispersion: float = Field(
        0.0,
        ge=0,
        le=3,
        description="standard deviation of log capital across households when an episode starts",
    )

    @model_validator(mode="after")
    def _consistent(self) -> FiscalParameters:
        low, high = self.initial_capital
        if low > high:
            raise ValueError(f"initial_capital: expected low <= high, found [{low}, {high}]")
        return self
