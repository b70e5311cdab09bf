"""The fields of the pricing market: one typed line each, with unit and bounds. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

UNLIMITED = 1e6
"""A guard-rail of this share binds nothing."""

GroupName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=80)]
Positive = Annotated[float, Field(gt=0, le=1e12)]
NotNegative = Annotated[float, Field(ge=0, le=1e12)]
Goods = Annotated[list[float], Field(min_length=1)]
"""One value for all goods, one for each product of every seller, or one for each good.

Goods stand seller by seller, rivals last.
"""
PositiveGoods = Annotated[list[Positive], Field(min_length=1)]


class Section(BaseModel):
    """A section of the parameters: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


_BY_PRICE = ("size", "slope", "cross")
_BY_CHOICE = ("visitors", "outside")
FIELDS = {
    "linear": _BY_PRICE,
    "exponential": _BY_PRICE,
    "isoelastic": _BY_PRICE,
    "logit": (*_BY_CHOICE, "quality", "mu"),
    "mixed": _BY_CHOICE,
}
"""Family of demand -> the fields that it reads, beside `segments`."""


class Segment(Section):
    """Customers of one kind in the mixed logit."""

    weight: float = Field(gt=0, le=1, description="share of the visitors")
    quality: Goods = Field(description="quality a of each good, in money")
    mu: float = Field(gt=0, description="scale of taste, in money")


class Demand(Section):
    """Mean demand of a period as a function of all prices; sales are Poisson."""

    family: Literal["linear", "exponential", "isoelastic", "logit", "mixed"] = Field(
        description="linear: size - slope p + cross times the others' prices; "
        "exponential: size e^(-slope p + ...); "
        "isoelastic: size p^(-slope) times the others' p^cross; "
        "logit: visitors choose by quality - price, or nothing; "
        "mixed: visitors of several kinds"
    )
    size: PositiveGoods = Field(
        [1.0], description="units a period at price 0 (isoelastic: at price 1)"
    )
    slope: PositiveGoods = Field([1.0], description="units per money, 1 / money, or the elasticity")
    cross: NotNegative = Field(
        0.0, description="effect of the other goods' prices: units per money, or cross elasticity"
    )
    visitors: Positive = Field(1.0, description="customers a period, mean (logit and mixed)")
    quality: Goods = Field([0.0], description="quality a of each good, in money (logit)")
    outside: float = Field(0.0, description="quality of buying nothing, in money (logit and mixed)")
    mu: Positive = Field(1.0, description="scale of taste, in money (logit)")
    segments: list[Segment] = Field([], description="kinds of customers (mixed)")

    @model_validator(mode="after")
    def _consistent(self) -> Demand:
        if (self.family == "mixed") != bool(self.segments):
            raise ValueError(
                f"segments: {len(self.segments)} given with family {self.family!r}; "
                "mixed needs them, others not"
            )
        total = sum(segment.weight for segment in self.segments)
        if self.segments and abs(total - 1) > 1e-6:
            raise ValueError(f"segments: weights sum to {total:g}, expected 1")
        used = ("family", "segments", *FIELDS[self.family])
        for name, field in type(self).model_fields.items():
            if name not in used and getattr(self, name) != field.get_default():
                raise ValueError(f"{name}: does nothing with family {self.family!r}; leave it out")
        return self


class Season(Section):
    """What multiplies mean demand over time."""

    profile: list[NotNegative] = Field(
        [], description="one factor for each period of the episode; left out, 1"
    )
    weekly: list[NotNegative] = Field([], description="seven factors, day by day; left out, 1")
    annual: float = Field(0.0, ge=0, lt=1, description="amplitude A of 1 + A sin(2 pi day / 364)")
    rho: float = Field(0.9, ge=0, lt=1, description="persistence of the latent log shock")
    sigma: float = Field(
        0.0, ge=0, le=2, description="standard deviation of the shock's innovation"
    )
    ageing: float = Field(
        0.0,
        ge=0,
        description="money by which willingness to pay falls each period (logit: freshness)",
    )


class Reference(Section):
    """A reference price r' = memory r + (1 - memory) p moves demand (Popescu and Wu 2007)."""

    memory: float = Field(0.8, ge=0, lt=1, description="weight of the old reference price")
    gain: float = Field(
        0.0, ge=0, description="worth of a price below the reference, per money (units, or utility)"
    )
    loss: float = Field(0.0, ge=0, description="worth of a price above it")


