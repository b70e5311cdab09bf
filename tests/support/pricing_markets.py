"""A pricing market with everything in it, and its step once more, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from rl_markets.envs.market import State
from rl_markets.envs.pricing.market import Pricing
from rl_markets.envs.pricing.parameters import PricingParameters

RULES = (
    "fixed",
    "cost-plus",
    "match-lowest",
    "undercut",
    "undercut-and-reset",
    "lagged",
    "random-walk",
    "nash",
)
DOUBLE = torch.float64

LOGIT = {"family": "logit", "visitors": 60.0, "quality": [2.0], "mu": 0.3}
RICH: dict[str, Any] = {
    "periods": 40,
    "deadline": False,
    "gamma": 0.99,
    "products": 2,
    "sellers": {"big": 2, "small": 1},
    "rivals": [
        {"rule": rule, "step": 0.05, "leaves": 12 if rule == "nash" else 0} for rule in RULES
    ],
    "list_price": [2.0, 2.4],
    "cost": [1.0, 1.1],
    "fee": 0.05,
    "demand": {**LOGIT, "quality": [2.0, 2.3]},
    "season": {"weekly": [1, 1, 1, 1, 1.2, 1.5, 1.3], "annual": 0.3, "sigma": 0.1},
    "reference": {"memory": 0.8, "gain": 0.1, "loss": 0.2},
    "stock": {
        "units": [20],
        "reorder_below": 6,
        "lead_time": 2,
        "order_cost": 1.0,
        "holding": 0.01,
    },
    "actions": "move",
    "levels": [0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25],
    "guard": {"floor": 0.5, "ceiling": 1.3, "change": 0.2, "margin": 0.05},
    "exploring_starts": 0.3,
}
"""Two learning groups, rivals of every rule one of whom leaves, calendar, shock, reference price,
orders, guard-rails."""

SEASON: dict[str, Any] = {
    "periods": 5,
    "list_price": [1000.0],
    "demand": {"family": "exponential", "size": [6.0], "slope": [0.002]},
    "stock": {"units": [5]},
    "levels": [0.4, 0.7, 1.0, 1.3, 1.8],
}
"""One product, a few units, a deadline."""


def parameters(base: dict[str, Any] | None = None, **changes: Any) -> PricingParameters:
    """Validated parameters: `base`, or one plain logit product, with changes."""
    base = {"demand": LOGIT, "list_price": [2.0], "cost": [1.0]} if base is None else base
    return PricingParameters.model_validate(base | changes)


def built(
    base: dict[str, Any] | None = None,
    worlds: int = 4,
    dtype: torch.dtype = DOUBLE,
    seed: int = 1,
    **changes: Any,
) -> Pricing:
    """A market after its reset, clocks at 0."""
    market = Pricing(parameters(base, **changes), worlds=worlds, dtype=dtype, stagger=False)
    market.reset(seed)
    return market


def drawn(market: Pricing, generator: torch.Generator) -> dict[str, Tensor]:
    """Random actions of all sellers."""
    shape = {
        name: (market.worlds, group.count, market.products) for name, group in market.groups.items()
    }
    most = len(market.parameters.levels)
    return {name: torch.randint(most, size, generator=generator) for name, size in shape.items()}


def counted(uniform: float, mean: float) -> int:
    """The Poisson count at a uniform number.

    It is the distribution's quantile, but for the cut of its far tail.
    """
    count = 0
    term = math.exp(-mean)
    total = term
    while total < uniform * (1 - 4e-6) and count < 48:
        count += 1
        term *= mean / count
        total += term
    return count


class Loop:
    """One world of a market with levels of everything: the equations once more, good by good.

    Its state is floats in lists.
    """

    def __init__(self, p: PricingParameters, state: State, world: int, nash: list[float]) -> None:
        self.p = p
        self.P = p.products
        self.F = p.firms
        self.nash = nash
        self.learning = sum(p.sellers.values())
        self.list = p.goods(p.list_price)
        self.cost = p.goods(p.cost)
        self.quality = p.goods(p.demand.quality)
        self.s: dict[str, Any] = {k: v[world].tolist() for k, v in state.items()}
        self.s["shock"] = self.s["shock"][0]
        start = {**self.s, "period": 0, "shock": 0.0, "day": 0}
        self.list_sales = self.means(self.list, start, plain=True)

    def here(self, firm: int, period: int) -> bool:
        """Whether a seller is still in the market."""
        rival = firm - self.learning
        return rival < 0 or not self.p.rivals[rival].leaves or period < self.p.rivals[rival].leaves

    def cheapest(self, price: list[float], good: int) -> float:
        """The lowest price of the same product elsewhere, or the list price."""
        own, j = divmod(good, self.P)
        present = [f for f in range(self.F) if f != own and self.here(f, self.s["period"])]
        return min((price[f * self.P + j] for f in present), default=self.list[good])

    def gated(self, proposed: float, good: int) -> float:
        """The price that the guard-rails let stand."""
        return self.bound(proposed, good)[0]

    def bound(self, proposed: float, good: int) -> tuple[float, int]:
        """The price that the guard-rails let stand, and the last of them that moved it.

        1 floor ... 5 margin, 0 none.
        """
        g = self.p.guard
        last = self.s["price"][good]
        price = proposed
        code = 0
        lowest = self.cost[good] / (1 - self.p.fee - g.margin)
        limits = {
            1: (g.floor * self.list[good], math.inf),
            2: (0.0, g.ceiling * self.list[good]),
            3: ((1 - g.change) * last, (1 + g.change) * last),
            5: (lowest, math.inf),
        }
        for rule, (low, high) in limits.items():
            moved = min(max(price, low), high)
            if abs(moved - price) > 1e-5 * self.list[good]:
                price = moved
                code = rule
        return price, code

    def quote(self, good: int, walk: float) -> float:
        """A scripted rival's price."""
        rival = self.p.rivals[good // self.P - self.learning]
        price = self.s["price"]
        lowest = self.cheapest(self.s["price"], good)
        floor = 1.05 * self.cost[good]
        answers = {
            "match-lowest": lowest,
            "undercut": (1 - rival.step) * lowest,
            "undercut-and-reset": (1 - rival.step) * lowest,
            "lagged": self.cheapest(self.s["before"], good),
            "random-walk": price[good] * math.exp(rival.step * walk),
        }
        if rival.rule == "fixed":
            return self.list[good]
        if rival.rule == "cost-plus":
            return self.cost[good] * (1 + rival.markup)
        if rival.rule == "nash":
            return self.nash[good]
        if rival.rule == "undercut-and-reset" and answers[rival.rule] < floor:
            return self.list[good]
        return max(min(answers[rival.rule], self.list[good]), floor)

    def means(self, price: list[float], s: dict[str, Any], plain: bool = False) -> list[float]:
        """Mean demand; `plain` at list prices without season and memory."""
        p = self.p
        d = self.p.demand
        worth = [0.0] * len(price)
        if p.reference is not None and not plain:
            for i, (r, x) in enumerate(zip(s["reference"], price, strict=True)):
                worth[i] = p.reference.gain * (r - x) if r > x else -p.reference.loss * (x - r)
        here = [plain or self.here(i // self.P, s["period"]) for i in range(len(price))]
        utility = [(q - x + w) / d.mu for q, x, w in zip(self.quality, price, worth, strict=True)]
        e = [math.exp(u) if present else 0.0 for u, present in zip(utility, here, strict=True)]
        factor = d.visitors
        if not plain:
            annual = 1 + p.season.annual * math.sin(2 * math.pi * s["day"] / 364)
            factor *= p.season.weekly[s["day"] % 7] * annual
            factor *= math.exp(s["shock"])
        return [factor * x / (math.exp(d.outside / d.mu) + sum(e)) for x in e]

    def step(self, choices: list[int], noise: dict[str, Any]) -> list[float]:
        """One period; gives the rewards of the learning sellers.

        Args:
            choices: the learning sellers' levels, good by good.
            noise: uniforms of all goods, walks of rivals, the shock's innovation.
        """
        p = self.p
        s = self.s
        stock = self.p.stock
        own = self.learning * self.P
        assert stock is not None
        base = s["price"] if p.actions == "move" else self.list
        posted = [self.bound(base[i] * p.levels[k], i) for i, k in enumerate(choices)]
        price = [x for x, _ in posted]
        s["rule"] = [code for _, code in posted]
        price += [self.quote(i, noise["walk"][i]) for i in range(own, self.F * self.P)]
        means = self.means(price, s)
        rewards = [0.0] * self.learning
        sold = []
        for i, mean in enumerate(means):
            sold.append(min(counted(noise["arrivals"][i], mean), s["stock"][i]))
            left = s["stock"][i] - sold[i]
            holding = stock.holding * self.cost[i] * left
            earned = ((1 - p.fee) * price[i] - self.cost[i]) * sold[i] - holding
            if s["due"][i] == 1:
                left = float(stock.units[0])
                s["due"][i] = 0
            elif s["due"][i] > 1:
                s["due"][i] -= 1
            elif left < stock.reorder_below:
                s["due"][i] = stock.lead_time
                earned = earned - stock.order_cost
            s["stock"][i] = left
            if i < own:
                rewards[i // self.P] += earned
        self.remember(price, sold, noise["shock"][0])
        return rewards

    def remember(self, price: list[float], sold: list[float], eps: float) -> None:
        """What the next period starts with."""
        p = self.p
        s = self.s
        assert p.reference is not None
        memory = p.reference.memory
        s["before"] = s["price"]
        s["price"] = price
        s["sales"] = sold
        s["reference"] = [
            memory * r + (1 - memory) * x for r, x in zip(s["reference"], price, strict=True)
        ]
        for name, days, latest in (("week", 7, sold), ("month", 28, sold), ("paid", 28, price)):
            s[name] = [old + (new - old) / days for old, new in zip(s[name], latest, strict=True)]
        s["shock"] = p.season.rho * s["shock"] + p.season.sigma * eps
        s["day"] = (s["day"] + 1) % 364
        s["period"] += 1

    def seen(self, firm: int) -> list[float]:
        """What a learning seller observes."""
        p = self.p
        s = self.s
        columns = []
        assert p.stock is not None
        goods = range(firm * self.P, (firm + 1) * self.P)
        for i in goods:
            stock = s["stock"][i]
            columns += [s["price"][i] / self.list[i], stock / p.stock.units[0], float(stock <= 0)]
            columns += [float(s["due"][i] > 0), self.cheapest(s["price"], i) / self.list[i]]
            columns.append(self.cost[i] / self.list[i])
            if any(rival.leaves for rival in p.rivals):
                others = [f for f in range(self.F) if f != firm]
                columns.append(float(any(self.here(f, s["period"]) for f in others)))
            columns.append(s["paid"][i] / self.list[i])
            columns += [s[n][i] / self.list_sales[i] for n in ("sales", "week", "month")]
        for period in (7, 364):
            angle = 2 * math.pi * s["day"] / period
            columns += [math.sin(angle), math.cos(angle)]
        for i in goods:
            columns += self.allowed(i)
        return columns

    def allowed(self, good: int) -> list[float]:
        """Which levels the guard-rails leave alone; where none, the one that they move least."""
        base = self.s["price"][good] if self.p.actions == "move" else self.list[good]
        moved = [abs(self.gated(base * x, good) - base * x) for x in self.p.levels]
        stands = [float(x <= 1e-5 * self.list[good]) for x in moved]
        if any(stands):
            return stands
        return [float(k == moved.index(min(moved))) for k in range(len(moved))]
