"""Cournot competition: every firm chooses a quantity, the price is what the market bears."""

from collections.abc import Mapping

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rl_markets.envs.market import AgentGroup, PolicyFunction, State, TensorMarket, Transition

from .spec import CournotParameters


class Cournot(TensorMarket):
    """Observation `[1]`: today's demand intercept less 10. Action `[1]`: quantity, 0 to 5. Reward:
    the day's profit."""

    def __init__(self, parameters: CournotParameters, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(worlds=worlds, episode_length=parameters.episode_length, device=device)
        self.parameters = parameters
        self.cost = {"incumbents": parameters.incumbent_cost, "entrants": parameters.entrant_cost}
        seen = gym.spaces.Box(-np.inf, np.inf, (1,))
        quantity = gym.spaces.Box(0.0, 5.0, (1,))
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
        return {
            g: (state["demand"] - 10).unsqueeze(1).expand(-1, a.count, 1)
            for g, a in self.groups.items()
        }

    def observe_globally(self, state: State) -> Tensor:
        return state["demand"] - 10

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        quantities = {group: chosen[..., 0] for group, chosen in actions.items()}
        price = state["demand"] - torch.cat(list(quantities.values()), 1).sum(1, keepdim=True)
        profit = {group: (price - self.cost[group]) * q for group, q in quantities.items()}
        return Transition({"demand": noise["tomorrow"]}, profit)

    def nash(self, group: str, observations: Tensor) -> Tensor:
        """q_i = (a + sum_j c_j - (n + 1) c_i) / (n + 1): each firm's best reply to the others' same
        rule."""
        n = sum(agents.count for agents in self.groups.values())
        costs = sum(agents.count * self.cost[g] for g, agents in self.groups.items())
        return ((observations + 10 + costs - (n + 1) * self.cost[group]) / (n + 1)).clamp(0, 5)

    def scripts(self) -> dict[str, PolicyFunction]:
        return {"nash": lambda seen: self.nash("entrants", seen)}