class Stock(Section):
    """What can be sold. Demand beyond it is lost."""

    units: list[Annotated[int, Field(ge=1, le=100_000)]] = Field(
        min_length=1, description="at the start, each product"
    )
    reorder_below: int = Field(
        0, ge=0, description="below so many units an order is placed; 0 for never"
    )
    lead_time: int = Field(
        1, ge=1, le=60, description="periods until an order arrives; it fills up to `units`"
    )
    order_cost: NotNegative = Field(0.0, description="money for each order")
    holding: NotNegative = Field(
        0.0, description="cost of holding a unit for a period, as a share of its unit cost"
    )
    salvage: float = Field(
        0.0, description="money for each unit left at the deadline; negative for a waste fee"
    )


class Guard(Section):
    """Guard-rails on every price, applied in the order floor, ceiling, change, margin: the margin
    has the last word.
    """

    floor: NotNegative = Field(0.0, description="lowest price, as a share of the list price")
    ceiling: float = Field(
        UNLIMITED, gt=0, description="highest price, as a share of the list price"
    )
    change: float = Field(
        UNLIMITED,
        gt=0,
        description="largest change of a price from one period to the next, as a share",
    )
    margin: float = Field(
        -1.0, ge=-1, lt=1, description="smallest (price - cost) / price; -1 for none"
    )


class Rival(Section):
    """A seller that follows a rule and does not learn."""

    rule: Literal[
        "fixed",
        "cost-plus",
        "match-lowest",
        "undercut",
        "undercut-and-reset",
        "lagged",
        "random-walk",
        "nash",
    ] = Field(description="how it prices, product by product")
    step: float = Field(
        0.02, ge=0, lt=1, description="share by which it undercuts, or moves (random walk)"
    )
    markup: float = Field(0.4, ge=0, description="share above unit cost (cost-plus)")
    leaves: int = Field(0, ge=0, description="period in which it leaves the market; 0 for never")


class PricingFields(Section):
    """All fields, each valid by itself; `PricingParameters` holds them to the rules across them."""

    periods: int = Field(30, ge=1, le=100_000, description="periods (days, hours) of an episode, T")
    deadline: bool = Field(
        True,
        description="the episode terminates after `periods`, and what is left is salvaged; "
        "else it is only cut there",
    )
    gamma: float = Field(
        1.0, gt=0, le=1, description="discount factor of a period; below 1 without a deadline"
    )
    sellers: dict[GroupName, Annotated[int, Field(ge=1, le=1000)]] = Field(
        {"seller": 1}, min_length=1, description="groups of learning sellers: name -> how many"
    )
    rivals: list[Rival] = Field([], max_length=100, description="sellers that follow a rule")
    products: int = Field(1, ge=1, le=10_000, description="products of every seller, P")
    list_price: PositiveGoods = Field([1.0], description="list price of each good")
    cost: Annotated[list[NotNegative], Field(min_length=1)] = Field(
        [0.0], description="unit cost of each good, paid when sold"
    )
    fee: float = Field(0.0, ge=0, lt=1, description="share of the price that the platform keeps")
    demand: Demand = Field(
        default_factory=lambda: Demand.model_validate(
            {"family": "logit", "visitors": 100.0, "quality": [2.0], "mu": 0.25}
        ),
        description="what customers buy; left out, a hundred visitors of goods worth 2, "
        "with a scale of taste of .25",
    )
    season: Season = Field(
        default_factory=lambda: Season.model_validate({}), description="what moves demand over time"
    )
    reference: Reference | None = Field(None, description="customers remember prices")
    stock: Stock | None = Field(
        None, description="what can be sold; left out, everything is always there"
    )
    actions: Literal["level", "move"] = Field(
        "level",
        description="level: a price is a multiple of the list price; "
        "move: of the product's last price",
    )
    levels: list[Positive] = Field(
        [0.80, 0.85, 0.90, 0.95, 1.0, 1.05, 1.10, 1.15, 1.20],
        min_length=2,
        max_length=99,
        description="the multiples to choose from, ascending",
    )
    markdown_only: bool = Field(False, description="prices never rise again")
    guard: Guard = Field(
        default_factory=lambda: Guard.model_validate({}), description="limits of every price"
    )
    exploring_starts: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of training episodes that start at a random period "
        "with random stock and prices",
    )
    oracle: bool = Field(
        False, description="sellers also see what nobody does: shock and reference prices"
    )

    @property
    def firms(self) -> int:
        """Sellers, learning and scripted, F."""
        return sum(self.sellers.values()) + len(self.rivals)

    def goods(self, values: list[float]) -> list[float]:
        """One value for each of the F * P goods."""
        total = self.firms * self.products
        return values * (total // len(values)) if len(values) in (1, self.products) else values
