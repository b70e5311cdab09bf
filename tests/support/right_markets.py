"""Markets that keep their contract; those of `broken_markets` are derived from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from rl_markets.envs.market import (
    AgentGroup,
    Ended,
    Market,
    PolicyFunction,
    State,
    Step,
    TensorMarket,
    Transition,
)


def box(low: float, high: float, size: int) -> gym.spaces.Box:
    return gym.spaces.Box(low, high, (size,), np.float32)


class ExchangeParameters(BaseModel):
    """What all of these markets take."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    traders: int = Field(3, ge=1)
    episode_length: int = Field(20, ge=1)
    discount: float = Field(0.9, ge=0, le=1)


class Right(TensorMarket):
    """Traders bet on a price that moves by itself and by their bets; a maker chooses a spread."""

    differentiable = True

    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(worlds=worlds, episode_length=parameters.episode_length, device=device)
        self.parameters = parameters
        self.calls = 0
        self.groups = {
            "traders": AgentGroup(parameters.traders, box(-np.inf, np.inf, 2), box(-1, 1, 1)),
            "maker": AgentGroup(1, box(-np.inf, np.inf, 1), gym.spaces.Discrete(3)),
        }

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        price = torch.randn((worlds, 1), generator=generator, device=self.device)
        return {
            "price": price,
            "stock": torch.zeros((worlds, self.parameters.traders), device=self.device),
        }

    def observe(self, state: State) -> dict[str, Tensor]:
        price = state["price"].expand_as(state["stock"])
        return {
            "traders": torch.stack((price, state["stock"]), -1),
            "maker": state["price"].unsqueeze(-1),
        }

    def observe_globally(self, state: State) -> Tensor | None:
        return torch.cat((state["price"], state["stock"]), -1)

    def draw_noise(self, generator: torch.Generator) -> State:
        return {"shock": torch.randn((self.worlds, 1), generator=generator, device=self.device)}

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        self.calls += 1  # only tests of failures at a certain step look at it
        bets = actions["traders"][..., 0]
        spread = 0.1 * actions["maker"].float()
        price = 0.9 * state["price"] + 0.1 * bets.mean(-1, keepdim=True) + 0.1 * noise["shock"]
        gains = bets * (price - state["price"]) - spread * bets.abs()
        rewards = {
            "traders": gains,
            "maker": (spread - spread.square()) * bets.abs().mean(-1, keepdim=True),
        }
        return Transition({"price": price, "stock": 0.5 * state["stock"] + bets}, rewards)

    def scripts(self) -> Mapping[str, PolicyFunction]:
        return {"wait": lambda observations: torch.zeros_like(observations[..., :1])}


def with_rewards(transition: Transition, function: Callable[[Tensor], Tensor]) -> Transition:
    """The transition with other rewards of the traders."""
    rewards = function(transition.rewards["traders"])
    return replace(transition, rewards=transition.rewards | {"traders": rewards})


class SpoilsTransitions(Right):
    """Base of those whose defect is a change of what `transition` gives."""

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        return self.spoil(super().transition(state, actions, noise), actions)

    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        raise NotImplementedError


class SpoilsObservations(Right):
    """Base of those whose defect is a change of what `observe` gives."""

    def observe(self, state: State) -> dict[str, Tensor]:
        return self.spoil(super().observe(state))

    def spoil(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        raise NotImplementedError


class Foreign(Market):
    """A count to ten that starts again; agents are paid for guessing. Right."""

    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        self.worlds = worlds
        self.episode_length = 10
        self.device = torch.device(device)
        self.groups = {"guessers": AgentGroup(2, box(0, 10, 1), gym.spaces.Discrete(3))}
        self.count = 0

    def _observations(self) -> dict[str, Tensor]:
        return {"guessers": torch.full((self.worlds, 2, 1), float(self.count))}

    def reset(self, seed: int) -> dict[str, Tensor]:
        self.count = seed % 3
        return self._observations()

    def step(self, actions: Mapping[str, Tensor]) -> Step:
        rewards = {"guessers": (actions["guessers"] == self.count % 3).float()}
        self.count += 1
        if self.count < self.episode_length:
            return Step(self._observations(), rewards)
        last = self._observations()
        self.count = 0
        worlds = torch.arange(self.worlds)
        ended = Ended(worlds, torch.zeros(self.worlds, dtype=torch.bool), self.final(last))
        return Step(self._observations(), rewards, ended)

    def final(self, last: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the agents last saw."""
        return last

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, saved: Mapping[str, Any]) -> dict[str, Tensor]:
        self.count = saved["count"]
        return self._observations()
