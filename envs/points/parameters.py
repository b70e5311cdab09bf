"""The parameters of the points programme: one typed line each, with unit and bounds.

Imports no torch.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, le=1e12)]
Rate = Annotated[float, Field(ge=0, le=0.5)]


class PointsParameters(BaseModel):
    """Customers with a balance of points, the rate chosen for each visit.

    Money and points are in one currency.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    customers: int = Field(
        1, ge=1, le=1_000_000, description="customers in each world; a decision is made for each"
    )
    visits: int = Field(
        100, ge=1, le=1_000_000, description="visits after which an episode is truncated"
    )
    gamma: float = Field(0.98, gt=0, lt=1, description="discount factor from one visit to the next")
    prices: list[Positive] = Field(
        [1000.0],
        min_length=1,
        max_length=99,
        description="price, or prices to choose from along with the rate, ascending",
    )
    cost: float = Field(700.0, ge=0, le=1e12, description="unit cost")
    rates: list[Rate] = Field(
        [0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.10, 0.15, 0.20],
        min_length=2,
        max_length=99,
        description="points granted, as shares of the price, ascending; "
        ".5 is the most that marketplaces allow",
    )
    quality: float = Field(
        960.0, ge=-1e12, le=1e12, description="what a purchase is worth to a customer, mean"
    )
    mu: Positive = Field(110.0, description="scale of taste, in money")
    kappa: float = Field(
        0.6, ge=0, le=2, description="what a point granted is worth to a customer when he buys"
    )
    reward: int = Field(
        500, ge=1, le=10**9, description="points of a full balance, taken off the next purchase"
    )
    unit: int = Field(
        10,
        ge=1,
        le=10**9,
        description="points in which balances count; finer grants are rounded at random",
    )
    expiry: float = Field(
        0.03, ge=0, le=1, description="probability that a balance expires after a visit"
    )
    exploring_starts: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of customers who start an episode with a random balance; for training",
    )
    accounting: Literal["cash", "accrual"] = Field(
        "cash",
        description="cash: a point costs when it is redeemed; "
        "accrual: when it is issued, at `provision`",
    )
    provision: float = Field(
        0.9,
        ge=0,
        le=1,
        description="share of a point's value set aside when it is issued (accrual)",
    )

    @model_validator(mode="after")
    def _consistent(self) -> PointsParameters:
        for name in ("prices", "rates"):
            values = getattr(self, name)
            if any(a >= b for a, b in pairwise(values)):
                raise ValueError(f"{name}: expected ascending values, found {values}")
        if len(self.prices) not in (1, len(self.rates)):
            raise ValueError(
                f"prices: {len(self.prices)} of them, "
                f"expected 1 or as many as rates, {len(self.rates)}"
            )
        if self.reward % self.unit:
            raise ValueError(f"reward = {self.reward}: expected a multiple of unit = {self.unit}")
        if self.cost >= self.prices[-1]:
            raise ValueError(
                f"cost = {self.cost:g}: expected less than the highest price, {self.prices[-1]:g}"
            )
        return self
