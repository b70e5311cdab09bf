"""The economy with a government as a market: two groups with rewards of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rl_markets.envs.fiscal.parameters import FiscalParameters
from rl_markets.envs.households import economics
from rl_markets.envs.households.market import ACTION_HIGH, ACTION_LOW, LOG_PRODUCTIVITY_SCALE
from rl_markets.envs.households.shocks import AutoregressiveProductivity
from rl_markets.envs.market import AgentGroup, State, TensorMarket, Transition


class Fiscal(TensorMarket):
    """n households, one firm, one government (Klein, Krusell and Rios-Rull 2008).

    The households are MARL-BC's. All act at once on the state (k, A). The government taxes incomes
    y_i = w l_i + r k_i by a schedule that leaves

        d_i = (1 - tau) Y y_i^(1-p) / mean_j y_j^(1-p)

    to household i, so that its revenue tau Y is the public good G; then

        a_i = d_i + (1-delta) k_i,   c_i = chat_i a_i

    Households: observation `[5]`: log k/K, log K / 2, log l/L and log L of last period, 10 log A;
    action `[2]`: consumption share of wealth, and labour; reward: log c + b log(1 - l). Each takes
    the public good as given.
    Government: observation `[3]`: log K / 2, 10 log A, the standard deviation of log k; action
    `[1]`: the rate tau; reward: the households' mean utility plus theta log G.
    Actions are in [.01, .99]; `step` refuses others, and `transition` clamps them.

    Not declared differentiable: a household's gradient would go through aggregates that it must
    take as given.
    """

    def __init__(
        self,
        parameters: FiscalParameters,
        *,
        worlds: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        stagger: bool = True,
    ) -> None:
        super().__init__(
            worlds=worlds, episode_length=parameters.episode_length, device=device, stagger=stagger
        )
        self.parameters = parameters
        self.dtype = dtype
        p = parameters
        self.shocks = AutoregressiveProductivity(p.rho, p.sigma, device=self.device, dtype=dtype)
        # Nothing is kept in returns: the incomes taxed are gross, depreciation is not deductible.
        self._alpha, self._labour_share, self._none = (
            torch.tensor(x, dtype=dtype, device=self.device) for x in (p.alpha, 1 - p.alpha, 0.0)
        )
        self.groups = {
            "households": _agent_group(p.households, features=5, actions=2),
            "government": _agent_group(1, features=3, actions=1),
        }

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        """Exploring starts: capital log-uniform in `initial_capital`, any labour.

        Households' capital is spread around a world's by `initial_dispersion`.
        """
        p = self.parameters
        options: Any = {"device": self.device, "dtype": self.dtype}
        low, high = (math.log(bound) for bound in p.initial_capital)
        log_k = torch.empty((worlds, 1), **options).uniform_(low, high, generator=generator)
        spread = torch.randn((worlds, p.households), generator=generator, **options)
        log_k = log_k + p.initial_dispersion * spread
        labour = torch.empty((worlds, 1), **options).uniform_(
            ACTION_LOW, ACTION_HIGH, generator=generator
        )
        own = {"capital": torch.exp(log_k), "labour": labour.expand(worlds, p.households).clone()}
        return own | self.shocks.initial(worlds, generator)

    def draw_noise(self, generator: torch.Generator) -> State:
        """This period's innovation of productivity."""
        return self.shocks.draw(self.worlds, generator)

    def incomes(self, state: State, labour: Tensor) -> Tensor:
        """y_i = w l_i + r k_i before taxes, `[worlds, households]`.

        Their mean is output Y per head.
        """
        k = state["capital"]
        intensity = k.mean(-1, keepdim=True) / labour.mean(-1, keepdim=True)
        y = economics.output(self.shocks.productivity(state), intensity, self._alpha)
        r = economics.gross_return(y, intensity, self._alpha, self._none)
        return economics.wealth(economics.wage(y, self._labour_share), labour, r, k)

    def disposable(self, y: Tensor, tau: Tensor) -> Tensor:
        """d_i, what the schedule leaves of incomes, `[worlds, households]`.

        Args:
            y: incomes `[worlds, households]`.
            tau: rates `[worlds, 1]`.
        """
        p = self.parameters.progressivity
        if p == 0:
            return (1 - tau) * y
        kept = y ** (1 - p)
        return (1 - tau) * y.mean(-1, keepdim=True) * kept / kept.mean(-1, keepdim=True)

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        """Produce, pay, tax, provide the public good, consume, save.

        Tomorrow's productivity comes last.
        """
        p = self.parameters
        share, labour = (x.clamp(ACTION_LOW, ACTION_HIGH) for x in actions["households"].unbind(-1))
        tau = actions["government"].squeeze(-1).clamp(ACTION_LOW, ACTION_HIGH)
        y = self.incomes(state, labour)
        a = self.disposable(y, tau) + (1 - p.delta) * state["capital"]
        c = share * a
        utility = economics.utility(c, labour, p.b)
        G = tau * y.mean(-1, keepdim=True)
        welfare = utility.mean(-1, keepdim=True) + p.theta * torch.log(G)
        next_state = {"capital": a - c, "labour": labour} | self.shocks.advance(state, noise)
        return Transition(next_state, {"households": utility, "government": welfare})

    def observe(self, state: State) -> dict[str, Tensor]:
        """What each household and the government see."""
        k = state["capital"]
        labour = state["labour"]
        z = self.shocks.log_productivity(state)
        K = k.mean(-1, keepdim=True)
        L = labour.mean(-1, keepdim=True)
        households = self.household_features(k, K, labour, L, z)
        # After the households' own: gradients add up in this order, to the last digit.
        spread = torch.log(k).std(-1, correction=0, keepdim=True)
        government = self.government_features(K, z, spread)
        return {"households": households, "government": government}

    @staticmethod
    def household_features(k: Tensor, K: Tensor, labour: Tensor, L: Tensor, z: Tensor) -> Tensor:
        """The households' observations `[..., 5]`; shapes broadcast."""
        columns = (
            torch.log(k / K),
            0.5 * torch.log(K),
            torch.log(labour / L),
            torch.log(L),
            LOG_PRODUCTIVITY_SCALE * z,
        )
        return torch.stack(torch.broadcast_tensors(*columns), -1)

    @staticmethod
    def government_features(K: Tensor, z: Tensor, spread: Tensor) -> Tensor:
        """The government's observation `[..., 3]`; shapes broadcast."""
        columns = (0.5 * torch.log(K), LOG_PRODUCTIVITY_SCALE * z, spread)
        return torch.stack(torch.broadcast_tensors(*columns), -1)

    def observe_globally(self, state: State) -> Tensor:
        """What a central critic sees, `[worlds, 4]`.

        Log mean capital and labour, log productivity in tenths, standard deviation of log capital.
        """
        k = state["capital"]
        labour = state["labour"]
        z = self.shocks.log_productivity(state)
        spread = torch.log(k).std(-1, correction=0, keepdim=True)
        means = (torch.log(x.mean(-1, keepdim=True)) for x in (k, labour))
        return torch.cat((*means, LOG_PRODUCTIVITY_SCALE * z, spread), -1)

    def in_units(self, gain: float) -> tuple[float, str]:
        """Consumption equivalent of `gain` utils, in %.

        The permanent rise of everybody's consumption that is worth as much.
        """
        return economics.consumption_equivalent(gain, self.parameters.beta), "% of consumption"


def _agent_group(count: int, *, features: int, actions: int) -> AgentGroup:
    """So many agents, with a box of observations and one of actions."""
    observation = gym.spaces.Box(-np.inf, np.inf, (features,), np.float32)
    action = gym.spaces.Box(ACTION_LOW, ACTION_HIGH, (actions,), np.float32)
    return AgentGroup(count, observation, action)
