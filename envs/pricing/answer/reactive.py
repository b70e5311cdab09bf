"""Sellers as they play: what one could gain by its best response to how the others react.

Everybody posts at once on what was posted last, so that the last levels of all goods are the state.
A rule or a policy that answers prices is met as it is; nobody is taken to play an equilibrium.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.answer_key import (
    AnswerKey,
    Assessment,
    Line,
    Metric,
    Plot,
    loss_of_decisions,
)
from rl_markets.envs.groups import JoinedGroups
from rl_markets.envs.market import Market, Policy, PolicyFunction
from rl_markets.envs.numerics.decision_process import DecisionProcess
from rl_markets.envs.numerics.statistics import optimality_gap
from rl_markets.envs.pricing.logit import logit_of
from rl_markets.envs.pricing.market import Pricing
from rl_markets.envs.pricing.parameters import PricingParameters

Array = NDArray[np.float64]
Choices = NDArray[np.int64]

MOST_ENTRIES = 20_000_000
"""Of a seller's transitions, 160 MB."""
LIMIT = 2.0
"""What the certificate lets a seller lose against its best response, in % of its profit."""
SHOWN = 40
"""Periods that the picture shows."""


def is_small(p: PricingParameters) -> bool:
    """Whether the last levels of all goods are few enough to be states."""
    levels = float(len(p.levels))
    goods = p.firms * p.products
    return levels ** (2 * goods + p.products) <= MOST_ENTRIES


class LastPrices:
    """A market in which every combination of last prices is a state, `[states, goods]`."""

    def __init__(self, parameters: PricingParameters) -> None:
        p = self.parameters = parameters
        goods = p.firms * p.products
        self.levels = len(p.levels)
        self.shape = (self.levels,) * goods
        self.places: Choices = np.indices(self.shape).reshape(goods, -1).T
        grid = np.multiply.outer(np.asarray(p.goods(p.list_price)), np.asarray(p.levels))
        self.prices: Array = np.take_along_axis(grid, self.places.T, 1).T
        self.grid: Array = grid
        scale = p.demand.visitors * (1 - p.fee)
        self.profits: Array = scale * logit_of(p).profits(self.prices)
        self.sellers = JoinedGroups(p.sellers)

    @cached_property
    def start(self) -> int:
        """The state nearest to the list prices, at which episodes start."""
        list_price = np.asarray(self.parameters.goods(self.parameters.list_price))
        place = np.abs(self.grid - list_price[:, None]).argmin(1)
        return int(np.ravel_multi_index(tuple(place), self.shape))

    @torch.no_grad()
    def posted(self, policies: Mapping[str, PolicyFunction]) -> Choices:
        """The level of each good that is posted in each state, `[states, goods]`."""
        market = Pricing(self.parameters, worlds=len(self.places), stagger=False)
        market.reset(0)
        market.state["price"] = torch.tensor(self.prices, dtype=market.state["price"].dtype)
        observations = market.observe(market.state)
        actions = {group: policies[group](observations[group]) for group in self.sellers.counts}
        return np.asarray(self.sellers.join(actions).flatten(1).numpy(), dtype=np.int64)

    def own(self, seller: int) -> slice:
        """A seller's goods."""
        products = self.parameters.products
        return slice(seller * products, (seller + 1) * products)

    def combinations(self, posted: Choices, seller: int) -> Choices:
        """What a seller posts in each state: the number of its combination, `[states]`."""
        own = posted[:, self.own(seller)]
        levels = (self.levels,) * self.parameters.products
        return np.asarray(np.ravel_multi_index(tuple(own.T), levels))

    def process(self, posted: Choices, seller: int) -> DecisionProcess:
        """One seller's decisions while the others post on; its actions are its `combinations`."""
        own = self.own(seller)
        choices = np.indices((self.levels,) * self.parameters.products)
        combinations = choices.reshape(self.parameters.products, -1).T
        states = len(self.places)
        following = np.repeat(posted[:, None], len(combinations), 1)
        following[..., own] = combinations
        nxt = np.ravel_multi_index(tuple(np.moveaxis(following, -1, 0)), self.shape)
        earnings = self.profits[nxt, seller]
        transitions = np.zeros((states, len(combinations), states))
        np.put_along_axis(transitions, nxt[..., None], 1.0, 2)
        return DecisionProcess(earnings, transitions, self.parameters.gamma)

    def gain(self, posted: Choices, seller: int) -> float:
        """What a seller's best response to the others' reactions gains, in % of its profit.

        The larger of the gain from the list prices and the mean over all last prices.
        """
        process = self.process(posted, seller)
        value = process.values(self.combinations(posted, seller))
        best = process.values(process.best())
        return max(
            _percent(best[self.start], value[self.start]), _percent(best.mean(), value.mean())
        )


