"""The known answer of the points programme: the customer's Markov decision process.

What a policy is worth in it, and loses against its optimum, is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
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
from rl_markets.envs.market import Market, PolicyFunction
from rl_markets.envs.numerics.decision_process import DecisionProcess
from rl_markets.envs.numerics.statistics import optimality_gap
from rl_markets.envs.points.market import Points
from rl_markets.envs.points.parameters import PointsParameters
from rl_markets.envs.points.solution import PointsProgramme

Array = NDArray[np.float64]
Choices = NDArray[np.int64]

MOST_ENTRIES = 50_000_000
"""Of the transitions, 400 MB."""
LIMIT = 2.0
"""What the certificate lets a policy lose against the optimum, in %."""


class PointsAnswer(AnswerKey):
    """Values of every policy of rates (and prices) by balance, exactly, by one linear system.

    Offers are numbered price by price: offer = price index * rates + rate index.
    """

    def __init__(self, parameters: PointsParameters) -> None:
        p = self.parameters = parameters
        self.name = "exact decision process"
        self.complete = True
        cheapest = PointsProgramme(
            price=p.prices[0],
            cost=p.cost,
            a=p.quality,
            mu=p.mu,
            kappa=p.kappa,
            reward=float(p.reward),
            unit=float(p.unit),
            expiry=p.expiry,
            discount=p.gamma,
            rates=tuple(p.rates),
        )
        programmes = [replace(cheapest, price=price) for price in p.prices]
        self.balances = cheapest.balances
        transitions = np.concatenate([programme.transitions for programme in programmes], 1)
        earnings = np.concatenate([programme.earnings for programme in programmes], 1)
        if p.accounting == "accrual":
            # As in the market: less the provision for what balances grow by, on average.
            growth = transitions @ self.balances - self.balances[:, None]
            earnings = earnings - p.provision * growth
        self.process = DecisionProcess(earnings, transitions, p.gamma)

    # -- values ------------------------------------------------------------------------------------

    @cached_property
    def best(self) -> Choices:
        """The optimal offer at each balance."""
        return self.process.best()

    def worth(self, offers: Choices) -> float:
        """A new customer's value, in money."""
        return float(self.process.values(offers)[0])

    def optimality_gap(self, offers: Choices) -> float:
        """What is lost against the optimum, in %."""
        return optimality_gap(self.worth(offers), self.worth(self.best))

    @torch.no_grad()
    def offers(self, policy: PolicyFunction) -> Choices:
        """What a policy offers at each balance to the customer who fares worst for the seller."""
        return max(self.each_offers(policy), key=self.optimality_gap)

    @torch.no_grad()
    def each_offers(self, policy: PolicyFunction) -> Choices:
        """What a policy offers each customer at each balance, `[customers, balances]`; a row where
        all are offered the same."""
        customers = self.parameters.customers
        market = Points(self.parameters, worlds=len(self.balances))
        held = torch.tensor(self.balances.astype(np.int64))[:, None].expand(-1, customers)
        actions = policy(market.observe({"outstanding": held})["seller"]).numpy()
        price = actions[..., 1] if market.joint else 0
        return np.unique((actions[..., 0] + len(self.parameters.rates) * price).T, axis=0)

    def policies(self, market: Market) -> dict[str, PolicyFunction]:
        """The optimal offer at the balance that is observed."""
        rates = len(self.parameters.rates)
        several = len(self.parameters.prices) > 1

        def act(observations: Tensor) -> Tensor:
            share = observations[..., 0].double().cpu().numpy()
            place = np.rint(share * (len(self.balances) - 1)).astype(np.int64)
            offer = torch.from_numpy(self.best[place])
            branches = [offer % rates, offer // rates] if several else [offer]
            return torch.stack(branches, -1)

        return {"seller": act}

    def tolerance(self, group: str) -> float:
        """The limit of what a new customer's value may lack, in money."""
        return LIMIT / 100 * abs(self.worth(self.best))

    # -- the contract ------------------------------------------------------------------------------

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        """What the policy loses against the optimum, in %."""
        return self.optimality_gap(self.offers(policies["seller"]))

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        """The value of a customer, exactly.

        Beside it stand the best offer that never changes, and no points at all.
        """
        ours = self.offers(policies["seller"])
        controls = {
            "best constant offer": self._constant,
            "no points": self._none,
            "untrained network": self.offers(untrained["seller"]),
        }
        return Assessment(self._metrics(ours, controls), self._plots(ours))

    def _metrics(self, ours: Choices, controls: dict[str, Choices]) -> list[Metric]:
        value = self.worth(ours)
        best = self.worth(self.best)
        worth_of = {name: self.worth(offers) for name, offers in controls.items()}
        shortfall = Metric(
            "shortfall",
            "loss against the decision process",
            self.optimality_gap(ours),
            "%",
            answer=0.0,
            limit=LIMIT,
            controls={name: self.optimality_gap(offers) for name, offers in controls.items()},
            note="exact policy evaluation, no simulation",
        )
        worth = Metric(
            "value",
            "discounted value of a new customer",
            value,
            "money",
            answer=best,
            controls=worth_of,
            note=f"{self.parameters.accounting} accounting",
        )
        gain = Metric(
            "best_response_gain/exact",
            "best-response gain of the seller, exact",
            best - value,
            "money",
            answer=0.0,
            note="alone in its market, its best response is the optimum",
        )
        return [
            shortfall,
            *loss_of_decisions(
                value,
                best,
                self.worth(self._constant),
                worth_of,
                of="looking at balances",
                above="offer",
            ),
            worth,
            gain,
        ]

    def _flat(self, offer: int) -> Choices:
        """One offer at every balance."""
        return np.full(len(self.balances), offer, dtype=np.int64)

    @cached_property
    def _constant(self) -> Choices:
        """The best offer that never changes."""
        offers = range(self.process.earnings.shape[1])
        return max((self._flat(offer) for offer in offers), key=self.worth)

    @cached_property
    def _none(self) -> Choices:
        """The lowest rate, at the best of the prices that never changes."""
        p = self.parameters
        offers = [price * len(p.rates) for price in range(len(p.prices))]
        return max((self._flat(offer) for offer in offers), key=self.worth)

    def _plots(self, ours: Choices) -> list[Plot]:
        """Rates (and prices) by balance, and what a customer is worth."""
        rate = 100 * np.array(self.parameters.rates)
        price = np.array(self.parameters.prices)
        shown = {"optimal": (self.best, "answer"), "learned": (ours, "ours")}
        plots = [
            self._plot("Rate by balance", "rate, %", lambda offers: rate[offers % len(rate)], shown)
        ]
        if len(price) > 1:
            prices = self._plot(
                "Price by balance", "price", lambda offers: price[offers // len(rate)], shown
            )
            plots.append(prices)
        shown["best constant offer"] = (self._constant, "control")
        title = "Value of a customer by balance"
        return [*plots, self._plot(title, "money", self.process.values, shown)]

    def _plot(
        self,
        title: str,
        label: str,
        of: Callable[[Choices], Array],
        shown: dict[str, tuple[Choices, str]],
    ) -> Plot:
        """A function `of` offers by balance, for the offers of each name with its line's style."""
        x = self.balances.tolist()
        lines = [
            Line(name, x, of(offers).tolist(), style) for name, (offers, style) in shown.items()
        ]
        return Plot(title, "balance, points", label, lines)


def answer_key(parameters: PointsParameters) -> AnswerKey | None:
    """The Markov decision process of a customer, solved exactly.

    None where it has too many balances.
    """
    p = parameters
    entries = (p.reward // p.unit + 1) ** 2 * len(p.rates) * len(p.prices)
    return PointsAnswer(p) if entries <= MOST_ENTRIES else None
