"""What the names in an experiment file stand for.

Specs of market and learner, and parameters validated by their own models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import BaseModel

from rl_markets.envs.registry import LEARNERS, MARKETS, find
from rl_markets.envs.spec import AgentSpaces, MarketSpec
from rl_markets.experiment.sections import AlgorithmSection, MarketSection, PolicySection
from rl_markets.experiment.validation import validate
from rl_markets.policies.spec import LearnerParameters, LearnerSpec


@dataclass(frozen=True)
class Resolved:
    """The market and the learner that an experiment names.

    Attributes:
        market: the market's spec.
        learner: the learner's spec.
        market_parameters: the market's parameters, validated by its own model.
        given: policy -> the learner's parameters as the file gives them.
    """

    market: MarketSpec
    learner: LearnerSpec
    market_parameters: BaseModel
    given: Mapping[str, Mapping[str, object]]

    @cached_property
    def groups(self) -> dict[str, int]:
        """Group -> agents in each world."""
        return self.market.groups(self.market_parameters)

    @cached_property
    def spaces(self) -> dict[str, AgentSpaces]:
        """Group -> what its agents observe and do; empty where only the built market tells."""
        told = self.market.spaces
        return {} if told is None else told(self.market_parameters)

    @property
    def discount(self) -> float | None:
        """The discount factor of the market's agents, where it has one."""
        name = self.market.discount
        return None if name is None else float(getattr(self.market_parameters, name))

    @cached_property
    def parameters(self) -> dict[str, LearnerParameters]:
        """Policy -> the learner's parameters, complete; gamma is the market's own unless given.

        Lazily, since `rules` says what is wrong with them policy by policy.
        """
        return {policy: self._completed(dict(given)) for policy, given in self.given.items()}

    def _completed(self, given: dict[str, object]) -> LearnerParameters:
        parameters = validate(self.learner.parameters, given)
        if parameters.gamma is None:
            return parameters.model_copy(update={"gamma": self.discount})
        return parameters


def resolve(
    market: MarketSection, policies: Mapping[str, PolicySection], algorithm: AlgorithmSection
) -> Resolved:
    """Finds the specs, and validates the parameters of the market.

    Args:
        market, policies, algorithm: sections of an experiment.

    Raises:
        LookupError: where there is no market or learner of that name.
        pydantic.ValidationError: where a parameter is wrong.
    """
    spec: MarketSpec = find(MARKETS, market.name)
    given = {
        name: {**algorithm.parameters, **section.parameters} for name, section in policies.items()
    }
    return Resolved(
        market=spec,
        learner=find(LEARNERS, algorithm.name),
        market_parameters=validate(spec.parameters, market.parameters),
        given=given,
    )
