"""Markets with one defect each, derived from those that are right.

`tests/support/broken_markets.py:NAN_REWARD` names one.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from rl_markets.envs.market import PolicyFunction, State, Step, Transition
from rl_markets.envs.spec import MarketSpec
from tests.support.right_markets import (
    ExchangeParameters,
    Foreign,
    Right,
    SpoilsObservations,
    SpoilsTransitions,
    box,
    with_rewards,
)


class LaxParameters(BaseModel):
    """Leaves misspelt parameters out."""

    traders: int = 3
    episode_length: int = 20
    discount: float = 0.9


def _counts(parameters: Any) -> dict[str, int]:
    return {"traders": parameters.traders, "maker": 1}


def _spec(name: str, **changes: Any) -> MarketSpec:
    """The spec of the class of that name, of what `Right` declares but for the changes."""
    right: dict[str, Any] = {"parameters": ExchangeParameters, "groups": _counts}
    right |= {"discount": "discount", "scripts": ("wait",), "global_state": True}
    right |= {"market": f"{__name__}:{name}"}
    return MarketSpec(name=name.lower(), summary="a test's", **right | changes)


class OtherMaker(Right):
    """Base of those whose defect is how the maker's group is declared."""

    maker: ClassVar[dict[str, Any]]

    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(parameters, worlds=worlds, device=device)
        self.groups = self.groups | {"maker": replace(self.groups["maker"], **self.maker)}


# -- numbers ---------------------------------------------------------------------------------------


