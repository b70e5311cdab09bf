"""What runners are told of an experiment.

The market, who follows which policy, and what learners want of each step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rl_markets.envs.market import Market, Policy

MarketBuilder = Callable[[str, int | None], Market]
"""Builds a market from (device, worlds or None for the experiment's own number)."""

SAMPLING = "sampling"
"""Where RLlib's `env_config` holds the `SamplingConfig`."""


@dataclass(frozen=True)
class SamplingConfig:
    """How to sample; travels to runners on other machines, pickled.

    Attributes:
        build: builds the market.
        fixed: market -> group -> the policy of groups that do not learn.
        policies: learned policy -> its groups.
        separate: learned policies with weights for each agent.
        central: learned policies whose critics see the market's global state.
        states_every: steps between the states that the learner wants, 0 for none.
        step_seconds: what a market's step may take.
    """

    build: MarketBuilder
    fixed: Callable[[Market], Mapping[str, Policy]]
    policies: Mapping[str, tuple[str, ...]]
    separate: frozenset[str] = field(default_factory=frozenset)
    central: frozenset[str] = field(default_factory=frozenset)
    states_every: int = 0
    step_seconds: float = 5.0
