"""Cournot competition: every firm chooses a quantity, the price is what the market bears. Known answer: Nash."""

from collections.abc import Mapping

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rl_markets.envs.market import AgentGroup, AnswerKey, Assessment, Metric, Policy, State, TensorMarket, Transition

from .spec import CournotParameters


class Cournot(TensorMarket):
    """Observation `[1]`: today's demand intercept less 10. Action `[1]`: quantity, 0 to 5. Reward: the day's profit."""

    def __init__(self, parameters: CournotParameters, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(worlds=worlds, episode_length=parameters.episode_length, device=device)
        self.parameters = parameters
        self.cost = {"incumbents": parameters.incumbent_cost, "entrants": parameters.entrant_cost}
        seen, quantity = gym.spaces.Box(-np.inf, np.inf, (1,)), gym.spaces.Box(0.0, 5.0, (1,))
        counts = {"incumbents": parameters.incumbents, "entrants": parameters.entrants}
        self.groups = {group: AgentGroup(count, seen, quantity) for group, count in counts.items()}

    def _demand(self, worlds: int, generator: torch.Generator) -> Tensor:
        low, high = self.parameters.demand
        return low + (high - low) * torch.rand((worlds, 1), generator=generator, device=self.device)

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        return {"demand": self._demand(worlds, generator)}

    def draw_noise(self, generator: torch.Generator) -> State:
        return {"tomorrow": self._demand(self.worlds, generator)}

    def observe(self, state: State) -> dict[str, Tensor]:
        return {g: (state["demand"] - 10).unsqueeze(1).expand(-1, a.count, 1) for g, a in self.groups.items()}

    def observe_globally(self, state: State) -> Tensor:
        return state["demand"] - 10

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        quantities = {group: chosen[..., 0] for group, chosen in actions.items()}
        price = state["demand"] - torch.cat(list(quantities.values()), 1).sum(1, keepdim=True)
        profit = {group: (price - self.cost[group]) * q for group, q in quantities.items()}
        return Transition({"demand": noise["tomorrow"]}, profit)

    def nash(self, group: str, observations: Tensor) -> Tensor:
        """q_i = (a + sum_j c_j - (n + 1) c_i) / (n + 1): each firm's best reply to the others' same rule."""
        n = sum(agents.count for agents in self.groups.values())
        costs = sum(agents.count * self.cost[g] for g, agents in self.groups.items())
        return ((observations + 10 + costs - (n + 1) * self.cost[group]) / (n + 1)).clamp(0, 5)

    def scripts(self) -> dict[str, Policy]:
        return {"nash": lambda seen: self.nash("entrants", seen)}

    def answer_key(self) -> AnswerKey:
        return NashQuantities(self)


class NashQuantities(AnswerKey):
    """How far the quantities are from Nash's, over the interval of demand."""

    name = "Nash equilibrium"

    def __init__(self, market: Cournot) -> None:
        self.market = market
        low, high = market.parameters.demand
        self.demand = torch.linspace(low - 10, high - 10, 21)

    def _error(self, group: str, policy: Policy) -> float:
        """Mean error in % of the Nash quantity."""
        seen = self.demand.view(-1, 1, 1).expand(-1, self.market.groups[group].count, 1)
        nash = self.market.nash(group, seen)
        return 100 * float(((policy(seen) - nash).abs() / nash).mean())

    def distance(self, policies: Mapping[str, Policy]) -> float:
        return max(self._error(group, policy) for group, policy in policies.items())

    def assess(self, policies: Mapping[str, Policy], untrained: Mapping[str, Policy], seeds: list[int]) -> Assessment:
        metrics = []
        for group, policy in policies.items():
            controls = {"untrained": self._error(group, untrained[group])}
            label = f"error of the quantities, {group}"
            metrics.append(
                Metric(f"quantity_error/{group}", label, self._error(group, policy), "%", limit=3.0, controls=controls)
            )
        return Assessment(metrics)