class NanObservation(SpoilsObservations):
    def spoil(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        return observations | {"traders": torch.log(observations["traders"])}


class NanReward(SpoilsTransitions):
    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return with_rewards(transition, torch.sqrt)


class InfiniteReward(SpoilsTransitions):
    """Only where an action is at its lower bound."""

    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return with_rewards(transition, lambda r: r + 1 / (1 + actions["traders"][..., 0]))


class NanLate(SpoilsTransitions):
    """In its 60th step."""

    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return with_rewards(transition, lambda r: r * (np.nan if self.calls >= 60 else 1))


class OutOfSpace(OtherMaker):
    maker: ClassVar[dict[str, Any]] = {"observation_space": box(0, 1, 1)}


# -- shapes ----------------------------------------------------------------------------------------


class RewardShape(SpoilsTransitions):
    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return with_rewards(transition, lambda r: r.mean(-1, keepdim=True))


class ObservationShape(SpoilsObservations):
    def spoil(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        return observations | {"traders": observations["traders"][..., [0, 1, 1]]}


class MissingAgent(SpoilsObservations):
    def spoil(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        return observations | {"traders": observations["traders"][:, 1:]}


class MissingGroup(SpoilsObservations):
    def spoil(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"traders": observations["traders"]}


class DoublePrecision(SpoilsObservations):
    def spoil(self, observations: dict[str, Tensor]) -> dict[str, Tensor]:
        return observations | {"maker": observations["maker"].double()}


class LateShape(SpoilsTransitions):
    """From its 60th step on."""

    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return with_rewards(
            transition, lambda r: r if self.calls < 60 else r.mean(-1, keepdim=True)
        )


class Graph(SpoilsTransitions):
    """Its rewards carry a graph that grows."""

    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        with torch.enable_grad():
            return with_rewards(transition, lambda r: r * torch.ones((), requires_grad=True))


class MaskType(SpoilsTransitions):
    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return replace(
            transition, active={"traders": torch.ones_like(transition.rewards["traders"])}
        )


class RestartShape(Right):
    """Forgets that a restart asks for fewer worlds than there are."""

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        return super().initial_state(self.worlds, generator)


# -- hangs and exceptions --------------------------------------------------------------------------


class HangLoop(SpoilsTransitions):
    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        while True:
            transition = replace(transition)


class HangSleep(SpoilsTransitions):
    """In its 60th step."""

    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        while self.calls >= 60:
            time.sleep(0.01)
        return transition


class HangInC(SpoilsTransitions):
    """Where no signal gets through."""

    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        sum(itertools.repeat(0, 10**12))
        return transition


class RaisesSoon(SpoilsTransitions):
    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        if self.calls >= 4:
            raise ValueError("the firm went bankrupt")
        return transition


class RaisesLate(SpoilsTransitions):
    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        if self.calls >= 60:
            raise ValueError("the firm went bankrupt")
        return transition


class Unbuildable(Right):
    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        raise FileNotFoundError("no such file: prices.csv")


class NoMarket:
    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        self.worlds = worlds


class NumbersFromOne(OtherMaker):
    maker: ClassVar[dict[str, Any]] = {"action_space": gym.spaces.Discrete(3, start=1)}


class UnequalBranches(OtherMaker):
    maker: ClassVar[dict[str, Any]] = {"action_space": gym.spaces.MultiDiscrete([3, 4])}


class MaskedBox(Right):
    def __init__(self, parameters: Any, *, worlds: int, device: str = "cpu") -> None:
        super().__init__(parameters, worlds=worlds, device=device)
        self.groups = {name: replace(group, masked=True) for name, group in self.groups.items()}


class MaskTooWide(OtherMaker):
    maker: ClassVar[dict[str, Any]] = {"action_space": gym.spaces.Discrete(99), "masked": True}


# -- what only shows over time or elsewhere --------------------------------------------------------


class GlobalRandomness(SpoilsTransitions):
    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return with_rewards(transition, lambda r: r + 0.01 * torch.rand_like(r))


class OwnRandomness(SpoilsTransitions):
    """Draws from a generator that no seed reaches."""

    rng = np.random.default_rng()

    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return with_rewards(transition, lambda r: r + float(self.rng.normal()))


class OtherProcess(SpoilsTransitions):
    """Text hashes differently in every process."""

    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return with_rewards(transition, lambda r: r + hash("price") / 2**62)


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


class HiddenState(SpoilsTransitions):
    """Its volume is not part of its state."""

    volume: Any = 0.0

    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        self.volume = 0.9 * self.volume + actions["traders"].abs().mean()
        return with_rewards(transition, lambda r: r - 0.1 * self.volume)

    def reset(self, seed: int) -> dict[str, Tensor]:
        self.volume = 0.0
        return super().reset(seed)


class WorldsLeak(SpoilsTransitions):
    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return with_rewards(transition, lambda r: r - r.mean(0))


class WorldIndex(SpoilsTransitions):
    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return with_rewards(transition, lambda r: r + 0.1 * torch.arange(len(r))[:, None])


class NotExchangeable(SpoilsTransitions):
    exchangeable = True

    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return with_rewards(transition, lambda r: r * torch.arange(r.shape[1]))


class RestartedFinals(Right):
    def step(self, actions: Mapping[str, Tensor]) -> Step:
        step = super().step(actions)
        if step.ended is None:
            return step
        last = {
            group: observations[step.ended.worlds]
            for group, observations in step.observations.items()
        }
        return replace(step, ended=replace(step.ended, observations=last))


class NoGradient(SpoilsTransitions):
    def spoil(self, transition: Transition, actions: Mapping[str, Tensor]) -> Transition:
        return replace(
            transition,
            rewards={group: reward.detach() for group, reward in transition.rewards.items()},
        )


class NoGlobalState(Right):
    def observe_globally(self, state: State) -> Tensor | None:
        return None


class IllegalScript(Right):
    def scripts(self) -> Mapping[str, PolicyFunction]:
        return {"wait": lambda observations: torch.full_like(observations[..., :1], 3.0)}


# -- a market that is no TensorMarket --------------------------------------------------------------


class ForeignFinals(Foreign):
    def final(self, last: dict[str, Tensor]) -> dict[str, Tensor]:
        return self._observations()


class ForeignNanFinals(Foreign):
    """Only in what agents last saw."""

    def final(self, last: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"guessers": last["guessers"] * torch.nan}


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


FOREIGN: dict[str, Any] = {"scripts": (), "global_state": False}
FOREIGN |= {"groups": lambda parameters: {"guessers": 2}}

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
WRONG_COUNT = _spec("Right", groups=lambda p: {"traders": p.traders + 1, "maker": 1})
FOREIGN_RIGHT = _spec("Foreign", **FOREIGN)
FOREIGN_FINALS = _spec("ForeignFinals", **FOREIGN)
FOREIGN_NAN_FINALS = _spec("ForeignNanFinals", **FOREIGN)
FOREIGN_INDICES = _spec("ForeignIndices", **FOREIGN)
FOREIGN_BUFFER = _spec("ForeignBuffer", **FOREIGN)
