"""The pricing market: many products, several sellers, a batch of worlds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rl_markets.envs.market import AgentGroup, State, TensorMarket, Transition
from rl_markets.envs.pricing import features
from rl_markets.envs.pricing.arrivals import poisson
from rl_markets.envs.pricing.demand import demand_of
from rl_markets.envs.pricing.guard import allowed, gate, lowest_price
from rl_markets.envs.pricing.logit import logit_of
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.envs.pricing.rivals import Seen, cheapest_other, quote


class Pricing(TensorMarket):
    """F sellers of P products each, G = F P goods; an agent is a seller and is paid its whole
    catalogue's profit.

    Every period all sellers post prices at once, on what they saw of each other's last ones. Demand
    is Poisson around

        lam_i = d_i(p) season(t) e^(z_t),   z' = rho z + sigma eps,   r' = memory r + (1 - memory) p

    where d is a family of `demand` and r the reference price; sales are q = min(demand, stock). The
    reward is

        sum_i ((1 - fee) p_i - c_i) q_i - holding c_i I'_i - order cost,  and salvage s I' at the
        deadline.

    Action: `MultiDiscrete`, a level for each product. Observation: see `features`, and, where
        guard-rails may forbid a
    level, a column for each level of each product that says whether it is allowed
    (`AgentGroup.masked`). A forbidden
    action does no harm: the guard-rails are applied to every action.
    """

    def __init__(
        self,
        parameters: PricingParameters,
        *,
        worlds: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        stagger: bool = True,
    ) -> None:
        length = None if parameters.deadline else parameters.periods
        super().__init__(worlds=worlds, episode_length=length, device=device, stagger=stagger)
        p = self.parameters = parameters
        self.dtype = dtype
        self.firms = p.firms
        self.products = p.products
        self.demand = demand_of(p, self.device, dtype)
        self.list_price = self.demand.each(p.list_price)
        self.cost = self.demand.each(p.cost)
        self.levels = torch.tensor(p.levels, device=self.device, dtype=dtype)
        self.lowest = lowest_price(self.cost, p.fee, p.guard)
        self.masked = features.restricted(p)
        self._learning = sum(p.sellers.values())
        self._own = self._learning * p.products
        leaves = [0] * self._learning + [r.leaves for r in p.rivals]
        until = torch.tensor([x or 2**62 for x in leaves], device=self.device).repeat_interleave(
            p.products
        )
        self._until = until if any(leaves) else None
        self._set_season()
        self._set_stock()
        self.nash = self._nash() if any(r.rule == "nash" for r in p.rivals) else None
        space = gym.spaces.Box(-np.inf, np.inf, (features.width(p),), np.float32)
        action = gym.spaces.MultiDiscrete([len(p.levels)] * p.products)
        self.groups = {
            name: AgentGroup(count, space, action, masked=self.masked)
            for name, count in p.sellers.items()
        }
        self._usual = self.demand.mean(self.list_price)[: self._own].clamp_min(
            1e-6
        )  # the scale of sales
        self._blank = features.of_season(p) == ["nothing"]
        self._moves = features.moves_prices(p)
        self._latent = features.latent(p)
        self._dated = features.dated(p)

    def _set_season(self) -> None:
        """One factor of demand for each period or day, `[periods]` or `[364]`."""
        p = self.parameters
        season = self.parameters.season
        self._calendar = bool(season.weekly or season.annual)
        days = np.arange(features.YEAR)
        weekly = np.array(season.weekly or [1.0] * features.WEEK)[days % features.WEEK]
        of_day = weekly * (1 + season.annual * np.sin(features.turn(features.YEAR) * days))
        options: Any = {"device": self.device, "dtype": self.dtype}
        self._of_day = torch.tensor(of_day, **options)
        self._of_period = torch.tensor(season.profile or [1.0] * p.periods, **options)
        self._ageing = bool(season.ageing)

    def _set_stock(self) -> None:
        given = self.parameters.stock
        self.units = None if given is None else self.demand.each([float(u) for u in given.units])

    def _nash(self) -> Tensor:
        """One-period equilibrium prices of all goods `[goods]`."""
        return torch.tensor(logit_of(self.parameters).nash(), device=self.device, dtype=self.dtype)

    # -- state -------------------------------------------------------------------------------------

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        """A full store at list prices; a share `exploring_starts` begins anywhere instead."""
        p = self.parameters
        options = {"device": self.device, "dtype": self.dtype}
        state: State = {"period": torch.zeros(worlds, dtype=torch.int64, device=self.device)}
        state["price"] = self.list_price.expand(worlds, -1).clone()
        if (
            self.masked
        ):  # a record of every decision: which guard-rail bound it, a place in `guard.RULES`
            state["rule"] = torch.zeros((worlds, self._own), dtype=torch.int64, device=self.device)
        if self.units is not None:
            state["stock"] = self.units.expand(worlds, -1).clone()
            if p.stock is not None and p.stock.reorder_below:
                state["due"] = torch.zeros_like(
                    state["stock"]
                )  # periods until an order arrives, 0 for none
        if self._calendar:
            state["day"] = torch.randint(
                features.YEAR, (worlds,), generator=generator, device=self.device
            )
        if p.season.sigma:
            sd = p.season.sigma / (1 - p.season.rho**2) ** 0.5
            state["shock"] = sd * torch.randn((worlds, 1), generator=generator, **options)  # type: ignore[call-overload]
        if p.exploring_starts:
            self._explore(state, worlds, generator)
        if p.reference is not None:
            state["reference"] = state["price"].clone()
        if any(r.rule == "lagged" for r in p.rivals):
            state["before"] = state["price"].clone()
        if self._latent:
            usual = self.demand.mean(self.list_price).expand(worlds, -1)
            state |= {name: usual.clone() for name in ("sales", "week", "month")} | {
                "paid": state["price"].clone()
            }
        return state

    def _explore(self, state: State, worlds: int, generator: torch.Generator) -> None:
        """Random periods, stocks and prices in some worlds."""
        p = self.parameters
        options = {"generator": generator, "device": self.device}
        chosen = torch.rand(worlds, **options) < p.exploring_starts  # type: ignore[call-overload]
        goods = (worlds, self.demand.goods)
        period = torch.randint(p.periods, (worlds,), **options)  # type: ignore[call-overload]
        level = self.levels[torch.randint(len(p.levels), goods, **options)]  # type: ignore[call-overload]
        if p.deadline:
            state["period"] = torch.where(chosen, period, state["period"])
        if self._moves:
            state["price"] = torch.where(chosen[:, None], level * self.list_price, state["price"])
        if self.units is not None:
            stock = torch.ceil(self.units * torch.rand(goods, dtype=self.dtype, **options))  # type: ignore[call-overload]
            state["stock"] = torch.where(chosen[:, None], stock, state["stock"])

    def draw_noise(self, generator: torch.Generator) -> State:
        """What the customers' arrivals, the shock and the rivals are drawn from."""
        p = self.parameters
        options = {"generator": generator, "device": self.device}
        size = (self.worlds, self.demand.goods)
        noise: State = {"arrivals": torch.rand(size, dtype=self.dtype, **options)}  # type: ignore[call-overload]
        if p.season.sigma:
            noise["shock"] = torch.randn((self.worlds, 1), dtype=self.dtype, **options)  # type: ignore[call-overload]
        if any(r.rule == "random-walk" for r in p.rivals):
            noise["walk"] = torch.randn(size, dtype=self.dtype, **options)  # type: ignore[call-overload]
        return noise

    # -- prices ------------------------------------------------------------------------------------

    def choices(self, state: State) -> Tensor:
        """What each level of each learning seller's product would propose, `[worlds, goods,
        levels]`."""
        base = self.list_price if self.parameters.actions == "level" else state["price"]
        return base[..., : self._own, None] * self.levels

    def post(self, state: State, actions: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The learning sellers' next prices and the codes of the guard-rails that bound them,
        `[worlds, goods]` each."""
        own = slice(0, self._own)
        p = self.parameters
        chosen = (
            torch.cat([actions[group].flatten(1) for group in p.sellers], 1)
            if len(p.sellers) > 1
            else (next(iter(actions.values())).flatten(1))
        )
        base = self.list_price[own] if p.actions == "level" else state["price"][:, own]
        proposed = base * self.levels[chosen]
        if not self.masked:
            return proposed, torch.zeros_like(chosen)
        last = state["price"][:, own]
        return gate(
            proposed,
            last,
            self.list_price[own],
            self.lowest[own],
            p.guard,
            markdown_only=p.markdown_only,
        )

    def present(self, period: Tensor) -> Tensor | None:
        """Which goods are offered, bool `[worlds, goods]`; None where nobody leaves."""
        return None if self._until is None else period[:, None] < self._until

    def _cheapest(self, price: Tensor, present: Tensor | None) -> Tensor:
        """The lowest price of the same product elsewhere, `[worlds, firms, products]`; the list
        price where none is."""
        offered = price if present is None else price.masked_fill(~present, torch.inf)
        found = cheapest_other(offered.view(-1, self.firms, self.products))
        if self.firms > 1 and present is None:
            return found
        return torch.where(
            torch.isfinite(found), found, self.list_price.view(self.firms, self.products)
        )

    def _quotes(self, state: State, noise: State) -> list[Tensor]:
        """The scripted rivals' next prices, `[worlds, products]` each."""

        def by_firm(x: Tensor) -> Tensor:
            return x.view(-1, self.firms, self.products)

        present = self.present(state["period"])
        cheapest = self._cheapest(state["price"], present)
        own = by_firm(state["price"])
        before = self._cheapest(state["before"], present) if "before" in state else cheapest
        walk = by_firm(noise["walk"]) if "walk" in noise else torch.zeros_like(own)
        list_price, cost = (x.view(self.firms, self.products) for x in (self.list_price, self.cost))
        found = []
        for f, rival in enumerate(self.parameters.rivals, self._learning):
            seen = Seen(own[:, f], list_price[f], cost[f], cheapest[:, f], before[:, f], walk[:, f])
            nash = None if self.nash is None else self.nash.view(self.firms, self.products)[f]
            found.append(quote(rival, seen, nash))
        return found

    # -- dynamics ----------------------------------------------------------------------------------

    def mean_demand(self, state: State, price: Tensor) -> Tensor:
        """lam, mean units `[worlds, goods]`, of every good at `price` `[worlds, goods]`."""
        p = self.parameters
        worth = None
        if p.reference is not None:
            below = state["reference"] - price
            worth = p.reference.gain * below.clamp_min(0) + p.reference.loss * below.clamp_max(0)
        if self._ageing:
            aged = -p.season.ageing * state["period"].to(self.dtype)[:, None]
            worth = aged if worth is None else worth + aged
        mean = self.demand.mean(price, worth, self.present(state["period"]))
        if self.parameters.season.profile:
            mean = mean * self._of_period[state["period"].clamp(max=p.periods - 1)][:, None]
        if self._calendar:
            mean = mean * self._of_day[state["day"]][:, None]
        if "shock" in state:
            mean = mean * torch.exp(state["shock"])
        return mean

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        """Post, sell, pay, restock, remember."""
        p = self.parameters
        price, rule = self.post(state, actions)
        if p.rivals:
            price = torch.cat([price, *self._quotes(state, noise)], 1)
        sold = poisson(noise["arrivals"], self.mean_demand(state, price))
        following = dict(state) | {"price": price, "period": state["period"] + 1}
        if self.masked:
            following["rule"] = rule
        if self.units is not None:
            sold = torch.minimum(sold, state["stock"])
        profit = ((1 - p.fee) * price - self.cost) * sold
        if self.units is not None:
            profit = profit + self._restock(state, following, sold)
        self._remember(state, following, noise, sold)
        by_seller = profit[:, : self._own].view(-1, self._learning, self.products).sum(-1)
        counts = list(p.sellers.values())
        rewards = dict(zip(p.sellers, by_seller.split(counts, 1), strict=True))
        return Transition(following, rewards, self._terminated(following) if p.deadline else None)

    def _restock(self, state: State, following: State, sold: Tensor) -> Tensor:
        """Takes what was sold out of stock, and orders; what that costs (less than 0), and salvage
        at the deadline."""
        p = self.parameters
        given = self.parameters.stock
        assert given is not None
        assert self.units is not None
        left = state["stock"] - sold
        cash = torch.zeros_like(left) if not given.holding else -given.holding * self.cost * left
        if given.reorder_below:
            due = state["due"]
            arrives = due == 1
            left = torch.where(arrives, self.units, left)
            order = (left < given.reorder_below) & (due <= 1) & ~arrives
            following["due"] = torch.where(
                order, torch.full_like(due, given.lead_time), (due - 1).clamp_min(0)
            )
            cash = cash - given.order_cost * order
        if p.deadline and given.salvage:
            over = following["period"] >= p.periods
            cash = cash + given.salvage * left * over[:, None]
        following["stock"] = left
        return cash

    def _remember(self, state: State, following: State, noise: State, sold: Tensor) -> None:
        """Day, shock, reference prices and what sellers keep in mind of past sales and prices."""
        p = self.parameters
        price = following["price"]
        if self._calendar:
            following["day"] = (state["day"] + 1) % features.YEAR
        if "shock" in state:
            following["shock"] = p.season.rho * state["shock"] + p.season.sigma * noise["shock"]
        if p.reference is not None:
            following["reference"] = torch.lerp(price, state["reference"], p.reference.memory)
        if "before" in state:
            following["before"] = state["price"]
        if self._latent:
            following["sales"] = sold
            following["week"] = torch.lerp(state["week"], sold, 1 / features.WEEK)
            following["month"] = torch.lerp(state["month"], sold, 1 / features.MONTH)
            following["paid"] = torch.lerp(state["paid"], price, 1 / features.MONTH)

    def _terminated(self, state: State) -> Tensor:
        """Worlds at the deadline, or where no learning seller has anything to sell for good."""
        over: Tensor = state["period"] >= self.parameters.periods
        if "stock" in state and "due" not in state:
            over = over | (state["stock"][:, : self._own] <= 0).all(-1)
        return over

    # -- observations ------------------------------------------------------------------------------

    def observe(self, state: State) -> dict[str, Tensor]:
        """What each seller sees of its products and of the season, and which levels it may
        choose."""
        p = self.parameters
        worlds = len(state["period"])
        left = (
            None
            if not self._dated
            else (1 - state["period"].to(self.dtype) / p.periods).clamp_min(0)[:, None]
        )
        season = self._season_features(state, left)
        columns = self._product_features(state, left)
        parts = [torch.stack(columns, -1).view(worlds, self._learning, -1)] if columns else []
        if season:
            parts.append(torch.stack(season, -1)[:, None].expand(-1, self._learning, -1))
        if self.masked:
            own = slice(0, self._own)
            ok = allowed(
                self.choices(state),
                state["price"][:, own],
                self.list_price[own],
                self.lowest[own],
                p.guard,
                markdown_only=p.markdown_only,
            )
            parts.append(ok.to(self.dtype).view(worlds, self._learning, -1))
        seen = torch.cat(parts, -1).float()
        return dict(zip(p.sellers, seen.split(list(p.sellers.values()), 1), strict=True))

    def _product_features(self, state: State, left: Tensor | None) -> list[Tensor]:
        """`[worlds, own goods]` each, in the order of `features.of_product`."""
        p = self.parameters
        own = slice(0, self._own)
        scale = 1 / self.list_price[own]
        columns = []
        if self._moves:
            columns.append(state["price"][:, own] * scale)
        if self.units is not None:
            stock = state["stock"][:, own]
            share = stock / self.units[own].clamp_min(1)
            columns += [share, (stock <= 0).to(self.dtype)]
            if left is not None:
                columns.append((share / left.clamp_min(0.02)).clamp_max(features.MOST_PER_TIME) / 2)
            if "due" in state:
                columns.append((state["due"][:, own] > 0).to(self.dtype))
        if self.firms > 1:
            present = self.present(state["period"])
            cheapest = self._cheapest(state["price"], present).flatten(1)[:, own]
            columns += [cheapest * scale, (self.cost[own] * scale).expand_as(cheapest)]
            if present is not None:
                others = present.view(-1, self.firms, self.products).sum(1, keepdim=True) > 1
                columns.append(others.expand(-1, self._learning, -1).flatten(1).to(self.dtype))
        if self._latent:
            usual = 1 / self._usual
            columns.append(state["paid"][:, own] * scale)
            columns += [state[name][:, own] * usual for name in ("sales", "week", "month")]
        if p.oracle and "reference" in state:
            columns.append(state["reference"][:, own] * scale)
        return columns

    def _season_features(self, state: State, left: Tensor | None) -> list[Tensor]:
        """`[worlds]` each, in the order of `features.of_season`."""
        p = self.parameters
        columns = [] if left is None else [left[:, 0]]
        for given, length in ((p.season.weekly, features.WEEK), (p.season.annual, features.YEAR)):
            if given:
                angle = features.turn(length) * state["day"].to(self.dtype)
                columns += [torch.sin(angle), torch.cos(angle)]
        if p.oracle and "shock" in state:
            columns.append(state["shock"][:, 0])
        if self._blank:  # an observation has at least one entry
            columns.append(torch.zeros(len(state["period"]), device=self.device, dtype=self.dtype))
        return columns

    def in_units(self, gain: float) -> tuple[float, str]:
        """Discounted reward is money."""
        return gain, "money"
