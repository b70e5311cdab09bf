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
from rl_markets.envs.pricing.competition import Competition
from rl_markets.envs.pricing.demand import demand_of
from rl_markets.envs.pricing.guard import allowed, gate, lowest_price
from rl_markets.envs.pricing.parameters import PricingParameters


class Pricing(TensorMarket):
    """F sellers of P products each, G = F P goods; an agent is a seller.

    It is paid its whole catalogue's profit. Every period all sellers post prices at once, on what
    they saw of each other's last ones. Demand is Poisson around

        lam_i = d_i(p) season(t) e^(z_t),   z' = rho z + sigma eps,   r' = memory r + (1 - memory) p

    where d is a family of `demand` and r the reference price; sales are q = min(demand, stock). The
    reward is

        sum_i ((1 - fee) p_i - c_i) q_i - holding c_i I'_i - order cost,

    and salvage s I' at the deadline.

    Action: `MultiDiscrete`, a level for each product.
    Observation: see `features`, and, where guard-rails may forbid a level, a column for each level
    of each product that says whether it is allowed (`AgentGroup.masked`). A forbidden action does
    no harm: the guard-rails are applied to every action.
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
        self._own_goods = self._learning * p.products
        self._own = slice(0, self._own_goods)
        self.competition = Competition(p, self.list_price, self.cost)
        self.nash = self.competition.nash
        units = None if p.stock is None else [float(u) for u in p.stock.units]
        self.units = None if units is None else self.demand.each(units)
        self._set_season()
        self._set_features()
        self.groups = self._agent_groups()

    def _set_season(self) -> None:
        """One factor of demand for each period or day, `[periods]` or `[364]`."""
        p = self.parameters
        season = p.season
        self._calendar = bool(season.weekly or season.annual)
        days = np.arange(features.YEAR)
        weekly = np.array(season.weekly or [1.0] * features.WEEK)[days % features.WEEK]
        of_day = weekly * (1 + season.annual * np.sin(features.turn(features.YEAR) * days))
        of_period = season.profile or [1.0] * p.periods
        self._of_day = torch.tensor(of_day, device=self.device, dtype=self.dtype)
        self._of_period = torch.tensor(of_period, device=self.device, dtype=self.dtype)
        self._ageing = bool(season.ageing)

    def _set_features(self) -> None:
        """What decides the columns of an observation, and the scale in which sales are seen."""
        p = self.parameters
        self._blank = features.of_season(p) == ["nothing"]
        self._moves = features.moves_prices(p)
        self._latent = features.latent(p)
        self._dated = features.dated(p)
        self._usual = self.demand.mean(self.list_price)[self._own].clamp_min(1e-6)

    def _agent_groups(self) -> dict[str, AgentGroup]:
        p = self.parameters
        observation = gym.spaces.Box(-np.inf, np.inf, (features.width(p),), np.float32)
        action = gym.spaces.MultiDiscrete([len(p.levels)] * p.products)
        return {
            name: AgentGroup(count, observation, action, masked=self.masked)
            for name, count in p.sellers.items()
        }

    # -- state -------------------------------------------------------------------------------------

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        """A full store at list prices; a share `exploring_starts` begins anywhere instead."""
        p = self.parameters
        state: State = {"period": torch.zeros(worlds, dtype=torch.int64, device=self.device)}
        state["price"] = self.list_price.expand(worlds, -1).clone()
        if self.masked:
            # A record of every decision: which guard-rail bound it, a place in `guard.RULES`.
            goods = (worlds, self._own_goods)
            state["rule"] = torch.zeros(goods, dtype=torch.int64, device=self.device)
        if self.units is not None:
            state["stock"] = self.units.expand(worlds, -1).clone()
            if p.stock is not None and p.stock.reorder_below:
                # Periods until an order arrives, 0 for none.
                state["due"] = torch.zeros_like(state["stock"])
        if self._calendar:
            state["day"] = torch.randint(
                features.YEAR, (worlds,), generator=generator, device=self.device
            )
        if p.season.sigma:
            # The shock starts in its long-run distribution.
            sd = p.season.sigma / (1 - p.season.rho**2) ** 0.5
            state["shock"] = sd * torch.randn(
                (worlds, 1), generator=generator, device=self.device, dtype=self.dtype
            )
        if p.exploring_starts:
            self._explore(state, worlds, generator)
        if p.reference is not None:
            state["reference"] = state["price"].clone()
        if any(rival.rule == "lagged" for rival in p.rivals):
            state["before"] = state["price"].clone()
        if self._latent:
            usual = self.demand.mean(self.list_price).expand(worlds, -1)
            state |= {name: usual.clone() for name in ("sales", "week", "month")}
            state["paid"] = state["price"].clone()
        return state

    def _explore(self, state: State, worlds: int, generator: torch.Generator) -> None:
        """Random periods, stocks and prices in some worlds, written into `state`."""
        p = self.parameters
        device = self.device
        explores = torch.rand(worlds, generator=generator, device=device) < p.exploring_starts
        goods = (worlds, self.demand.goods)
        period = torch.randint(p.periods, (worlds,), generator=generator, device=device)
        choice = torch.randint(len(p.levels), goods, generator=generator, device=device)
        if p.deadline:
            state["period"] = torch.where(explores, period, state["period"])
        if self._moves:
            price = self.levels[choice] * self.list_price
            state["price"] = torch.where(explores[:, None], price, state["price"])
        if self.units is not None:
            share = torch.rand(goods, dtype=self.dtype, generator=generator, device=device)
            stock = torch.ceil(self.units * share)
            state["stock"] = torch.where(explores[:, None], stock, state["stock"])

    def draw_noise(self, generator: torch.Generator) -> State:
        """What the customers' arrivals, the shock and the rivals are drawn from."""
        p = self.parameters
        size = (self.worlds, self.demand.goods)
        options: Any = {"dtype": self.dtype, "generator": generator, "device": self.device}
        noise: State = {"arrivals": torch.rand(size, **options)}
        if p.season.sigma:
            noise["shock"] = torch.randn((self.worlds, 1), **options)
        if any(rival.rule == "random-walk" for rival in p.rivals):
            noise["walk"] = torch.randn(size, **options)
        return noise

    # -- prices ------------------------------------------------------------------------------------

    def choices(self, state: State) -> Tensor:
        """What each level of each own product would propose, `[worlds, goods, levels]`."""
        base = self.list_price if self.parameters.actions == "level" else state["price"]
        return base[..., self._own, None] * self.levels

    def post(self, state: State, actions: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The learning sellers' next prices, and which guard-rails bound them.

        Args:
            state: the last prices are read from it.
            actions: group -> indices of levels `[worlds, sellers, products]`.

        Returns:
            prices and codes into `guard.RULES`, `[worlds, goods]` each.
        """
        own = self._own
        p = self.parameters
        if len(p.sellers) > 1:
            choice = torch.cat([actions[group].flatten(1) for group in p.sellers], 1)
        else:
            choice = next(iter(actions.values())).flatten(1)
        base = self.list_price[own] if p.actions == "level" else state["price"][:, own]
        proposed = base * self.levels[choice]
        if not self.masked:
            return proposed, torch.zeros_like(choice)
        return gate(
            proposed,
            state["price"][:, own],
            self.list_price[own],
            self.lowest[own],
            p.guard,
            markdown_only=p.markdown_only,
        )

    def present(self, period: Tensor) -> Tensor | None:
        """Which goods are offered, bool `[worlds, goods]`; None where nobody leaves."""
        return self.competition.present(period)

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
        if p.season.profile:
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
            price = torch.cat([price, *self.competition.quotes(state, noise)], 1)
        sold = poisson(noise["arrivals"], self.mean_demand(state, price))
        next_state = dict(state) | {"price": price, "period": state["period"] + 1}
        if self.masked:
            next_state["rule"] = rule
        if self.units is not None:
            sold = torch.minimum(sold, state["stock"])
        profit = ((1 - p.fee) * price - self.cost) * sold
        if self.units is not None:
            profit = profit + self._restock(state, next_state, sold)
        self._remember(state, next_state, noise, sold)
        by_seller = profit[:, self._own].view(-1, self._learning, self.products).sum(-1)
        counts = list(p.sellers.values())
        rewards = dict(zip(p.sellers, by_seller.split(counts, 1), strict=True))
        return Transition(next_state, rewards, self._terminated(next_state) if p.deadline else None)

    def _restock(self, state: State, next_state: State, sold: Tensor) -> Tensor:
        """Takes sales out of stock and orders anew, in `next_state`.

        Returns:
            Money `[worlds, goods]`: costs, less than 0, and salvage at the deadline.
        """
        p = self.parameters
        terms = p.stock
        assert terms is not None
        assert self.units is not None
        stock = state["stock"] - sold
        cash = torch.zeros_like(stock) if not terms.holding else -terms.holding * self.cost * stock
        if terms.reorder_below:
            due = state["due"]
            arrives = due == 1
            stock = torch.where(arrives, self.units, stock)
            # One order at a time, and none in the period in which one arrives.
            order = (stock < terms.reorder_below) & (due <= 1) & ~arrives
            next_state["due"] = torch.where(
                order, torch.full_like(due, terms.lead_time), (due - 1).clamp_min(0)
            )
            cash = cash - terms.order_cost * order
        if p.deadline and terms.salvage:
            over = next_state["period"] >= p.periods
            cash = cash + terms.salvage * stock * over[:, None]
        next_state["stock"] = stock
        return cash

    def _remember(self, state: State, next_state: State, noise: State, sold: Tensor) -> None:
        """Day, shock, reference prices and what sellers keep in mind of past sales and prices."""
        p = self.parameters
        price = next_state["price"]
        if self._calendar:
            next_state["day"] = (state["day"] + 1) % features.YEAR
        if "shock" in state:
            next_state["shock"] = p.season.rho * state["shock"] + p.season.sigma * noise["shock"]
        if p.reference is not None:
            next_state["reference"] = torch.lerp(price, state["reference"], p.reference.memory)
        if "before" in state:
            next_state["before"] = state["price"]
        if self._latent:
            next_state["sales"] = sold
            next_state["week"] = torch.lerp(state["week"], sold, 1 / features.WEEK)
            next_state["month"] = torch.lerp(state["month"], sold, 1 / features.MONTH)
            next_state["paid"] = torch.lerp(state["paid"], price, 1 / features.MONTH)

    def _terminated(self, state: State) -> Tensor:
        """Worlds at the deadline, or where no learning seller has anything to sell for good."""
        over: Tensor = state["period"] >= self.parameters.periods
        if "stock" in state and "due" not in state:
            over = over | (state["stock"][:, self._own] <= 0).all(-1)
        return over

    # -- observations ------------------------------------------------------------------------------

    def observe(self, state: State) -> dict[str, Tensor]:
        """What each seller sees of its products and the season, and which levels it may choose."""
        p = self.parameters
        worlds = len(state["period"])
        time_left = None
        if self._dated:
            time_left = (1 - state["period"].to(self.dtype) / p.periods).clamp_min(0)[:, None]
        products = self._product_features(state, time_left)
        season = self._season_features(state, time_left)
        parts = []
        if products:
            parts.append(torch.stack(products, -1).view(worlds, self._learning, -1))
        if season:
            parts.append(torch.stack(season, -1)[:, None].expand(-1, self._learning, -1))
        if self.masked:
            mask = self._allowed(state).to(self.dtype)
            parts.append(mask.view(worlds, self._learning, -1))
        observations = torch.cat(parts, -1).float()
        by_group = observations.split(list(p.sellers.values()), 1)
        return dict(zip(p.sellers, by_group, strict=True))

    def _allowed(self, state: State) -> Tensor:
        """Which levels the guard-rails leave alone, bool `[worlds, own goods, levels]`."""
        own = self._own
        return allowed(
            self.choices(state),
            state["price"][:, own],
            self.list_price[own],
            self.lowest[own],
            self.parameters.guard,
            markdown_only=self.parameters.markdown_only,
        )

    def _product_features(self, state: State, time_left: Tensor | None) -> list[Tensor]:
        """`[worlds, own goods]` each, in the order of `features.of_product`."""
        p = self.parameters
        own = self._own
        scale = 1 / self.list_price[own]
        columns = []
        if self._moves:
            columns.append(state["price"][:, own] * scale)
        if self.units is not None:
            stock = state["stock"][:, own]
            share = stock / self.units[own].clamp_min(1)
            columns += [share, (stock <= 0).to(self.dtype)]
            if time_left is not None:
                per_time = share / time_left.clamp_min(0.02)
                columns.append(per_time.clamp_max(features.MOST_PER_TIME) / 2)
            if "due" in state:
                columns.append((state["due"][:, own] > 0).to(self.dtype))
        if self.firms > 1:
            columns += self._rival_features(state, scale)
        if self._latent:
            usual = 1 / self._usual
            columns.append(state["paid"][:, own] * scale)
            columns += [state[name][:, own] * usual for name in ("sales", "week", "month")]
        if p.oracle and "reference" in state:
            columns.append(state["reference"][:, own] * scale)
        return columns

    def _rival_features(self, state: State, scale: Tensor) -> list[Tensor]:
        """What is seen of the other sellers, `[worlds, own goods]` each."""
        own = self._own
        present = self.present(state["period"])
        cheapest = self.competition.cheapest(state["price"], present).flatten(1)[:, own]
        columns = [cheapest * scale, (self.cost[own] * scale).expand_as(cheapest)]
        if present is not None:
            sellers = self.competition.by_firm(present).sum(1, keepdim=True)
            elsewhere = (sellers > 1).expand(-1, self._learning, -1)
            columns.append(elsewhere.flatten(1).to(self.dtype))
        return columns

    def _season_features(self, state: State, time_left: Tensor | None) -> list[Tensor]:
        """`[worlds]` each, in the order of `features.of_season`."""
        season = self.parameters.season
        columns = [] if time_left is None else [time_left[:, 0]]
        for moves, length in ((season.weekly, features.WEEK), (season.annual, features.YEAR)):
            if moves:
                angle = features.turn(length) * state["day"].to(self.dtype)
                columns += [torch.sin(angle), torch.cos(angle)]
        if self.parameters.oracle and "shock" in state:
            columns.append(state["shock"][:, 0])
        if self._blank:  # an observation has at least one entry
            columns.append(torch.zeros(len(state["period"]), device=self.device, dtype=self.dtype))
        return columns

    def in_units(self, gain: float) -> tuple[float, str]:
        """Discounted reward is money."""
        return gain, "money"
