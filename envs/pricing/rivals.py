"""Sellers that follow a rule: product by product, on the prices that everybody last saw."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from rl_markets.envs.pricing.sections import Rival

FLOOR = 1.05
"""No rival that answers prices goes below this multiple of its unit cost."""

FEW = 8
"""Up to so many sellers are compared one by one."""


class Seen:
    """What one rival knows of its products, each `[worlds, products]`.

    Attributes:
        own, list_price, cost: its own last price, list price and unit cost.
        cheapest: the lowest last price of another seller.
        before: the same a period earlier.
        noise: a standard normal.
    """

    def __init__(
        self,
        own: Tensor,
        list_price: Tensor,
        cost: Tensor,
        cheapest: Tensor,
        before: Tensor,
        noise: Tensor,
    ) -> None:
        self.own = own
        self.list_price = list_price
        self.cost = cost
        self.cheapest = cheapest
        self.before = before
        self.noise = noise


def quote(rival: Rival, seen: Seen, nash: Tensor | None) -> Tensor:
    """A rival's next prices `[worlds, products]`.

    Args:
        rival: its rule.
        seen: what it knows.
        nash: its prices in the one-period equilibrium `[products]`, for the rule that plays them.
    """
    match rival.rule:
        case "fixed":
            return seen.list_price.expand_as(seen.own)
        case "cost-plus":
            return (seen.cost * (1 + rival.markup)).expand_as(seen.own)
        case "match-lowest":
            return _within(seen.cheapest, seen)
        case "undercut":
            return _within((1 - rival.step) * seen.cheapest, seen)
        case "undercut-and-reset":
            # An Edgeworth cycle: a war of prices, and a truce at the list price.
            lower = (1 - rival.step) * seen.cheapest
            return torch.where(lower < FLOOR * seen.cost, seen.list_price, _within(lower, seen))
        case "lagged":
            return _within(seen.before, seen)
        case "random-walk":
            return _within(seen.own * torch.exp(rival.step * seen.noise), seen)
        case "nash":
            assert nash is not None
            return nash.expand_as(seen.own)


def _within(price: Tensor, seen: Seen) -> Tensor:
    """Between a little above cost and the list price; the cost has the last word."""
    return torch.maximum(torch.minimum(price, seen.list_price), FLOOR * seen.cost)


def cheapest_other(price: Tensor) -> Tensor:
    """For each seller the lowest price of the same product elsewhere.

    Args:
        price: `[worlds, firms, products]`, infinite where a seller is gone.

    Returns:
        `[worlds, firms, products]`; infinite where there is no other.
    """
    firms = price.shape[1]
    if firms == 1:
        return torch.full_like(price, torch.inf)
    if firms <= FEW:
        return _cheapest_of_few(price)
    # The cheapest seller of all looks at the second cheapest, everybody else at it.
    lowest, which = price.topk(2, dim=1, largest=False)
    first = lowest[:, :1]
    second = lowest[:, 1:]
    firm = torch.arange(firms, device=price.device)[None, :, None]
    return torch.where(firm == which[:, :1], second, first)


def _cheapest_of_few(price: Tensor) -> Tensor:
    """The lower of the lowest ahead of a seller and the lowest behind it.

    For a few sellers it is cheaper than a selection.
    """
    by_firm = price.unbind(1)
    ahead = list(accumulate(by_firm, torch.minimum))
    behind = list(accumulate(by_firm[::-1], torch.minimum))[::-1]
    between = [torch.minimum(ahead[f - 1], behind[f + 1]) for f in range(1, len(by_firm) - 1)]
    return torch.stack([behind[1], *between, ahead[-2]], 1)
