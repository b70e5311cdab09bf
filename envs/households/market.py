"""The household economy as a market: one group, two actions (consumption share of wealth, labour)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rl_markets.envs.households import economics
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.households.shocks import AutoregressiveProductivity
from rl_markets.envs.market import AgentGroup, AnswerKey, State, TensorMarket, Transition

ACTION_LOW, ACTION_HIGH = 0.01, 0.99
"""Bounds of both actions, as in the paper."""

LOG_PRODUCTIVITY_SCALE = 10.0
"""log A is observed in tenths: its standard deviation is about .02, and networks like inputs of order one."""


class Households(TensorMarket):
    """n households, one firm (MARL-BC, arXiv 2510.12272).

    Observation `[7]`, the paper's: own capital k, aggregate capital K, own and aggregate labour l, L of last period,
    productivity A, kappa, lambda; as levels, or of order one in logarithms (the default):
    log k/K, log K / 2, log l/L, log L, 10 log A, kappa - 1, lambda - 1.
    Action `[2]`: consumption share of wealth and labour, each in [.01, .99]; values outside are clamped.
    Reward: log c + b log(1 - l).
    """

    differentiable = True

    def __init__(
        self, parameters: HouseholdsParameters, *, worlds: int, device: str = "cpu",
        dtype: torch.dtype = torch.float32, stagger: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(worlds=worlds, episode_length=parameters.episode_length, device=device, stagger=stagger)
        self.parameters, self.dtype = parameters, dtype
        n = parameters.households
        self.kappa = self._by_household(parameters.capital_productivity)
        self.lambda_ = self._by_household(parameters.labour_productivity)
        self.shocks = AutoregressiveProductivity(parameters.rho, parameters.sigma, device=self.device, dtype=dtype)
        self.price_taking = parameters.conduct == "price-taking"
        observation = gym.spaces.Box(-np.inf, np.inf, (7,), np.float32)
        action = gym.spaces.Box(ACTION_LOW, ACTION_HIGH, (2,), np.float32)
        self.groups = {"households": AgentGroup(n, observation, action)}

    def _by_household(self, types: list[float]) -> Tensor:
        repeated = torch.tensor(types, dtype=self.dtype, device=self.device)
        return repeated.repeat(self.parameters.households // len(types))

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        """Exploring starts: capital log-uniform in `initial_capital`, spread by `initial_dispersion`; any labour."""
        p, n = self.parameters, self.parameters.households
        low, high = (math.log(bound) for bound in p.initial_capital)
        options: Any = {"generator": generator, "device": self.device, "dtype": self.dtype}
        log_k = low + (high - low) * torch.rand((worlds, 1), **options)
        if p.initial_dispersion > 0:
            log_k = log_k + p.initial_dispersion * torch.randn((worlds, n), **options)
        labour = ACTION_LOW + (ACTION_HIGH - ACTION_LOW) * torch.rand((worlds, 1), **options)
        own = {"capital": torch.exp(log_k).expand(worlds, n).clone(), "labour": labour.expand(worlds, n).clone()}
        return own | self.shocks.initial(worlds, generator)

    def draw_noise(self, generator: torch.Generator) -> State:
        """This period's innovation of productivity."""
        return self.shocks.draw(self.worlds, generator)

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        """Produce, pay, consume, save; then draw tomorrow's productivity."""
        p, k = self.parameters, state["capital"]
        consumption_share, labour = actions["households"].clamp(ACTION_LOW, ACTION_HIGH).unbind(-1)
        efficiency = self.lambda_ * self.shocks.endowment(state)
        K = self._taken(economics.effective(self.kappa, k))
        L = self._taken(economics.effective(efficiency, labour))
        Y = economics.production(self.shocks.productivity(state), K, L, p.alpha)
        r = economics.interest(Y, K, self.kappa, p.alpha)
        w = economics.wage(Y, L, efficiency, p.alpha)
        a = economics.wealth(w, labour, r, k, p.delta)
        c = consumption_share * a
        following = {"capital": a - c, "labour": labour} | self.shocks.advance(state, noise)
        return Transition(following, {"households": economics.utility(c, labour, p.b)})

    def observe(self, state: State) -> dict[str, Tensor]:
        """The paper's seven observations."""
        k, labour = state["capital"], state["labour"]
        K = self._taken(economics.effective(self.kappa, k))
        L = self._taken(economics.effective(self.lambda_ * self.shocks.endowment(state), labour))
        A = self.shocks.productivity(state)
        return {"households": self.features(k, K, labour, L, A)}

    def features(self, k: Tensor, K: Tensor, labour: Tensor, L: Tensor, A: Tensor) -> Tensor:
        """The observations `[..., households, 7]` of households with capital `k` `[..., households]`."""
        columns = (k, K, labour, L, A, self.kappa, self.lambda_)
        if self.parameters.features == "log":
            log_K, log_L = torch.log(K), torch.log(L)
            relative = (torch.log(k) - log_K, log_K / 2, torch.log(labour) - log_L, log_L)
            columns = (*relative, LOG_PRODUCTIVITY_SCALE * torch.log(A), self.kappa - 1, self.lambda_ - 1)
        return torch.stack(torch.broadcast_tensors(*columns), -1)

    def _taken(self, aggregate: Tensor) -> Tensor:
        """A price taker sees aggregates as given: no gradient flows through them."""
        return aggregate.detach() if self.price_taking else aggregate

    def answer_key(self) -> AnswerKey | None:
        """Closed form at full depreciation, collocation otherwise; none where households differ in advance."""
        if not self.parameters.homogeneous:
            return None
        from rl_markets.envs.households.answer import HouseholdsAnswer

        return HouseholdsAnswer(self.parameters)

    def in_units(self, gain: float) -> tuple[float, str]:
        """Consumption equivalent: the permanent rise of consumption worth `gain` utils, in %."""
        return 100 * math.expm1((1 - self.parameters.beta) * gain), "% of consumption"
