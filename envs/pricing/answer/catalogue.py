"""The known answer of a static logit market: the joint optimum or the Bertrand-Nash equilibrium.

Beside it stands what each seller could still gain.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.answer_key import AnswerKey, Assessment, Line, Metric, Plot
from rl_markets.envs.groups import JoinedGroups
from rl_markets.envs.market import Market, Policy, PolicyFunction
from rl_markets.envs.numerics.statistics import optimality_gap
from rl_markets.envs.pricing import solution as known
from rl_markets.envs.pricing.answer.reactive import LastPrices, ReactiveAnswer, is_small
from rl_markets.envs.pricing.logit import logit_of
from rl_markets.envs.pricing.market import Pricing
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.errors import ConvergenceError

Array = NDArray[np.float64]

WORLDS = 64
BURN_IN = 200
PERIODS = 200
"""Learned sellers answer each other: they play from so many starts.

Metrics are means over the periods after the burn-in.
"""
LIMIT = 2.0
"""What the certificate lets a catalogue lose against its joint optimum, in %.

Likewise what a seller may gain by its best response.
"""
PRICE_LIMIT = 5.0
"""How far prices may be from the equilibrium's, in %: where sellers price as one, a seller's gain
by itself says little.
"""
LOOKED_AT = 1000
"""Rows of posted prices, drawn from all, at which best responses are looked for."""


class CatalogueAnswer(AnswerKey):
    """Closed forms of the logit (Li and Huh 2011), and the grid's own optimum and equilibrium.

    Best responses are exact. One seller: its joint optimum. Several: the equilibrium of one period,
    the monopoly, and between them Calvano's Delta.
    """

    def __init__(self, parameters: PricingParameters) -> None:
        p = self.parameters = parameters
        self.logit = logit_of(p)
        self.grid = known.GridMarket(self.logit, known.level_grid(p.goods(p.list_price), p.levels))
        self.scale = p.demand.visitors * (1 - p.fee)
        self.sellers = JoinedGroups(p.sellers)
        self.complete = p.firms == 1 or is_small(p)
        self.name = "joint optimum" if p.firms == 1 else "Bertrand-Nash equilibrium"

    # -- what prices are worth, in money a period --------------------------------------------------

    def profits(self, prices: Array) -> Array:
        """Each seller's mean profit of a period at prices `[..., goods]`: `[..., sellers]`."""
        return self.scale * self.logit.profits(prices)

    @cached_property
    def nash(self) -> Array:
        """Equilibrium prices on the levels where there is one, else in the continuum."""
        try:
            return self.grid.prices(self.grid.nash())
        except ConvergenceError:
            return self.logit.nash()

    @cached_property
    def best(self) -> Array:
        """The prices that the levels' joint optimum charges, `[goods]`."""
        return self.grid.prices(self.grid.joint_optimum())

    def policies(self, market: Market) -> dict[str, PolicyFunction] | None:
        """Each seller's constant levels: the joint optimum's, or the equilibrium's."""
        p = self.parameters
        try:
            places = self.grid.joint_optimum() if p.firms == 1 else self.grid.nash()
        except ConvergenceError:
            return None
        levels = torch.from_numpy(np.asarray(places)).reshape(1, p.firms, p.products)
        return {group: _constant(own[0]) for group, own in self.sellers.split(levels).items()}

    def against(self, fixed: Mapping[str, Policy]) -> AnswerKey | None:
        """The best response of the one seller that learns, where the last prices are few."""
        p = self.parameters
        learning = [count for group, count in p.sellers.items() if group not in fixed]
        return ReactiveAnswer(p, fixed) if learning == [1] and is_small(p) else None

    def tolerance(self, group: str) -> float:
        """The limit of what the discounted profit of an agent may lack, in money."""
        profits = self.profits(self.best if self.parameters.firms == 1 else self.nash)
        return LIMIT / 100 * float(profits.mean()) / (1 - self.parameters.gamma)

    # -- play --------------------------------------------------------------------------------------

    @torch.no_grad()
    def play(self, policies: Mapping[str, PolicyFunction], seed: int = 0) -> Array:
        """Prices `[periods, worlds, goods]` that the policies post after the burn-in.

        Worlds start at random prices.
        """
        p = self.parameters.model_copy(update={"exploring_starts": 1.0})
        market = Pricing(p, worlds=WORLDS, stagger=False)
        market.truncate_after(None)
        observations = market.reset(seed)
        posted = []
        for t in range(BURN_IN + PERIODS):
            actions = {group: policies[group](observations[group]) for group in p.sellers}
            observations = market.step(actions).observations
            if t >= BURN_IN:
                posted.append(market.state["price"].double().numpy())
        return np.stack(posted)

    def optimality_gap(self, prices: Array) -> float:
        """What prices lose against the joint optimum on the levels, over all sellers, in %."""
        profit = float(self.profits(prices).sum(-1).mean())
        best = float(self.profits(self.best).sum())
        return optimality_gap(profit, best)

    def away(self, prices: Array) -> float:
        """Mean relative distance of prices from the equilibrium's, in %."""
        return 100 * float(np.abs(prices / self.nash - 1).mean())

    def gains(self, prices: Array) -> Array:
        """What each seller's best levels would gain, in % of its profit: `[sellers]`.

        Against what the others post, not against how they would answer.
        """
        rows = np.round(prices.reshape(-1, prices.shape[-1]), 9)
        if len(rows) > LOOKED_AT:
            rows = rows[np.random.default_rng(0).choice(len(rows), LOOKED_AT, replace=False)]
        # Sellers at rest post the same prices again and again: each row is looked at once.
        distinct, counts = np.unique(rows, axis=0, return_counts=True)
        gains = []
        for row in distinct:
            profile = np.abs(self.grid.levels - row[:, None]).argmin(1)
            profit = np.maximum(self.profits(row), 1e-12)
            gains.append(self.scale * self.grid.regrets(profile) / profit)
        return 100 * np.average(gains, axis=0, weights=counts)

    # -- the contract ------------------------------------------------------------------------------

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        """How far the policies are from the answer, in %.

        One seller: its loss against the optimum. Several: the distance of their prices from the
        equilibrium's.
        """
        prices = self.play(policies)
        return self.optimality_gap(prices) if self.parameters.firms == 1 else self.away(prices)

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        """Profits, distances, Delta, and what each seller could gain."""
        ours = self.play(policies, seeds[0])
        control = self.play(untrained, seeds[0])
        controls = {
            "one level for all products": self._one_level,
            "list prices": self._at_list,
        }
        alone = self.parameters.firms == 1
        if alone:
            controls["every product for itself"] = self._selfish
        controls["untrained network"] = control
        metrics = [self._shortfall(ours, controls)] if alone else self._rivalry(ours, controls)
        profit = Metric(
            "profit",
            "profit of a period, all sellers",
            float(self.profits(ours).sum(-1).mean()),
            "money",
            answer=float(self.profits(self.best if alone else self.nash).sum()),
        )
        grid_loss = Metric(
            "grid_loss",
            "loss by the levels alone",
            100 * self.grid.grid_loss(),
            "%",
            note="the joint optimum on these levels against that of all prices",
        )
        metrics += [*self._best_response_gains(policies, ours, controls), profit, grid_loss]
        return Assessment(metrics, [self._figure(ours)])

    def _best_response_gains(
        self, policies: Mapping[str, PolicyFunction], ours: Array, controls: dict[str, Array]
    ) -> list[Metric]:
        """Against the prices that the others post, and against the policies that post them."""
        gains = self.gains(ours)
        metrics = [
            Metric(
                "best_response_gain/exact",
                "largest best-response gain of a seller",
                float(gains.max()),
                "% of its profit",
                answer=0.0,
                limit=LIMIT,
                controls={n: float(self.gains(prices).max()) for n, prices in controls.items()},
                note="the best levels against the prices that the others post",
                who=self._seller(gains),
            )
        ]
        if self.parameters.firms == 1 or not self.complete:
            return metrics
        last = LastPrices(self.parameters)
        posted = last.posted(policies)
        reacting = np.array([last.gain(posted, i) for i in range(self.parameters.firms)])
        metrics.append(
            Metric(
                "best_response_gain/reacting",
                "the same, the others reacting",
                float(reacting.max()),
                "% of its profit",
                answer=0.0,
                limit=LIMIT,
                note="decision process over the last prices of all: the best response to how the "
                "others' policies answer, from the list prices or the mean over all last prices",
                who=self._seller(reacting),
            )
        )
        return metrics

    def _seller(self, gains: Array) -> str:
        """Which seller has the largest gain; nothing where there is only one."""
        if len(gains) == 1:
            return ""
        group, number = self.sellers.agent(int(gains.argmax()))
        return group if self.sellers.counts[group] == 1 else f"{group}, seller {number}"

    def _shortfall(self, ours: Array, controls: dict[str, Array]) -> Metric:
        return Metric(
            "shortfall",
            "loss against the joint optimum",
            self.optimality_gap(ours),
            "%",
            answer=0.0,
            limit=LIMIT,
            controls={name: self.optimality_gap(prices) for name, prices in controls.items()},
            note="mean demand at the prices posted; "
            "every product for itself is what rewards by product lead to",
        )

    def _rivalry(self, ours: Array, controls: dict[str, Array]) -> list[Metric]:
        """Distance from the equilibrium, and Delta: 0 there, 1 where sellers price as one."""
        price_error = Metric(
            "price_error",
            "distance of prices from the equilibrium's",
            self.away(ours),
            "%",
            answer=0.0,
            limit=PRICE_LIMIT,
            controls={name: self.away(prices) for name, prices in controls.items()},
        )
        delta = Metric(
            "delta",
            "collusion index Delta",
            self._delta(ours),
            answer=self._delta(self.nash),
            controls={name: self._delta(prices) for name, prices in controls.items()},
            note="0 at the equilibrium's profit, 1 at the monopoly's (Calvano et al. 2020)",
        )
        return [price_error, delta]

    def _delta(self, prices: Array) -> float:
        """Calvano's Delta of the sellers' mean profit at prices `[..., goods]`."""
        profit = float(self.profits(prices).mean())
        return float(self.logit.delta(profit / self.scale))

    @cached_property
    def _one_level(self) -> Array:
        """The best of the levels that all products share."""
        rows = self.grid.levels.T
        return np.asarray(rows[self.profits(rows).sum(-1).argmax()])

    @property
    def _at_list(self) -> Array:
        return np.array(self.parameters.goods(self.parameters.list_price))

    @cached_property
    def _selfish(self) -> Array:
        """The prices of products that each look to their own profit, on the levels."""
        logit = self.logit
        by_product = known.LogitMarket(logit.a, logit.cost, logit.mu, None, logit.outside)
        try:
            grid = known.GridMarket(by_product, self.grid.levels)
            return grid.prices(grid.nash())
        except ConvergenceError:
            return by_product.nash()

    def _figure(self, ours: Array) -> Plot:
        """Mean posted price of each good, beside equilibrium and joint optimum."""
        goods = list(map(float, range(ours.shape[-1])))
        lines = [
            Line("joint optimum", goods, self.logit.monopoly().tolist(), "answer"),
            Line("learned", goods, ours.mean((0, 1)).tolist(), "ours"),
        ]
        if self.parameters.firms > 1:
            lines.append(Line("equilibrium", goods, self.logit.nash().tolist(), "control"))
        elif self.parameters.products > 1:
            lines.append(Line("every product for itself", goods, self._selfish.tolist(), "control"))
        return Plot("Mean price of each good", "good", "price", lines)


def _constant(levels: Tensor) -> PolicyFunction:
    """These levels `[sellers, products]`, whatever is observed."""
    return lambda observations: levels.expand(*observations.shape[:-2], *levels.shape)
