"""Rules across the parameters of the pricing market.

Each breach is one line, before anything is built. Imports no torch.
"""

from __future__ import annotations

import math
from itertools import pairwise

from rl_markets.envs.pricing.sections import UNLIMITED, PricingFields

NOTHING = 1e-9
"""Mean units a period below which a good sells nothing."""
MOST_EXPONENT = 700.0
"""`math.exp` overflows above 709."""


def check(p: PricingFields) -> None:
    """All rules.

    Raises:
        ValueError: what was found, and what was expected.
    """
    for rule in (_goods, _levels, _time, _stock, _families, _costs, _margins, _sales):
        rule(p)


def _goods(p: PricingFields) -> None:
    """Lists have a value for all, for each product or for each good."""
    demand = p.demand
    products = p.products
    total = p.firms * p.products
    sizes = {
        "list_price": len(p.list_price),
        "cost": len(p.cost),
        "demand.size": len(demand.size),
        "demand.slope": len(demand.slope),
        "demand.quality": len(demand.quality),
    }
    for i, segment in enumerate(demand.segments):
        sizes[f"demand.segments[{i}].quality"] = len(segment.quality)
    if p.stock is not None:
        sizes["stock.units"] = len(p.stock.units)
    for name, size in sizes.items():
        if size not in (1, products, total):
            raise ValueError(
                f"{name}: {size} values, expected 1, {products} (products) or {total} (goods)"
            )


def _levels(p: PricingFields) -> None:
    if any(a >= b for a, b in pairwise(p.levels)):
        raise ValueError(f"levels: expected ascending multiples, found {p.levels}")
    if p.guard.floor > p.guard.ceiling:
        raise ValueError(
            f"guard.floor = {p.guard.floor:g}: expected at most guard.ceiling = {p.guard.ceiling:g}"
        )
    if p.actions == "move" and not (p.guard.floor > 0 and p.guard.ceiling < UNLIMITED):
        raise ValueError(
            "actions = 'move': prices that only move have no bounds; "
            "expected guard.floor above 0 and guard.ceiling"
        )


def _time(p: PricingFields) -> None:
    if p.gamma == 1 and not p.deadline:
        raise ValueError(
            "gamma = 1 without a deadline: returns have no bound; "
            "expected gamma below 1, or deadline: true"
        )
    profile = p.season.profile
    weekly = p.season.weekly
    if profile and len(profile) != p.periods:
        raise ValueError(
            f"season.profile: {len(profile)} factors, expected one for each of {p.periods} periods"
        )
    if weekly and len(weekly) != 7:
        raise ValueError(f"season.weekly: {len(weekly)} factors, expected 7")


def _stock(p: PricingFields) -> None:
    """Every figure of the stock does something."""
    stock = p.stock
    if stock is None:
        return
    least = min(stock.units)
    if stock.reorder_below > least:
        raise ValueError(
            f"stock.reorder_below = {stock.reorder_below}: expected at most the units, {least}"
        )
    if stock.salvage and not p.deadline:
        raise ValueError("stock.salvage: is paid at a deadline; expected deadline: true")
    if not stock.reorder_below and (stock.order_cost or stock.lead_time != 1):
        raise ValueError("stock: order_cost and lead_time do nothing without reorder_below")
    if stock.holding and not any(p.cost):
        raise ValueError("stock.holding: is a share of the unit cost, which is 0; expected a cost")


def _families(p: PricingFields) -> None:
    """What families of demand can do."""
    family = p.demand.family
    by_choice = family in ("logit", "mixed")
    if p.season.ageing and not by_choice:
        raise ValueError(
            f"season.ageing: has no meaning with {family} demand; expected logit or mixed"
        )
    if p.reference is not None and family in ("exponential", "isoelastic"):
        raise ValueError(
            f"reference: not defined with {family} demand; expected linear, logit or mixed"
        )
    if any(r.leaves for r in p.rivals) and not by_choice:
        raise ValueError(f"rivals: leaving needs logit or mixed demand, found {family}")
    if any(r.rule == "nash" for r in p.rivals) and family != "logit":
        raise ValueError(f"rivals: rule nash needs logit demand, found {family}")