def _percent(best: float, value: float) -> float:
    return 100 * (best - value) / max(abs(value), 1e-12)


class ReactiveAnswer(AnswerKey):
    """One seller that learns, against others that follow rules or frozen policies: its best
    response.

    Args:
        parameters: of the market.
        fixed: group -> the policy of those who do not learn.
    """

    name = "best response to the others' policies"
    complete = True

    def __init__(self, parameters: PricingParameters, fixed: Mapping[str, Policy]) -> None:
        self.parameters = parameters
        self.fixed = dict(fixed)
        self.last = LastPrices(parameters)
        (self.group,) = (group for group in parameters.sellers if group not in fixed)
        self.seller = self.last.sellers.start(self.group)
        posted = self.last.posted({**self.fixed, self.group: self._highest})
        self.process = self.last.process(posted, self.seller)

    def _highest(self, observations: Tensor) -> Tensor:
        """The highest level, whatever is observed: it stands for the seller that is looked for."""
        shape = (*observations.shape[:-1], self.parameters.products)
        return torch.full(shape, len(self.parameters.levels) - 1)

    @cached_property
    def best(self) -> Choices:
        """The best combination of levels at each state."""
        return self.process.best()

    def choices(self, policy: PolicyFunction) -> Choices:
        """What a policy of the learning seller posts at each state, as a combination."""
        posted = self.last.posted({**self.fixed, self.group: policy})
        return self.last.combinations(posted, self.seller)

    def worth(self, choices: Choices) -> float:
        """Discounted mean profit, the mean over all last prices."""
        return float(self.process.values(choices).mean())

    def tolerance(self, group: str) -> float:
        """The limit of what the discounted profit may lack, in money."""
        return LIMIT / 100 * abs(self.worth(self.best))

    def policies(self, market: Market) -> dict[str, PolicyFunction] | None:
        """The best response where two sellers of one product see all that matters, else None."""
        if self.parameters.products > 1 or self.parameters.firms != 2:
            return None
        grid = self.last.grid
        list_price = self.parameters.goods(self.parameters.list_price)[self.seller]

        def act(observations: Tensor) -> Tensor:
            seen = list_price * observations.double().cpu().numpy()
            own = np.abs(seen[..., :1] - grid[self.seller]).argmin(-1)
            theirs = np.abs(seen[..., 1:2] - grid[1 - self.seller]).argmin(-1)
            place = (own, theirs) if self.seller == 0 else (theirs, own)
            state = np.ravel_multi_index(place, self.last.shape)
            return torch.from_numpy(self.best[state])[..., None]

        return self.fixed | {self.group: act}

    # -- the contract ------------------------------------------------------------------------------

    def against(self, fixed: Mapping[str, Policy]) -> AnswerKey | None:
        """Itself: it is made for those who do not learn."""
        return self if set(fixed) == set(self.fixed) else None

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        """What the learned policy loses against the best response, in %."""
        value = self.worth(self.choices(policies[self.group]))
        return optimality_gap(value, self.worth(self.best))

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        """Loss against the best response, and in terms of what deciding can earn."""
        best = self.worth(self.best)
        ours = self.choices(policies[self.group])
        actions = range(self.process.earnings.shape[1])
        flat = [np.full(len(ours), action, dtype=np.int64) for action in actions]
        simple = max(map(self.worth, flat))
        controls = {
            "best prices that never change": simple,
            "untrained network": self.worth(self.choices(untrained[self.group])),
        }
        value = self.worth(ours)
        metrics = [
            Metric(
                "shortfall",
                "loss against the best response to the others",
                optimality_gap(value, best),
                "%",
                answer=0.0,
                limit=LIMIT,
                controls={n: optimality_gap(v, best) for n, v in controls.items()},
                note="exact: the last prices of all are the state; mean over all of them",
            ),
            *loss_of_decisions(
                value, best, simple, controls, of="answering the others", above="prices"
            ),
            Metric("value", "discounted profit", value, "money", answer=best, controls=controls),
        ]
        return Assessment(metrics, [self._plot(ours)])

    def _plot(self, ours: Choices) -> Plot:
        """Prices of the first product from the list prices, learned and optimal."""
        good = self.seller * self.parameters.products
        x = list(map(float, range(SHOWN)))
        lines = []
        for name, choices, style in (("optimal", self.best, "answer"), ("learned", ours, "ours")):
            state = self.last.start
            prices = []
            for _ in x:
                state = int(self.process.transitions[state, choices[state]].argmax())
                prices.append(float(self.last.prices[state, good]))
            lines.append(Line(name, x, prices, style))
        return Plot("Price against the others", "period", "price", lines)
