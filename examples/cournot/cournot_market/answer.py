"""The judge of the market: how far quantities are from the Nash equilibrium. The market never
imports it."""

from collections.abc import Mapping
from functools import partial

import torch

from rl_markets.envs.answer_key import AnswerKey, Assessment, Metric
from rl_markets.envs.market import Market, PolicyFunction

from .market import Cournot
from .spec import CournotParameters


class NashQuantities(AnswerKey):
    """How far the quantities are from Nash's, over the interval of demand."""

    name = "Nash equilibrium"

    def __init__(self, parameters: CournotParameters) -> None:
        self.market = Cournot(parameters, worlds=1)
        low, high = parameters.demand
        self.demand = torch.linspace(low - 10, high - 10, 21)

    def _error(self, group: str, policy: PolicyFunction) -> float:
        """Mean error in % of the Nash quantity."""
        seen = self.demand.view(-1, 1, 1).expand(-1, self.market.groups[group].count, 1)
        nash = self.market.nash(group, seen)
        return 100 * float(((policy(seen) - nash).abs() / nash).mean())

    def policies(self, market: Market) -> Mapping[str, PolicyFunction]:
        """The answer itself: it is played in agents' places, and mutated to test this judge."""
        return {group: partial(self.market.nash, group) for group in market.groups}

    def distance(self, policies: Mapping[str, PolicyFunction]) -> float:
        return max(self._error(group, policy) for group, policy in policies.items())

    def assess(
        self,
        policies: Mapping[str, PolicyFunction],
        untrained: Mapping[str, PolicyFunction],
        seeds: list[int],
    ) -> Assessment:
        metrics = []
        for group, policy in policies.items():
            controls = {"untrained": self._error(group, untrained[group])}
            label = f"error of the quantities, {group}"
            metrics.append(
                Metric(
                    f"quantity_error/{group}",
                    label,
                    self._error(group, policy),
                    "%",
                    limit=3.0,
                    controls=controls,
                )
            )
        return Assessment(metrics)


def answer_key(parameters: CournotParameters) -> AnswerKey:
    """The known answer of these parameters; `None` where there is none."""
    return NashQuantities(parameters)
