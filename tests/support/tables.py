"""A market of three stalls, and a learner without gradients: tables, closed-form updates."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from rl_markets.envs import registry
from rl_markets.envs.market import AgentGroup, State, TensorMarket, Transition
from rl_markets.envs.spec import MarketSpec
from rl_markets.policies.learner import RolloutLearner
from rl_markets.policies.module import ACTIONS, MarketModule
from rl_markets.policies.rollout import REWARDS, Fragment
from rl_markets.policies.spec import LearnerParameters, LearnerSpec

CHOICES = "choices"
WORTH = (0.2, 0.5, 0.3)
"""What each stall pays, whoever comes."""


class StallsParameters(BaseModel):
    """So many customers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    customers: int = Field(3, ge=1)


class Stalls(TensorMarket):
    """Customers choose among three stalls that pay what they pay; days do not differ."""

    def __init__(self, parameters: StallsParameters, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(worlds=worlds, episode_length=8, device=device)
        observation = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.count = parameters.customers
        self.groups = {"customers": AgentGroup(self.count, observation, gym.spaces.Discrete(3))}
        self.worth = torch.tensor(WORTH, device=self.device)

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        return {"day": torch.zeros((worlds, 1), device=self.device)}

    def observe(self, state: State) -> dict[str, Tensor]:
        return {"customers": state["day"].unsqueeze(1).expand(-1, self.count, 1).contiguous()}

    def draw_noise(self, generator: torch.Generator) -> State:
        return {}

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        return Transition(
            {"day": state["day"] + 1}, {"customers": self.worth[actions["customers"]]}
        )


class HedgeParameters(LearnerParameters):
    """The step size, and nothing that a gradient would need."""

    eta: float = Field(0.5, gt=0, description="step size")


class HedgeModule(MarketModule[HedgeParameters]):
    """Draws from the table."""

    def explore(self, observations: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        probabilities = self.actor.probabilities(observations)
        assert probabilities is not None
        rows = torch.multinomial(probabilities.flatten(0, -2), 1, generator=generator)
        choices = rows.view(probabilities.shape[:-1])
        return {ACTIONS: choices, CHOICES: choices}


class HedgeLearner(RolloutLearner[HedgeParameters]):
    """w_a <- w_a exp(eta r_a), r_a the mean reward of choice a: no optimizer, and no metrics."""

    def learn(self, fragments: dict[str, Fragment]) -> None:
        for policy, fragment in fragments.items():
            weights = self.networks(policy).actor.weights
            rewards = fragment.rows(fragment.columns[REWARDS])
            choices = fragment.rows(fragment.columns[CHOICES])
            for choice in range(weights.shape[-1]):
                chosen = (choices == choice).to(rewards.dtype)
                mean = (rewards * chosen).sum(0) / chosen.sum(0).clamp_min(1)
                weights[:, choice] *= torch.exp(self.parameters(policy).eta * mean)


MARKET = MarketSpec(
    name="stalls",
    summary="three stalls",
    parameters=StallsParameters,
    market="tests.support.tables:Stalls",
    groups=lambda parameters: {"customers": parameters.customers},
)
LEARNER = LearnerSpec(
    name="hedge",
    summary="multiplicative weights",
    parameters=HedgeParameters,
    learner="tests.support.tables:HedgeLearner",
    module="tests.support.tables:HedgeModule",
    metrics={},
    actions=("discrete",),
    actor="table",
)


def offer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are found by name, as those of an installed package are."""
    offered = {registry.MARKETS: MARKET, registry.LEARNERS: LEARNER}
    entries = {
        group: [SimpleNamespace(name=spec.name, load=lambda spec=spec: spec)]
        for group, spec in offered.items()
    }
    monkeypatch.setattr(registry, "entry_points", lambda group: entries[group])