def _highest(p: PricingFields) -> float:
    """The highest price, as a multiple of the list price."""
    return min(p.levels[-1] if p.actions == "level" else math.inf, p.guard.ceiling)


def _costs(p: PricingFields) -> None:
    """Every good can be sold at a profit.

    One that cannot is a mistake of units, and would train without a word.
    """
    goods = zip(p.goods(p.cost), p.goods(p.list_price), strict=True)
    for i, (cost, list_price) in enumerate(goods):
        best = _highest(p) * list_price * (1 - p.fee)
        if cost >= best:
            raise ValueError(
                f"cost: {cost:g} of good {i} is not below {best:g}, "
                "the most that its highest price leaves after fees; "
                "expected a cost that some price covers"
            )


def _margins(p: PricingFields) -> None:
    """Some price leaves the margin."""
    # (1 - fee) p - c >= margin p, or c <= (1 - fee - margin) p.
    margin = p.guard.margin
    cost_share = 1 - p.fee - margin
    if cost_share <= 0:
        raise ValueError(
            f"guard.margin = {margin:g}: no price leaves it after a fee of {p.fee:g}; "
            f"expected less than {1 - p.fee:g}"
        )
    if margin <= -1:
        return
    goods = zip(p.goods(p.cost), p.goods(p.list_price), strict=True)
    for i, (cost, list_price) in enumerate(goods):
        if cost > cost_share * _highest(p) * list_price:
            raise ValueError(
                f"guard.margin = {margin:g}: "
                f"good {i} reaches it from a price of {cost / cost_share:g} on, "
                f"above its highest, {_highest(p) * list_price:g}; "
                "expected a margin that some price leaves"
            )


def _sales(p: PricingFields) -> None:
    """Every learning seller's product sells at its lowest price, the others at list prices."""
    lowest = max(p.levels[0] if p.actions == "level" else 0.0, p.guard.floor)
    list_price = p.goods(p.list_price)
    for i in range(sum(p.sellers.values()) * p.products):
        price = lowest * list_price[i]
        mean = _highest_demand(p, i, price, sum(list_price) - list_price[i])
        if mean < NOTHING:
            raise ValueError(
                f"demand: good {i} sells nothing at its lowest price, {price:g} "
                f"(mean {mean:.1g} units a period); "
                "look at the units of prices and demand"
            )


def _highest_demand(p: PricingFields, good: int, price: float, others: float) -> float:
    """Mean units of a good at `price`, before what competition takes from a logit's.

    Args:
        good: its place among all goods.
        price: its own.
        others: the sum of the other goods' prices.
    """
    demand = p.demand
    if demand.family in ("logit", "mixed"):
        return demand.visitors * _logit_share(p, good, price)
    size = p.goods(demand.size)[good]
    slope = p.goods(demand.slope)[good]
    if demand.family == "linear":
        return size - slope * price + demand.cross * others
    if demand.family == "exponential":
        exponent = -slope * price + demand.cross * others
        return size * math.exp(max(min(exponent, MOST_EXPONENT), -MOST_EXPONENT))
    return math.inf  # isoelastic demand is above 0 at every price


def _logit_share(p: PricingFields, good: int, price: float) -> float:
    """The share of visitors who buy a good at `price` where there is no other."""
    demand = p.demand
    segments = [(s.weight, s.quality, s.mu) for s in demand.segments]
    shares = []
    for weight, quality, mu in segments or [(1.0, demand.quality, demand.mu)]:
        surplus = (p.goods(quality)[good] - price - demand.outside) / mu
        shares.append(weight / (1 + math.exp(min(-surplus, MOST_EXPONENT))))
    return sum(shares)
