"""The pricing market as one would write it by hand: one world in numpy, and in loops of floats.

One learning seller among scripted ones that undercut or match; logit demand with calendar, shock,
reference prices; stock with orders. Being written apart from the market, it is a check of it in the
tests.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from rl_markets.envs.pricing.parameters import PricingParameters

Array = NDArray[Any]

PARAMETERS: dict[str, Any] = {
    "periods": 90,
    "deadline": False,
    "gamma": 0.99,
    "products": 8,
    "sellers": {"seller": 1},
    "rivals": [{"rule": "undercut"}, {"rule": "match-lowest"}],
    "list_price": [100.0],
    "cost": [60.0],
    "demand": {"family": "logit", "visitors": 60.0, "quality": [120.0], "mu": 15.0},
    "season": {"weekly": [0.8, 0.9, 0.9, 1.0, 1.1, 1.2, 1.1], "annual": 0.2, "sigma": 0.1},
    "reference": {"memory": 0.9, "gain": 0.2, "loss": 0.4},
    "stock": {"units": [60], "reorder_below": 20, "lead_time": 3, "holding": 0.002},
}
"""Three sellers of eight products each."""


def parameters() -> PricingParameters:
    """The market that is measured."""
    return PricingParameters.model_validate(PARAMETERS)


class PlainPricing(gym.Env):  # type: ignore[misc]
    """One world, goods as arrays `[sellers * products]`; observed as the market's agents do."""

    def __init__(self, p: PricingParameters, seed: int = 0) -> None:
        assert p.stock is not None
        assert p.reference is not None
        self.p = p
        self.stock = p.stock
        self.reference = p.reference
        self.rng = np.random.default_rng(seed)
        self.P = p.products
        self.F = p.firms
        self.list = np.array(p.goods(p.list_price))
        self.cost = np.array(p.goods(p.cost))
        self.quality = np.array(p.goods(p.demand.quality))
        self.levels = np.array(p.levels)
        self.weekly = np.array(p.season.weekly)
        self.units = float(p.stock.units[0])
        self.usual = p.demand.visitors * self.shares(self.list, np.zeros_like(self.list))
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (self.P * 10 + 4,), np.float32)
        self.action_space = gym.spaces.MultiDiscrete([len(self.levels)] * self.P)

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[Array, dict[str, Any]]:
        """A fresh episode."""
        super().reset(seed=seed)
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        season = self.p.season
        goods = len(self.list)
        self.t = 0
        self.day = int(
            self.rng.integers(364)
        )  # 52 whole weeks, so that days of the week go on over the year's end
        # from the stationary distribution of the demand shock
        self.shock = season.sigma / math.sqrt(1 - season.rho**2) * self.rng.standard_normal()
        self.price = self.list.copy()
        self.remembered = self.list.copy()
        self.paid = self.list.copy()
        self.sales = self.usual.copy()
        self.week = self.usual.copy()
        self.month = self.usual.copy()
        self.left = np.full(goods, self.units)
        self.due = np.zeros(goods)
        return self.observe(), {}

    def shares(self, price: Array, worth: Array) -> Array:
        """The logit's choice probabilities."""
        attraction = np.exp((self.quality - price + worth) / self.p.demand.mu)
        outside = math.exp(self.p.demand.outside / self.p.demand.mu)
        shares: Array = attraction / (outside + attraction.sum())
        return shares

    def customers(self, mean: Array) -> Array:
        """How many come."""
        return self.rng.poisson(mean)

    def cheapest(self) -> Array:
        """The lowest price of each product elsewhere, `[sellers, products]`."""
        price = self.price.reshape(self.F, self.P)
        return np.stack([np.delete(price, f, axis=0).min(0) for f in range(self.F)])

    def quotes(self) -> list[Array]:
        """What the scripted sellers charge next."""
        cheapest = self.cheapest()
        quotes = []
        for f, rival in enumerate(self.p.rivals, 1):
            own = slice(f * self.P, (f + 1) * self.P)
            price = cheapest[f] * (1 - rival.step) if rival.rule == "undercut" else cheapest[f]
            # at most the list price, and at least 5 % above cost
            quotes.append(np.maximum(np.minimum(price, self.list[own]), 1.05 * self.cost[own]))
        return quotes

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One period."""
        p = self.p
        season = self.p.season
        own = self.list[: self.P] * self.levels[np.asarray(action)]
        self.price = price = np.concatenate([own, *self.quotes()])
        below = self.remembered - price
        worth = np.where(below > 0, self.reference.gain * below, self.reference.loss * below)
        annual = 1 + season.annual * math.sin(2 * math.pi * self.day / 364)
        factor = self.weekly[self.day % 7] * annual
        mean = p.demand.visitors * factor * math.exp(self.shock) * self.shares(price, worth)
        sold = np.minimum(self.customers(mean), self.left)
        profit = ((1 - p.fee) * price - self.cost) * sold + self.restock(sold)
        self.remember(sold)
        self.t += 1
        return self.observe(), float(profit[: self.P].sum()), False, self.t >= p.periods, {}

    def restock(self, sold: Array) -> Array:
        """Takes what was sold out of stock, and orders; what that earns, less than 0."""
        self.left = self.left - sold
        cash = -self.stock.holding * self.cost * self.left
        # periods until an order arrives, 0 where none is under way: at most one at a time
        arrives = self.due == 1
        waits = self.due > 0
        self.left = np.where(arrives, self.units, self.left)
        order = (self.left < self.stock.reorder_below) & ~waits
        self.due = np.where(order, self.stock.lead_time, np.maximum(self.due - 1, 0))
        earnings: Array = cash - self.stock.order_cost * order
        return earnings

    def remember(self, sold: Array) -> None:
        """What the next period starts with."""
        season = self.p.season
        memory = self.reference.memory
        self.remembered = memory * self.remembered + (1 - memory) * self.price
        self.sales = sold
        # moving averages over about a week and four weeks
        self.week = self.week + (sold - self.week) / 7
        self.month = self.month + (sold - self.month) / 28
        self.paid = self.paid + (self.price - self.paid) / 28
        self.shock = season.rho * self.shock + season.sigma * self.rng.standard_normal()
        self.day = (self.day + 1) % 364

    def observe(self) -> Array:
        """Ten entries for each own product, four of the calendar."""
        P = self.P
        scale = self.list[:P]
        columns = [
            self.price[:P] / scale,
            self.left[:P] / self.units,
            self.left[:P] <= 0,
            self.due[:P] > 0,
            self.cheapest()[0] / scale,
            self.cost[:P] / scale,
            self.paid[:P] / scale,
            *(x[:P] / self.usual[:P] for x in (self.sales, self.week, self.month)),
        ]
        angles = np.array([2 * np.pi * self.day / 7, 2 * np.pi * self.day / 364])
        calendar = np.stack([np.sin(angles), np.cos(angles)], 1).ravel()
        return np.concatenate([np.stack(columns, 1).ravel(), calendar]).astype(np.float32)


class LoopPricing(PlainPricing):
    """The same with a loop over goods of plain floats, as most environments on the web have it."""

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[Array, dict[str, Any]]:
        """A fresh episode, in lists."""
        start = super().reset(seed=seed, options=options)
        for name in ("price", "remembered", "paid", "sales", "week", "month", "left", "due"):
            setattr(self, name, getattr(self, name).tolist())
        self.lists = [x.tolist() for x in (self.list, self.cost, self.quality, self.usual)]
        return start

    def customer(self, mean: float, good: int) -> int:
        """How many come for one good."""
        return int(self.rng.poisson(mean))

    def lowest(self, good: int) -> float:
        """The lowest price of the same product elsewhere."""
        own, product = divmod(good, self.P)
        return float(min(self.price[f * self.P + product] for f in range(self.F) if f != own))

    def step(self, action: Array) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """One period, good by good."""
        p = self.p
        season = self.p.season
        listed, cost, quality, _ = self.lists
        prices = [listed[j] * p.levels[k] for j, k in enumerate(action)]
        for i in range(self.P, self.F * self.P):
            rival = p.rivals[i // self.P - 1]
            quote = self.lowest(i) * ((1 - rival.step) if rival.rule == "undercut" else 1)
            prices.append(max(min(quote, listed[i]), 1.05 * cost[i]))
        # only now: rivals quote on the last period's prices
        self.price = prices  # type: ignore[assignment]  # lists here, see `reset`
        attractions = []
        for i, price in enumerate(prices):
            below = self.remembered[i] - price
            worth = below * (self.reference.gain if below > 0 else self.reference.loss)
            attractions.append(math.exp((quality[i] - price + worth) / p.demand.mu))
        total = math.exp(p.demand.outside / p.demand.mu) + sum(attractions)
        annual = 1 + season.annual * math.sin(2 * math.pi * self.day / 364)
        factor = p.season.weekly[self.day % 7] * annual
        factor *= p.demand.visitors * math.exp(self.shock) / total
        reward = 0.0
        for i, attraction in enumerate(attractions):
            earnings = self.trade(i, min(self.customer(factor * attraction, i), self.left[i]))
            reward += earnings if i < self.P else 0.0
        self.shock = season.rho * self.shock + season.sigma * self.rng.standard_normal()
        self.day = (self.day + 1) % 364
        self.t = self.t + 1
        return self.look(), reward, False, self.t >= p.periods, {}

    def trade(self, i: int, sold: float) -> float:
        """One good's sales, stock, order and memory; what it earns."""
        p = self.p
        price = self.price[i]
        cost = self.lists[1][i]
        left = self.left[i] - sold
        earnings = ((1 - p.fee) * price - cost) * sold - self.stock.holding * cost * left
        if self.due[i] == 1:
            left = self.units
            self.due[i] = 0
        elif self.due[i] > 1:
            self.due[i] -= 1
        elif left < self.stock.reorder_below:
            self.due[i] = self.stock.lead_time
            earnings -= self.stock.order_cost
        memory = self.reference.memory
        self.left[i] = left
        self.remembered[i] = memory * self.remembered[i] + (1 - memory) * price
        self.sales[i] = sold
        self.week[i] += (sold - self.week[i]) / 7
        self.month[i] += (sold - self.month[i]) / 28
        self.paid[i] += (price - self.paid[i]) / 28
        return float(earnings)

    def look(self) -> Array:
        """What `observe` gives, good by good."""
        row = []
        listed, cost, _, usual = self.lists
        for i in range(self.P):
            scale = listed[i]
            row += [self.price[i] / scale, self.left[i] / self.units]
            row += [self.left[i] <= 0, self.due[i] > 0]
            row += [self.lowest(i) / scale, cost[i] / scale, self.paid[i] / scale]
            row += [self.sales[i] / usual[i], self.week[i] / usual[i], self.month[i] / usual[i]]
        for period in (7, 364):
            angle = 2 * math.pi * self.day / period
            row += [math.sin(angle), math.cos(angle)]
        return np.array(row, np.float32)
