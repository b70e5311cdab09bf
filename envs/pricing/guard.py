"""Guard-rails: from a proposed price to the price that is posted, and the rule that bound it.

A pure function. Training masks with it, the market applies it to every action, and a server applies
it again to what a policy proposes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rl_markets.envs.pricing.sections import Guard

RULES = ("none", "floor", "ceiling", "change", "markdown", "margin")
"""What may bind a price, in the order in which the rules apply.

A decision's code is its place here.
"""
TOLERANCE = 1e-5
"""Relative difference of prices that counts as none."""


def gate(
    proposed: Tensor,
    last: Tensor,
    list_price: Tensor,
    lowest: Tensor,
    guard: Guard,
    *,
    markdown_only: bool = False,
) -> tuple[Tensor, Tensor]:
    """The price that is posted, and which rule bound it last.

    Floor and ceiling come first, then the brake on changes (which may keep a price outside them for
    a while), then markdowns, and the margin last: no rule may force a sale below it.

    Args:
        proposed: prices `[...]`.
        last: the prices that stood before, broadcastable.
        list_price: broadcastable.
        lowest: the price that leaves the smallest margin, see `lowest_price`; broadcastable.
        guard: the limits.
        markdown_only: prices may not rise.

    Returns:
        prices `[...]`, and codes `[...]` int64 into `RULES`.
    """
    # No proposal: the price stays, as far as the other rules let it.
    nothing = torch.isnan(proposed)
    price = torch.where(nothing, last, proposed)
    code = nothing * RULES.index("change")
    for name, low, high in _bounds(last, list_price, lowest, guard, markdown_only):
        bound = price if low is None else torch.maximum(price, low)
        bound = bound if high is None else torch.minimum(bound, high)
        # Where a limit falls on a level, rounding must not count as a breach of it.
        binds = (bound - price).abs() > TOLERANCE * list_price
        code = torch.where(binds, torch.full_like(code, RULES.index(name)), code)
        price = torch.where(binds, bound, price)
    return price, code


def _bounds(
    last: Tensor, list_price: Tensor, lowest: Tensor, guard: Guard, markdown_only: bool
) -> list[tuple[str, Tensor | None, Tensor | None]]:
    """(rule, lowest price, highest price), in the order in which the rules apply."""
    bounds: list[tuple[str, Tensor | None, Tensor | None]] = [
        ("floor", guard.floor * list_price, None),
        ("ceiling", None, guard.ceiling * list_price),
        ("change", (1 - guard.change) * last, (1 + guard.change) * last),
    ]
    if markdown_only:
        bounds.append(("markdown", None, last))
    bounds.append(("margin", lowest, None))
    return bounds


def lowest_price(cost: Tensor, fee: float, guard: Guard) -> Tensor:
    """The lowest price that leaves the margin (price - cost) / price after the platform's fee.

    0 where the guard-rails ask for no margin; of the shape of `cost`.
    """
    if guard.margin <= -1:
        return torch.zeros_like(cost)
    return cost / (1 - fee - guard.margin)


def allowed(
    choices: Tensor,
    last: Tensor,
    list_price: Tensor,
    lowest: Tensor,
    guard: Guard,
    *,
    markdown_only: bool,
) -> Tensor:
    """Which proposals stand unchanged; where none does, the nearest to what would be posted.

    Args:
        choices: proposed prices `[..., A]`.
        last, list_price, lowest: `[...]`, as for `gate`.
        guard, markdown_only: as for `gate`.

    Returns:
        bool `[..., A]`, with one True or more in every row.
    """
    last, list_price, lowest = (x.unsqueeze(-1) for x in (last, list_price, lowest))
    price, code = gate(choices, last, list_price, lowest, guard, markdown_only=markdown_only)
    stands = code == 0
    nearest = (price - choices).abs().argmin(-1, keepdim=True)
    only = torch.zeros_like(stands).scatter_(-1, nearest, True)
    return torch.where(stands.any(-1, keepdim=True), stands, only)
