"""The sellers side by side: who is there, who is cheapest, what scripted rivals charge."""

from __future__ import annotations

import torch
from torch import Tensor

from rl_markets.envs.market import State
from rl_markets.envs.pricing.logit import logit_of
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.envs.pricing.rivals import Seen, cheapest_other, quote

FOR_GOOD = 2**62
"""Stands for the period in which a seller leaves that never does."""


class Competition:
    """All sellers of a pricing market, the learning ones first, then the rivals in their order.

    Args:
        parameters: the market's.
        list_price, cost: of all goods, `[goods]`; their dtype and device are used for all else.

    Attributes:
        nash: one-period equilibrium prices `[goods]`, where a rival plays them, else None.
    """

    def __init__(self, parameters: PricingParameters, list_price: Tensor, cost: Tensor) -> None:
        self.rivals = parameters.rivals
        self.firms = parameters.firms
        self.products = parameters.products
        self._learning = self.firms - len(self.rivals)
        self._list_price = list_price.view(self.firms, self.products)
        self._cost = cost.view(self.firms, self.products)
        self._leaves = self._leaving_periods(list_price.device)
        self.nash: Tensor | None = None
        if any(rival.rule == "nash" for rival in self.rivals):
            equilibrium = logit_of(parameters).nash()
            self.nash = torch.tensor(equilibrium, device=cost.device, dtype=cost.dtype)

    def _leaving_periods(self, device: torch.device) -> Tensor | None:
        """The period in which each good goes with its seller, `[goods]`; None where nobody does."""
        leaves = [0] * self._learning + [rival.leaves for rival in self.rivals]
        if not any(leaves):
            return None
        by_firm = torch.tensor([period or FOR_GOOD for period in leaves], device=device)
        return by_firm.repeat_interleave(self.products)

    def present(self, period: Tensor) -> Tensor | None:
        """Which goods are offered, bool `[worlds, goods]`; None where nobody leaves."""
        return None if self._leaves is None else period[:, None] < self._leaves

    def by_firm(self, goods: Tensor) -> Tensor:
        """`[worlds, goods]` as `[worlds, firms, products]`."""
        return goods.view(-1, self.firms, self.products)

    def cheapest(self, price: Tensor, present: Tensor | None) -> Tensor:
        """The lowest price of the same product elsewhere; the list price where there is none.

        Args:
            price: `[worlds, goods]`.
            present: as from `present`.

        Returns:
            `[worlds, firms, products]`.
        """
        # Who has left has no price to be beaten.
        offered = price if present is None else price.masked_fill(~present, torch.inf)
        lowest = cheapest_other(self.by_firm(offered))
        if self.firms > 1 and present is None:
            return lowest
        return torch.where(torch.isfinite(lowest), lowest, self._list_price)

    def quotes(self, state: State, noise: State) -> list[Tensor]:
        """The scripted rivals' next prices, `[worlds, products]` each."""
        # All post at once: a rival answers the last prices.
        present = self.present(state["period"])
        cheapest = self.cheapest(state["price"], present)
        price = self.by_firm(state["price"])
        before = self.cheapest(state["before"], present) if "before" in state else cheapest
        walk = self.by_firm(noise["walk"]) if "walk" in noise else torch.zeros_like(price)
        nash = None if self.nash is None else self.nash.view(self.firms, self.products)
        quotes = []
        for f, rival in enumerate(self.rivals, self._learning):
            seen = Seen(
                own=price[:, f],
                list_price=self._list_price[f],
                cost=self._cost[f],
                cheapest=cheapest[:, f],
                before=before[:, f],
                noise=walk[:, f],
            )
            quotes.append(quote(rival, seen, None if nash is None else nash[f]))
        return quotes
