"""What a seller sees of each of its products and of the season.

Everything is without unit, so that no currency matters. Imports no torch.
"""

from __future__ import annotations

import math

from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.envs.pricing.sections import UNLIMITED

WEEK = 7
YEAR = 364
MONTH = 28
MOST_PER_TIME = 4.0
"""Stock per remaining time is cut here: close to the deadline it has no bound."""


def moves_prices(p: PricingParameters) -> bool:
    """Whether yesterday's prices matter for what can be charged, or sold, today."""
    return bool(
        p.actions == "move"
        or p.markdown_only
        or p.guard.change < UNLIMITED
        or p.firms > 1
        or p.reference
        or latent(p)
    )


def latent(p: PricingParameters) -> bool:
    """Whether something moves demand that nobody sees, so that recent sales tell of it."""
    return p.season.sigma > 0 or p.reference is not None


def restricted(p: PricingParameters) -> bool:
    """Whether guard-rails may forbid a choice; sellers then also see which."""
    guard = p.guard
    return bool(
        p.markdown_only
        or guard.floor
        or guard.ceiling < UNLIMITED
        or guard.change < UNLIMITED
        or guard.margin > -1
    )


def dated(p: PricingParameters) -> bool:
    """Whether the period itself matters."""
    return p.deadline or bool(p.season.profile) or p.season.ageing > 0


def of_product(p: PricingParameters) -> list[str]:
    """Names of what is seen of each own product."""
    names = []
    if moves_prices(p):
        names.append("last price / list price")
    if p.stock is not None:
        names += ["stock / units", "sold out"]
        if dated(p):
            names.append("stock left per time left")
        if p.stock.reorder_below:
            names.append("ordered")
    if p.firms > 1:
        names += ["cheapest rival / list price", "cost / list price"]
        if any(rival.leaves for rival in p.rivals):
            names.append("sold elsewhere")
    if latent(p):
        names += [
            "mean price of the month / list price",
            "sales / their scale",
            "sales of the week / their scale",
            "sales of the month / their scale",
        ]
    if p.oracle and p.reference is not None:
        names.append("reference price / list price")
    return names


def of_season(p: PricingParameters) -> list[str]:
    """Names of what is seen once."""
    names = ["time left"] if dated(p) else []
    if p.season.weekly:
        names += ["sine of the week", "cosine of the week"]
    if p.season.annual:
        names += ["sine of the year", "cosine of the year"]
    if p.oracle and p.season.sigma:
        names.append("log shock")
    if not names and not of_product(p):
        return ["nothing"]  # an observation has at least one entry
    return names


def width(p: PricingParameters) -> int:
    """Entries of an observation."""
    mask = p.products * len(p.levels) if restricted(p) else 0
    return p.products * len(of_product(p)) + len(of_season(p)) + mask


def turn(period: float) -> float:
    """Radians per day."""
    return 2 * math.pi / period
