"""What moves an economy from outside: aggregate productivity and labour endowments."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rl_markets.envs.market import State


class Shocks(ABC):
    """A process of shocks. Its state is part of the market's state."""

    @abstractmethod
    def initial(self, worlds: int, generator: torch.Generator) -> State:
        """Draws the shock state of fresh episodes."""

    @abstractmethod
    def draw(self, worlds: int, generator: torch.Generator) -> State:
        """Draws one period's innovations."""

    @abstractmethod
    def advance(self, state: State, noise: State) -> State:
        """Next period's shock state. Pure."""

    @abstractmethod
    def log_productivity(self, state: State) -> Tensor:
        """Log of total factor productivity A, `[worlds, 1]`."""

    def productivity(self, state: State) -> Tensor:
        """Total factor productivity A, `[worlds, 1]`."""
        return torch.exp(self.log_productivity(state))

    def hours(self, state: State, labour: Tensor) -> Tensor:
        """Efficient hours of households who work `labour`; by default every hour counts fully."""
        return labour


class AutoregressiveProductivity(Shocks):
    """log A' = rho log A + sigma eps, eps ~ N(0, 1)."""

    def __init__(
        self, rho: float, sigma: float, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.rho = rho
        self.sigma = sigma
        self.device = device
        self.dtype = dtype
        self._rho = torch.tensor(rho, device=device, dtype=dtype)

    def initial(self, worlds: int, generator: torch.Generator) -> State:
        """Draws log A from its stationary distribution."""
        stationary = self.sigma / (1 - self.rho**2) ** 0.5
        return {"log_productivity": stationary * self._normal(worlds, generator)}

    def draw(self, worlds: int, generator: torch.Generator) -> State:
        """Standard normal innovations `[worlds, 1]`."""
        return {"innovation": self._normal(worlds, generator)}

    def advance(self, state: State, noise: State) -> State:
        """The autoregression."""
        expected = self._rho * state["log_productivity"]
        return {"log_productivity": torch.add(expected, noise["innovation"], alpha=self.sigma)}

    def log_productivity(self, state: State) -> Tensor:
        """A part of the state."""
        return state["log_productivity"]

    def _normal(self, worlds: int, generator: torch.Generator) -> Tensor:
        return torch.randn((worlds, 1), generator=generator, device=self.device, dtype=self.dtype)
