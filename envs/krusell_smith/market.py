"""The Krusell-Smith economy as a market: one group, one action (consumption share of wealth)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from rl_markets.envs.households import economics
from rl_markets.envs.krusell_smith.employment import Employment
from rl_markets.envs.krusell_smith.parameters import KrusellSmithParameters
from rl_markets.envs.market import AgentGroup, Owned, State, TensorMarket, Transition

ACTION_LOW = 0.01
ACTION_HIGH = 0.99
"""Bounds of the consumption share, as in the paper."""

POOR = 0.02
"""Own capital is observed as log(k/K + POOR): who has nothing is at a finite place."""


class KrusellSmith(TensorMarket):
    """n households who cannot insure themselves against unemployment (Krusell and Smith 1998).

        max E sum_t beta^t log c_t,   c + k' = a = w hours employed + (1 - delta + kappa r) k
        Y = A K^alpha L^(1-alpha),   r = alpha Y / K,   w = (1 - alpha) Y / L

    K is mean effective capital, L mean hours.
    Observation `[5]`: log(k/K + .02), log K / 2, the aggregate state (+1 good, -1 bad), whether
    employed, kappa relative to the other types' (-1 to 1).
    Action `[1]`: consumption share of wealth in [.01, .99]; `step` refuses others, and
    `transition` clamps them.
    Reward: log c.
    """

    differentiable = True
    owned: Mapping[str, Owned] = {"households": Owned("capital")}

    def __init__(
        self,
        parameters: KrusellSmithParameters,
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
        n = parameters.households
        self.employment = Employment(parameters, self.device, dtype)
        types = parameters.capital_productivity
        self.kappa = self._constant(types).repeat(n // len(types))
        self.kinds = economics.relative(self.kappa)
        self._alpha = self._constant(parameters.alpha)
        self._alpha_kappa = parameters.alpha * self.kappa
        self._kept = self._constant(1 - parameters.delta)
        self._labour_share = self._constant(1 - parameters.alpha)
        self.price_taking = parameters.conduct == "price-taking"
        observation = gym.spaces.Box(-np.inf, np.inf, (5,), np.float32)
        action = gym.spaces.Box(ACTION_LOW, ACTION_HIGH, (1,), np.float32)
        self.groups = {"households": AgentGroup(n, observation, action)}

    def _constant(self, values: Any) -> Tensor:
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        """Exploring starts: mean capital log-uniform in `initial_capital`, households around it."""
        p = self.parameters
        options: Any = {"device": self.device, "dtype": self.dtype}
        low, high = (math.log(bound) for bound in p.initial_capital)
        level = torch.empty((worlds, 1), **options).uniform_(low, high, generator=generator)
        spread = torch.randn((worlds, p.households), generator=generator, **options)
        k = torch.exp(p.initial_dispersion * spread)
        own = {"capital": torch.exp(level) * k / k.mean(-1, keepdim=True)}
        return own | self.employment.initial(worlds, generator)

    def draw_noise(self, generator: torch.Generator) -> State:
        """This period's draws of the aggregate state and of employment."""
        return self.employment.draw(self.worlds, generator)

    def effective_capital(self, state: State) -> Tensor:
        """K, the mean of kappa_i k_i, `[worlds, 1]`; a price taker takes it as given."""
        K = (self.kappa * state["capital"]).mean(-1, keepdim=True)
        return K.detach() if self.price_taking and torch.is_grad_enabled() else K

    def wealth(self, state: State) -> Tensor:
        """Wealth before consumption, a: `[worlds, households]`."""
        hours = self.employment.hours(state)
        L = hours.mean(-1, keepdim=True).clamp_min(1e-6)  # of few households, all may be jobless
        intensity = self.effective_capital(state) / L
        A = torch.exp(self.employment.log_productivity(state))
        y = economics.output(A, intensity, self._alpha)
        R = economics.gross_return(y, intensity, self._alpha_kappa, self._kept)
        w = economics.wage(y, self._labour_share)
        return economics.wealth(w, hours, R, state["capital"])

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        """Produce, pay, consume, save; then draw tomorrow's state and jobs."""
        share = actions["households"].squeeze(-1).clamp(ACTION_LOW, ACTION_HIGH)
        a = self.wealth(state)
        c = share * a
        next_state = {"capital": a - c} | self.employment.advance(state, noise)
        return Transition(next_state, {"households": torch.log(c)})

    def observe(self, state: State) -> dict[str, Tensor]:
        """Own capital relative to the economy's, the economy's state, own job and type."""
        K = self.effective_capital(state)
        features = self.features(state["capital"], K, state["aggregate"], state["unemployed"])
        return {"households": features}

    def features(
        self, k: Tensor, K: Tensor, z: Tensor, unemployed: Tensor, kind: Tensor | None = None
    ) -> Tensor:
        """The observations `[..., 5]`; shapes broadcast.

        `kind` is the number of each household's type, None for all households in order.
        """
        good = 1.0 - 2.0 * z.to(k.dtype)
        kinds = self.kinds if kind is None else self.kinds[kind]
        columns = (torch.log(k / K + POOR), 0.5 * torch.log(K), good, 1.0 - unemployed, kinds)
        return torch.stack(torch.broadcast_tensors(*columns), -1)

    def observe_globally(self, state: State) -> Tensor:
        """log K, the aggregate state, and how far capital is spread: `[worlds, 3]`."""
        K = self.effective_capital(state)
        good = 1.0 - 2.0 * state["aggregate"].to(K.dtype)
        spread = torch.log(state["capital"] / K + POOR).std(-1, correction=0, keepdim=True)
        return torch.cat((torch.log(K), good, spread), -1)

    def in_units(self, gain: float) -> tuple[float, str]:
        """Consumption equivalent: the permanent rise of consumption worth `gain` utils, in %."""
        return economics.consumption_equivalent(gain, self.parameters.beta), "% of consumption"
