"""The known answer of the points programme: the customer's Markov decision process, and what a policy loses against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from rl_markets.envs.answers import pricing as known
from rl_markets.envs.market import AnswerKey, Assessment, Figure, Line, Metric, Policy
from rl_markets.envs.points.market import Points
from rl_markets.envs.points.parameters import PointsParameters
from rl_markets.envs.statistics import shortfall

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
        self.name = "exact decision process"  # type: ignore[misc]
        one = known.PointsProgramme(
            price=p.prices[0], cost=p.cost, a=p.quality, mu=p.mu, kappa=p.kappa, reward=float(p.reward),
            unit=float(p.unit), expiry=p.expiry, discount=p.gamma, rates=tuple(p.rates),
        )  # fmt: skip
        programmes = [replace(one, price=price) for price in p.prices]
        self.balances = one.balances
        self.transitions = np.concatenate([x.transitions for x in programmes], 1)
        self.earnings = np.concatenate([x.earnings for x in programmes], 1)
        if p.accounting == "accrual":
            self.earnings = self.earnings - p.provision * (self.transitions @ self.balances - self.balances[:, None])

    # -- values ----------------------------------------------------------------------------------------------------------

    def values(self, offers: Choices) -> Array:
        """Discounted money of a customer at each balance, under a policy: `[balances]`."""
        here = np.arange(len(self.balances))
        moves = self.transitions[here, offers]
        return np.linalg.solve(np.eye(len(here)) - self.parameters.gamma * moves, self.earnings[here, offers])

    @cached_property
    def best(self) -> Choices:
        """The optimal offer at each balance, by policy iteration."""
        offers = np.zeros(len(self.balances), dtype=np.int64)
        while True:
            value = self.values(offers)
            ahead = self.earnings + self.parameters.gamma * self.transitions @ value
            now = ahead[np.arange(len(offers)), offers]
            better = ahead.max(1) > now + 1e-9 * (1 + np.abs(value))
            if not better.any():
                return offers
            offers = np.where(better, ahead.argmax(1), offers)

    def worth(self, offers: Choices) -> float:
        """A new customer's value, in money."""
        return float(self.values(offers)[0])

    def shortfall(self, offers: Choices) -> float:
        """What is lost against the optimum, in %."""
        return shortfall(self.worth(offers), self.worth(self.best))

    @torch.no_grad()
    def offers(self, policy: Policy) -> Choices:
        """What a policy offers at each balance."""
        market = Points(self.parameters, worlds=1)
        held = torch.tensor(self.balances.astype(np.int64))[None]
        chosen = policy(market.observe({"outstanding": held})["seller"])[0].numpy()
        return np.asarray(chosen[:, 0] + (len(self.parameters.rates) * chosen[:, 1] if market.joint else 0))

    # -- the contract ----------------------------------------------------------------------------------------------------

    def distance(self, policies: Mapping[str, Policy]) -> float:
        """What the policy loses against the optimum, in %."""
        return self.shortfall(self.offers(policies["seller"]))

    def assess(self, policies: Mapping[str, Policy], untrained: Mapping[str, Policy], seeds: list[int]) -> Assessment:
        """The value of a customer, exactly, beside the best offer that never changes and no points at all."""
        ours = self.offers(policies["seller"])
        tables = {"best constant offer": self._constant, "no points": self._none,
                  "untrained network": self.offers(untrained["seller"])}  # fmt: skip
        value, best = self.worth(ours), self.worth(self.best)
        metrics = [
            Metric("shortfall", "loss against the decision process", self.shortfall(ours), "%", answer=0.0, limit=LIMIT,
                   controls={n: self.shortfall(t) for n, t in tables.items()}, note="exact policy evaluation, no simulation"),
            Metric("value", "discounted value of a new customer", value, "money", answer=best,
                   controls={n: self.worth(t) for n, t in tables.items()}, note=f"{self.parameters.accounting} accounting"),
            Metric("best_response_gain/exact", "best-response gain of the seller, exact", best - value, "money", answer=0.0,
                   note="alone in its market, its best response is the optimum"),
        ]  # fmt: skip
        return Assessment(metrics, self._figures(ours))

    def _flat(self, offer: int) -> Choices:
        return np.full(len(self.balances), offer, dtype=np.int64)

    @cached_property
    def _constant(self) -> Choices:
        """The best offer that never changes."""
        return max((self._flat(i) for i in range(self.earnings.shape[1])), key=self.worth)

    @cached_property
    def _none(self) -> Choices:
        """The lowest rate, at the best of the prices that never changes."""
        rates = len(self.parameters.rates)
        return max((self._flat(i * rates) for i in range(len(self.parameters.prices))), key=self.worth)

    def _figures(self, ours: Choices) -> list[Figure]:
        """Rates (and prices) by balance."""
        p, x, rates = self.parameters, self.balances.tolist(), len(self.parameters.rates)
        levels = 100 * np.array(p.rates)
        lines = [Line("optimal", x, levels[self.best % rates].tolist(), "answer"),
                 Line("learned", x, levels[ours % rates].tolist(), "ours")]  # fmt: skip
        figures = [Figure("Rate by balance", "balance, points", "rate, %", lines)]
        if len(p.prices) > 1:
            prices = np.array(p.prices)
            lines = [Line("optimal", x, prices[self.best // rates].tolist(), "answer"),
                     Line("learned", x, prices[ours // rates].tolist(), "ours")]  # fmt: skip
            figures.append(Figure("Price by balance", "balance, points", "price", lines))
        values = [Line("optimal", x, self.values(self.best).tolist(), "answer"),
                  Line("learned", x, self.values(ours).tolist(), "ours"),
                  Line("best constant offer", x, self.values(self._constant).tolist(), "control")]  # fmt: skip
        return [*figures, Figure("Value of a customer by balance", "balance, points", "money", values)]
