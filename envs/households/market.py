"""The household economy as a market: one group of agents or several, two actions each.

A household chooses the share of its wealth that it consumes, and its labour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rl_markets.envs.groups import JoinedGroups
from rl_markets.envs.households import economics
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.households.shocks import AutoregressiveProductivity
from rl_markets.envs.market import AgentGroup, State, TensorMarket, Transition

ACTION_LOW = 0.01
ACTION_HIGH = 0.99
"""Bounds of both actions, as in the paper."""

LOG_PRODUCTIVITY_SCALE = 10.0
"""log A is observed in tenths.

Its standard deviation is about .02, and networks like inputs of order one.
"""

# The seven columns are k, K, l, L, A, kappa, lambda. Each is an own quantity or nothing, plus its
# loading on one of (K, L, A), plus a constant of the household's type.
AGGREGATES = [0, 0, 1, 1, 2, 2, 2]
LOG_LOADINGS = [-1.0, 0.5, -1.0, 1.0, LOG_PRODUCTIVITY_SCALE, 0.0, 0.0]
RAW_LOADINGS = [0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0]


class Households(TensorMarket):
    """n households, one firm (MARL-BC, arXiv 2510.12272).

    Observation `[7]`, the paper's: own capital k, aggregate capital K, own labour l and aggregate
    labour L of last period, productivity A, kappa, lambda. They are levels, or of order one in
    logarithms (the default): log k/K, log K / 2, log l/L, log L, 10 log A, and kappa and lambda
    relative to the other types' (-1 to 1).
    Action `[2]`: consumption share of wealth and labour, each in [.01, .99]; `step` refuses
    others, and `transition` clamps them.
    Reward: log c + b log(1 - l).
    """

    differentiable = True

    def __init__(
        self,
        parameters: HouseholdsParameters,
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
        self.kappa = self._by_household(parameters.capital_productivity)
        self.lambda_ = self._by_household(parameters.labour_productivity)
        self._precompute()
        self.shocks = AutoregressiveProductivity(
            parameters.rho, parameters.sigma, device=self.device, dtype=dtype
        )
        observation = gym.spaces.Box(-np.inf, np.inf, (7,), np.float32)
        action = gym.spaces.Box(ACTION_LOW, ACTION_HIGH, (2,), np.float32)
        self.joined = JoinedGroups(parameters.group_sizes)
        self.groups = {
            name: AgentGroup(count, observation, action)
            for name, count in self.joined.counts.items()
        }
        self.owned = self.joined.owned("capital")

    def _by_household(self, types: list[float]) -> Tensor:
        """`[households]`, or `[1]` where all are alike."""
        if len(set(types)) == 1:
            return self._constant(types[:1])
        return self._constant(types).repeat(self.parameters.households // len(types))

    def _constant(self, values: Any) -> Tensor:
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    def _precompute(self) -> None:
        """The equations' constants, and the observation's."""
        p = self.parameters
        self._alpha = self._constant(p.alpha)
        self._kept = self._constant(1 - p.delta)
        self._n = self._constant(p.households)
        self._alpha_kappa = p.alpha * self.kappa
        self._alpha_lambda = (1 - p.alpha) * self.lambda_
        types = torch.stack(torch.broadcast_tensors(self.kappa, self.lambda_))[:, None]
        # None counts as one, and saves the products.
        self._types = None if bool((types == 1).all()) else types
        if p.features == "log":
            type_features = torch.stack([economics.relative(t) for t in types])
            loadings = LOG_LOADINGS
        else:
            type_features = types
            loadings = RAW_LOADINGS
        self._type_columns = torch.zeros((7, 1, p.households), dtype=self.dtype, device=self.device)
        self._type_columns[5:] = type_features
        self._loadings = self._constant(loadings)[:, None, None]
        self._aggregates = torch.tensor(AGGREGATES, device=self.device)

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        """Exploring starts: capital log-uniform in `starts`, any labour.

        Households' capital is spread around a world's by `initial_dispersion`.
        """
        p = self.parameters
        n = p.households
        options: Any = {"device": self.device, "dtype": self.dtype}
        low, high = (math.log(bound) for bound in p.starts)
        log_k = torch.empty((worlds, 1), **options).uniform_(low, high, generator=generator)
        if p.initial_dispersion > 0:
            spread = torch.randn((worlds, n), generator=generator, **options)
            log_k = log_k + p.initial_dispersion * spread
        labour = torch.empty((worlds, 1), **options).uniform_(
            ACTION_LOW, ACTION_HIGH, generator=generator
        )
        own = {
            "capital": torch.exp(log_k).expand(worlds, n).clone(),
            "labour": labour.expand(worlds, n).clone(),
        }
        return own | self.shocks.initial(worlds, generator)

    def draw_noise(self, generator: torch.Generator) -> State:
        """This period's innovation of productivity."""
        return self.shocks.draw(self.worlds, generator)

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        """Produce, pay, consume, save; then draw tomorrow's productivity."""
        k = state["capital"]
        shocks = self.shocks
        types = self._types
        joined_actions = self.joined.join(actions)
        share, labour = (a.clamp(ACTION_LOW, ACTION_HIGH) for a in joined_actions.unbind(-1))
        hours = shocks.hours(state, labour)
        kappa, lambda_ = (None, None) if types is None else types
        K = economics.total(kappa, k)
        L = economics.total(lambda_, hours)
        # Conduct is a matter of gradients only: without them, aggregates are what they are.
        if torch.is_grad_enabled():
            K = self._taken(K, economics.effective(kappa, k))
            L = self._taken(L, economics.effective(lambda_, hours))
        intensity = K / L
        y = economics.output(shocks.productivity(state), intensity, self._alpha)
        R = economics.gross_return(y, intensity, self._alpha_kappa, self._kept)
        w = economics.wage(y, self._alpha_lambda)
        a = economics.wealth(w, hours, R, k)
        c = share * a
        next_state = {"capital": a - c, "labour": labour} | shocks.advance(state, noise)
        rewards = economics.utility(c, labour, self.parameters.b)
        return Transition(next_state, self.joined.split(rewards))

    def observe(self, state: State) -> dict[str, Tensor]:
        """The paper's seven observations."""
        k = state["capital"]
        labour = state["labour"]
        kl = torch.stack((k, labour))
        hours = self.shocks.hours(state, labour)
        working = kl if hours is labour else torch.stack((k, hours))
        z = self.shocks.log_productivity(state)
        KL = economics.total(self._types, working) / self._n
        if torch.is_grad_enabled():
            KL = self._taken(KL, economics.effective(self._types, working) / self._n)
            z = z.expand_as(KL[0])  # aggregates may now be wider: one column for each household
        return self.joined.split(self._features(kl, KL, z))

    def observe_globally(self, state: State) -> Tensor:
        """Log mean capital, log mean labour, log productivity, spread of capital: `[worlds, 4]`.

        Log productivity is in tenths; the spread is the standard deviation of log capital.
        """
        k = state["capital"]
        labour = state["labour"]
        z = self.shocks.log_productivity(state)
        spread = torch.log(k).std(-1, correction=0, keepdim=True)
        log_k = torch.log(k.mean(-1, keepdim=True))
        log_labour = torch.log(labour.mean(-1, keepdim=True))
        return torch.cat((log_k, log_labour, LOG_PRODUCTIVITY_SCALE * z, spread), -1)

    def features(self, k: Tensor, K: Tensor, labour: Tensor, L: Tensor, A: Tensor) -> Tensor:
        """The observations `[worlds, households, 7]`, in levels or logarithms as the market's own.

        `k` and `labour` are `[worlds, households]`, K, L and A `[worlds, 1]`.
        """
        return self._features(torch.stack((k, labour)), torch.stack((K, L)), torch.log(A))

    def _features(self, kl: Tensor, KL: Tensor, z: Tensor) -> Tensor:
        """The same of the pairs (k, l) and (K, L), and of z = log A."""
        if self.parameters.features == "log":
            own = torch.log(kl)
            KLA = torch.cat((torch.log(KL), z[None]))
        else:
            own = kl
            KLA = torch.cat((KL, torch.exp(z)[None]))
        columns = self._type_columns + self._loadings * KLA.index_select(0, self._aggregates)
        columns[0:4:2].add_(own)  # columns 0 and 2 are the household's own k and l
        return _rows(columns)

    def _taken(self, aggregate: Tensor, own: Tensor) -> Tensor:
        """An aggregate as each household takes it: the values are the same, the gradients differ.

        A price taker takes it as given; a strategic household counts what is its `own` and takes
        the others' as given.
        """
        if self.parameters.conduct == "price-taking":
            return aggregate.detach()
        if self.parameters.conduct == "strategic":
            return (aggregate - own).detach() + own
        return aggregate

    def in_units(self, gain: float) -> tuple[float, str]:
        """Consumption equivalent: the permanent rise of consumption worth `gain` utils, in %."""
        return economics.consumption_equivalent(gain, self.parameters.beta), "% of consumption"


def _rows(columns: Tensor) -> Tensor:
    """`[7, ..., households]` -> `[..., households, 7]`, contiguous."""
    # Shuffling channels in groups is this transposition, and on a CPU torch's fastest: 4 times as
    # fast as a strided copy.
    channels = columns.view(1, 1, 1, -1).permute(0, 3, 1, 2)
    return torch.channel_shuffle(channels, len(columns)).view(*columns.shape[1:], len(columns))
