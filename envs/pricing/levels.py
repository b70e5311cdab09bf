"""The price levels that guard-rails leave to choose from."""

from __future__ import annotations

from rl_markets.envs.pricing.guard import TOLERANCE
from rl_markets.envs.pricing.parameters import PricingParameters


def standing(p: PricingParameters) -> list[float]:
    """The levels of a single product that floor, ceiling and margin leave alone.

    They stand whatever the last price was; the brake on changes is not looked at.
    """
    guard = p.guard
    relative_cost = p.cost[0] / p.list_price[0]
    margin = relative_cost / (1 - p.fee - guard.margin) if guard.margin > -1 else 0.0
    lowest = max(guard.floor, margin)
    return [x for x in p.levels if lowest - TOLERANCE <= x <= guard.ceiling + TOLERANCE]
