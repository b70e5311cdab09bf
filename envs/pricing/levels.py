"""The price levels that guard-rails leave to choose from."""

from __future__ import annotations

from rl_markets.envs.pricing.guard import TOLERANCE
from rl_markets.envs.pricing.parameters import PricingParameters


def standing(p: PricingParameters) -> list[float]:
    """The levels of a single product that floor, ceiling and margin leave alone, whatever its last
    price was."""
    guard = p.guard
    relative_cost = p.cost[0] / p.list_price[0]
    lowest = max(
        guard.floor, relative_cost / (1 - p.fee - guard.margin) if guard.margin > -1 else 0.0
    )
    return [x for x in p.levels if lowest - TOLERANCE <= x <= guard.ceiling + TOLERANCE]
