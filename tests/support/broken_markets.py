"""Markets with one defect each, derived from one that is right;
`tests/support/broken_markets.py:NAN_REWARD` names one."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
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
from rl_markets.envs.spec import MarketSpec


class ExchangeParameters(BaseModel):
    """What all of these markets take."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    traders: int = Field(3, ge=1)
    episode_length: int = Field(20, ge=1)
    discount: float = Field(0.9, ge=0, le=1)


class LaxParameters(BaseModel):
    """Leaves misspelt parameters out."""

    traders: int = 3
    episode_length: int = 20
    discount: float = 0.9


def _counts(parameters: Any) -> dict[str, int]:
    return {"traders": parameters.traders, "maker": 1}


def _spec(name: str, **changes: Any) -> MarketSpec:
    plain: dict[str, Any] = {
        "parameters": ExchangeParameters,
        "groups": _counts,
        "discount": "discount",
    }
    plain |= {"scripts": ("wait",), "global_state": True, "market": f"{__name__}:{name}"}
    return MarketSpec(name=name.lower(), summary="a test's", **plain | changes)


def _box(low: float, high: float, size: int) -> gym.spaces.Box:
    return gym.spaces.Box(low, high, (size,), np.float32)


class Right(TensorMarket):
    """Traders bet on a price that moves by itself and by what they do; a maker chooses one of three
    spreads."""

    differentiable = True

    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(worlds=worlds, episode_length=parameters.episode_length, device=device)
        self.parameters = parameters
        self.calls = 0
        self.groups = {
            "traders": AgentGroup(parameters.traders, _box(-np.inf, np.inf, 2), _box(-1, 1, 1)),
            "maker": AgentGroup(1, _box(-np.inf, np.inf, 1), gym.spaces.Discrete(3)),
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
        return {"wait": lambda seen: torch.zeros_like(seen[..., :1])}


def _with_rewards(moved: Transition, function: Callable[[Tensor], Tensor]) -> Transition:
    return replace(moved, rewards=moved.rewards | {"traders": function(moved.rewards["traders"])})


class _Moves(Right):
    """Base of those whose defect is a change of what `transition` gives."""

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        return self.spoil(super().transition(state, actions, noise), actions)

    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        raise NotImplementedError


class _Shows(Right):
    """Base of those whose defect is a change of what `observe` gives."""

    def observe(self, state: State) -> dict[str, Tensor]:
        return self.spoil(super().observe(state))

    def spoil(self, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        raise NotImplementedError


# -- numbers ---------------------------------------------------------------------------------------


class NanObservation(_Shows):
    def spoil(self, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        return seen | {"traders": torch.log(seen["traders"])}


class NanReward(_Moves):
    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return _with_rewards(moved, torch.sqrt)


class InfiniteReward(_Moves):
    """Only where an action is at its lower bound."""

    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return _with_rewards(moved, lambda r: r + 1 / (1 + actions["traders"][..., 0]))


class NanLate(_Moves):
    """In its 60th step."""

    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return _with_rewards(moved, lambda r: r * (np.nan if self.calls >= 60 else 1))


class OutOfSpace(Right):
    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(parameters, worlds=worlds, device=device)
        self.groups = self.groups | {
            "maker": replace(self.groups["maker"], observation_space=_box(0, 1, 1))
        }


# -- shapes ----------------------------------------------------------------------------------------


class RewardShape(_Moves):
    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return _with_rewards(moved, lambda r: r.mean(-1, keepdim=True))


class ObservationShape(_Shows):
    def spoil(self, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        return seen | {"traders": seen["traders"][..., [0, 1, 1]]}


class MissingAgent(_Shows):
    def spoil(self, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        return seen | {"traders": seen["traders"][:, 1:]}


class MissingGroup(_Shows):
    def spoil(self, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"traders": seen["traders"]}


class DoublePrecision(_Shows):
    def spoil(self, seen: dict[str, Tensor]) -> dict[str, Tensor]:
        return seen | {"maker": seen["maker"].double()}


class LateShape(_Moves):
    """From its 60th step on."""

    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return _with_rewards(moved, lambda r: r if self.calls < 60 else r.mean(-1, keepdim=True))


class Graph(_Moves):
    """Its rewards carry a graph that grows."""

    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        with torch.enable_grad():
            return _with_rewards(moved, lambda r: r * torch.ones((), requires_grad=True))


class MaskType(_Moves):
    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return replace(moved, active={"traders": torch.ones_like(moved.rewards["traders"])})


class RestartShape(Right):
    """Forgets that a restart asks for fewer worlds than there are."""

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        return super().initial_state(self.worlds, generator)


# -- hangs and exceptions --------------------------------------------------------------------------


class HangLoop(_Moves):
    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        while True:
            moved = replace(moved)


class HangSleep(_Moves):
    """In its 60th step."""

    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        while self.calls >= 60:
            time.sleep(0.01)
        return moved


class HangInC(_Moves):
    """Where no signal gets through."""

    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        sum(itertools.repeat(0, 10**12))
        return moved


class RaisesSoon(_Moves):
    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        if self.calls >= 4:
            raise ValueError("the firm went bankrupt")
        return moved


class RaisesLate(_Moves):
    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        if self.calls >= 60:
            raise ValueError("the firm went bankrupt")
        return moved


class Unbuildable(Right):
    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        raise FileNotFoundError("no such file: prices.csv")


class NoMarket:
    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        self.worlds = worlds


class NumbersFromOne(Right):
    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(parameters, worlds=worlds, device=device)
        spaces = replace(self.groups["maker"], action_space=gym.spaces.Discrete(3, start=1))
        self.groups = self.groups | {"maker": spaces}


class UnequalBranches(Right):
    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(parameters, worlds=worlds, device=device)
        spaces = replace(self.groups["maker"], action_space=gym.spaces.MultiDiscrete([3, 4]))
        self.groups = self.groups | {"maker": spaces}


class MaskedBox(Right):
    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(parameters, worlds=worlds, device=device)
        self.groups = {name: replace(group, masked=True) for name, group in self.groups.items()}


class MaskTooWide(Right):
    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(parameters, worlds=worlds, device=device)
        spaces = replace(self.groups["maker"], action_space=gym.spaces.Discrete(99), masked=True)
        self.groups = self.groups | {"maker": spaces}


# -- what only shows over time or elsewhere --------------------------------------------------------


class GlobalRandomness(_Moves):
    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return _with_rewards(moved, lambda r: r + 0.01 * torch.rand_like(r))


class OwnRandomness(_Moves):
    """Draws from a generator that no seed reaches."""

    rng = np.random.default_rng()

    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return _with_rewards(moved, lambda r: r + float(self.rng.normal()))


class OtherProcess(_Moves):
    """Text hashes differently in every process."""

    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return _with_rewards(moved, lambda r: r + hash("price") / 2**62)


class NoWorker(Right):
    """Breaks where a pool's or Ray's workers build it."""

    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(parameters, worlds=worlds, device=device)
        if multiprocessing.parent_process() is not None or "RAY_RAYLET_PID" in os.environ:
            raise RuntimeError("the price feed belongs to the main process")


class InPlace(Right):
    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        state["stock"] *= 0.5
        return super().transition(state, actions, noise)


class HiddenState(_Moves):
    """Its volume is not part of its state."""

    volume: Any = 0.0

    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        self.volume = 0.9 * self.volume + actions["traders"].abs().mean()
        return _with_rewards(moved, lambda r: r - 0.1 * self.volume)

    def reset(self, seed: int) -> dict[str, Tensor]:
        self.volume = 0.0
        return super().reset(seed)


class WorldsLeak(_Moves):
    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return _with_rewards(moved, lambda r: r - r.mean(0))


class WorldIndex(_Moves):
    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return _with_rewards(moved, lambda r: r + 0.1 * torch.arange(len(r))[:, None])


class NotExchangeable(_Moves):
    exchangeable = True

    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return _with_rewards(moved, lambda r: r * torch.arange(r.shape[1]))


class RestartedFinals(Right):
    def step(self, actions: Mapping[str, Tensor]) -> Step:
        step = super().step(actions)
        if step.ended is None:
            return step
        last = {group: seen[step.ended.worlds] for group, seen in step.observations.items()}
        return replace(step, ended=replace(step.ended, observations=last))


class NoGradient(_Moves):
    def spoil(self, moved: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return replace(
            moved, rewards={group: reward.detach() for group, reward in moved.rewards.items()}
        )


class NoGlobalState(Right):
    def observe_globally(self, state: State) -> Tensor | None:
        return None


class IllegalScript(Right):
    def scripts(self) -> Mapping[str, PolicyFunction]:
        return {"wait": lambda seen: torch.full_like(seen[..., :1], 3.0)}


# -- a market that is no TensorMarket --------------------------------------------------------------


class Foreign(Market):
    """A count to ten that starts again; agents are paid for guessing. Right."""

    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        self.worlds = worlds
        self.episode_length = 10
        self.device = torch.device(device)
        self.groups = {"guessers": AgentGroup(2, _box(0, 10, 1), gym.spaces.Discrete(3))}
        self.count = 0

    def _seen(self) -> dict[str, Tensor]:
        return {"guessers": torch.full((self.worlds, 2, 1), float(self.count))}

    def reset(self, seed: int) -> dict[str, Tensor]:
        self.count = seed % 3
        return self._seen()

    def step(self, actions: Mapping[str, Tensor]) -> Step:
        rewards = {"guessers": (actions["guessers"] == self.count % 3).float()}
        self.count += 1
        if self.count < self.episode_length:
            return Step(self._seen(), rewards)
        last = self._seen()
        self.count = 0
        every = torch.arange(self.worlds)
        return Step(
            self._seen(),
            rewards,
            Ended(every, torch.zeros(self.worlds, dtype=torch.bool), self.final(last)),
        )

    def final(self, last: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the agents last saw."""
        return last

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, saved: Mapping[str, Any]) -> dict[str, Tensor]:
        self.count = saved["count"]
        return self._seen()


class ForeignFinals(Foreign):
    def final(self, last: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._seen()


class ForeignIndices(Foreign):
    def step(self, actions: Mapping[str, Tensor]) -> Step:
        step = super().step(actions)
        if step.ended is None:
            return step
        return replace(step, ended=replace(step.ended, worlds=step.ended.worlds.flip(0)))


class ForeignBuffer(Foreign):
    """Shows the same memory at every end."""

    def reset(self, seed: int) -> dict[str, Tensor]:
        self.buffer = torch.zeros(self.worlds, 2, 1)
        return super().reset(seed)

    def final(self, last: dict[str, Tensor]) -> dict[str, Tensor]:
        self.buffer += last["guessers"]
        return {"guessers": self.buffer}


FOREIGN: dict[str, Any] = {
    "groups": lambda parameters: {"guessers": 2},
    "scripts": (),
    "global_state": False,
}

RIGHT = _spec("Right")
LATE_SHAPE = _spec("LateShape")
GRAPH = _spec("Graph")
NAN_OBSERVATION = _spec("NanObservation")
NAN_REWARD = _spec("NanReward")
NAN_LATE = _spec("NanLate")
INFINITE_REWARD = _spec("InfiniteReward")
OUT_OF_SPACE = _spec("OutOfSpace")
REWARD_SHAPE = _spec("RewardShape")
OBSERVATION_SHAPE = _spec("ObservationShape")
MISSING_AGENT = _spec("MissingAgent")
MISSING_GROUP = _spec("MissingGroup")
DOUBLE_PRECISION = _spec("DoublePrecision")
MASK_TYPE = _spec("MaskType")
RESTART_SHAPE = _spec("RestartShape")
HANG_LOOP = _spec("HangLoop")
HANG_SLEEP = _spec("HangSleep")
HANG_IN_C = _spec("HangInC")
RAISES_SOON = _spec("RaisesSoon")
RAISES_LATE = _spec("RaisesLate")
UNBUILDABLE = _spec("Unbuildable")
NO_MARKET = _spec("NoMarket")
NUMBERS_FROM_ONE = _spec("NumbersFromOne")
UNEQUAL_BRANCHES = _spec("UnequalBranches")
MASKED_BOX = _spec("MaskedBox")
MASK_TOO_WIDE = _spec("MaskTooWide")
GLOBAL_RANDOMNESS = _spec("GlobalRandomness")
OWN_RANDOMNESS = _spec("OwnRandomness")
OTHER_PROCESS = _spec("OtherProcess")
NO_WORKER = _spec("NoWorker")
IN_PLACE = _spec("InPlace")
HIDDEN_STATE = _spec("HiddenState")
WORLDS_LEAK = _spec("WorldsLeak")
WORLD_INDEX = _spec("WorldIndex")
NOT_EXCHANGEABLE = _spec("NotExchangeable")
RESTARTED_FINALS = _spec("RestartedFinals")
NO_GRADIENT = _spec("NoGradient")
NO_GLOBAL_STATE = _spec("NoGlobalState")
ILLEGAL_SCRIPT = _spec("IllegalScript")
HIDDEN_GLOBAL_STATE = _spec("Right", global_state=False)
LAX_PARAMETERS = _spec("Right", parameters=LaxParameters)
WRONG_COUNT = _spec(
    "Right", groups=lambda parameters: {"traders": parameters.traders + 1, "maker": 1}
)
FOREIGN_RIGHT = _spec("Foreign", **FOREIGN)
FOREIGN_FINALS = _spec("ForeignFinals", **FOREIGN)
FOREIGN_INDICES = _spec("ForeignIndices", **FOREIGN)
FOREIGN_BUFFER = _spec("ForeignBuffer", **FOREIGN)
