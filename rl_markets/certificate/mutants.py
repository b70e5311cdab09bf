"""Mutation testing of certificates: bad policies made from the answer, and whether they pass.

Each mutant is the answer's policy, or a trained one's, with one fault: an action reacts to a column
of the observation, close to where the market rests or far from there; a column is not seen any
more; an action is too high or too low, of all agents or by turns; in one agent's place or in all. A
mutant is played in the market: it loses what the policy without the fault gains in the faulty one's
place. One that loses more than the limit and is certified is a blind spot of the certificate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from rl_markets.certificate import tables
from rl_markets.certificate.certify import certificate_of
from rl_markets.certificate.document import Certificate
from rl_markets.certificate.in_play import Play, kinds_of_start
from rl_markets.envs.answer_key import AnswerKey
from rl_markets.envs.checks import choices, mask_width
from rl_markets.envs.in_play import gains_in_place, places, reach, replaced
from rl_markets.envs.market import AgentGroup, Market, Policy, PolicyFunction
from rl_markets.experiment import Experiment
from rl_markets.rllib.build import build_market

SEED = 3_000_000
"""Mutants are played on other starts and shocks than certificates are made on."""
FIRST = 0.1
"""The first size of a fault, as a share of the action's range."""
SIZES = (0.003, 0.5)
"""The smallest and the largest."""
HARM = 3.0
"""Faults are made so large that they cost so many times the limit, where they can."""
SURE = 1.5
"""The loss in play on two seeds decides where it is so many times the limit."""
STEPS = (1, 2, 4)
"""Sizes of faults of discrete actions, in choices."""

Shape = Callable[[Tensor], Tensor]
"""Observations `[worlds, agents, observation]` -> a fault between -1 and 1, `[worlds, agents]`."""


@dataclass(frozen=True)
class Fault:
    """One way to be wrong.

    Attributes:
        name: in words.
        group: whose policy it is in.
        alone: whether one agent has it, or all.
        of: its size -> the faulty policy of the group.
        sized: whether its size matters.
    """

    name: str
    group: str
    alone: bool
    of: Callable[[float], PolicyFunction]
    sized: bool


@dataclass(frozen=True)
class Mutant:
    """A fault that was tried.

    Attributes:
        name: of the fault.
        size: of the fault, as a share of the action's range or in choices.
        loss, limit: in the units of the market's users.
        unit: of those.
        verdict: what the certificate says of it; empty where it loses less than the limit.
        blind: whether it loses more than the limit and is certified.
    """

    name: str
    size: float
    loss: float
    limit: float
    unit: str
    verdict: str
    blind: bool


class _Loss(NamedTuple):
    """What a fault costs: the mean, and what it costs surely, two standard errors less."""

    mean: float
    surely: float


class Mutations:
    """The faults that a profile's policies can have, tried one by one.

    Args:
        experiment: as it is judged.
        key: the market's judge.
        base: group -> the policy without fault; of groups that do not learn what they follow.
    """

    def __init__(
        self, experiment: Experiment, key: AnswerKey, base: Mapping[str, PolicyFunction]
    ) -> None:
        self.experiment = experiment
        self.key = key
        self.base = {group: Policy(policy) for group, policy in base.items()}

    @cached_property
    def market(self) -> Market:
        """In which is looked at what is observed; as many worlds as certificates look at."""
        everybody = self.experiment.agents
        return build_market(self.experiment, "cpu", len(places(everybody, everybody)))

    @cached_property
    def plays(self) -> dict[str, Play]:
        """Learning group -> its places, as certificates look at them, on two seeds."""
        seeds = [SEED + 1, SEED + 2]
        groups = self.experiment.learning_groups
        return {group: Play(self.experiment, self.key, group, seeds) for group in groups}

    @cached_property
    def limits(self) -> dict[str, float]:
        """Learning group -> discounted reward that one of its agents may lose."""
        return {group: play.limit(self.nothing) for group, play in self.plays.items()}

    @cached_property
    def nothing(self) -> dict[str, PolicyFunction]:
        """Group -> a policy that knows nothing, for limits that are counted from one."""
        return {group: _lowest(agents) for group, agents in self.market.groups.items()}

    def certificate(self, policies: Mapping[str, PolicyFunction], first_seed: int) -> Certificate:
        """What is said of a profile, on seeds from `first_seed` on."""
        seeds = [first_seed + i for i in range(self.experiment.certificate.seeds)]
        return certificate_of(self.experiment, self.key, policies, self.nothing, seeds)

    @cached_property
    def seen(self) -> dict[str, list[Tensor]]:
        """Group -> observations from the market's own starts, and where the profile rests."""
        group = self.experiment.learning_groups[0]
        starts = kinds_of_start(self.experiment.gamma(group))
        with torch.no_grad():
            by_time = [reach(self.market, self.base, SEED, steps) for steps in starts.values()]
        return {group: [seen[group] for seen in by_time] for group in by_time[0]}

    # -- faults ------------------------------------------------------------------------------------

    def faults(self) -> Iterator[Fault]:
        """All of them, group by group."""
        for group in self.experiment.learning_groups:
            agents = self.market.groups[group]
            seats = (False, True) if agents.count > 1 else (False,)
            for name, of, sized in self._ways(group, agents):
                for alone in seats:
                    where = f", {group}" if len(self.market.groups) > 1 else ""
                    who = ", one agent" if alone else ""
                    faulty = self._alone(group, of) if alone else of
                    yield Fault(f"{name}{where}{who}", group, alone, faulty, sized)

    def _ways(
        self, group: str, agents: AgentGroup
    ) -> Iterator[tuple[str, Callable[[float], PolicyFunction], bool]]:
        """Names and makers of the faults of a group's policy."""
        base = self.base[group]
        starts, rest = self.seen[group]
        both = torch.cat([starts, rest]).double()
        width = both.shape[-1] - (mask_width(agents.action_space) if agents.masked else 0)
        shapes = _shifts(agents.count)
        for column in range(width):
            spread = float(both[..., column].std())
            if spread < 1e-6 * (1 + float(both[..., column].abs().max())):
                continue  # a column that never moves: nothing can react to it
            middle = float(rest[..., column].double().median())
            yield f"blind to observation {column}", _blind(base, column, middle), False
            shapes |= _shapes(column, middle, spread)
        for action in range(_actions(agents.action_space)):
            for how, shape in shapes.items():
                of = _reacting(base, agents.action_space, action, shape)
                yield f"action {action} {how}", of, True

    def _alone(
        self, group: str, of: Callable[[float], PolicyFunction]
    ) -> Callable[[float], PolicyFunction]:
        """The fault in one agent's place."""
        base = self.base[group]
        agents = self.market.groups[group].count
        one = torch.arange(agents) == agents // 2
        return lambda size: replaced(base, of(size), one)

    # -- what they cost, and what is said of them --------------------------------------------------

    def tried(self) -> Iterator[Mutant]:
        """Each fault in turn: what it costs, and what the certificate says of it."""
        for fault in self.faults():
            yield self.attempt(fault)

    def attempt(self, fault: Fault) -> Mutant:
        """What a fault costs, and what the certificate says of who has it."""
        limit = self.limits[fault.group]
        size, policy, loss = self._sized(fault, limit)
        in_units = self.market.in_units
        verdict = ""
        blind = False
        if loss.mean > limit:
            verdict, certified = self._judge(fault, policy)
            blind = certified and loss.surely > limit
            if certified and not blind:
                verdict = "certified; whether it loses more than the limit, chance hides"
        value, unit = in_units(loss.mean)
        return Mutant(fault.name, size, value, in_units(limit)[0], unit, verdict, blind)

    def _sized(self, fault: Fault, limit: float) -> tuple[float, PolicyFunction, _Loss]:
        """The fault in a size that costs more than the limit, or else in the largest."""
        if not fault.sized:
            policy = fault.of(1.0)
            return 1.0, policy, self._loss(fault, policy)
        space = self.market.groups[fault.group].action_space
        if not isinstance(space, gym.spaces.Box):
            for size in STEPS:
                policy = fault.of(float(size))
                loss = self._loss(fault, policy)
                if loss.mean > HARM / 2 * limit:
                    break
            return float(size), policy, loss
        loss = self._loss(fault, fault.of(FIRST))
        # Losses grow with the square of a fault, as long as it is small.
        wanted = FIRST * (HARM * limit / max(loss.mean, 1e-12)) ** 0.5
        size = min(max(wanted, SIZES[0]), SIZES[1])
        policy = fault.of(size)
        loss = self._loss(fault, policy)
        # Where chance hides what a fault costs, a larger one shows.
        while loss.surely <= limit < loss.mean and size < SIZES[1]:
            size = min(2 * size, SIZES[1])
            policy = fault.of(size)
            loss = self._loss(fault, policy)
        return size, policy, loss

    def _loss(self, fault: Fault, policy: PolicyFunction) -> _Loss:
        """What the policy without fault gains in a faulty agent's place."""
        group = fault.group
        agents = self.experiment.groups[group]
        leaving = places(agents, self.experiment.agents)
        leaving = leaving[:: max(1, len(leaving) // 20)] if agents > 1 else leaving
        if fault.alone:
            leaving = (torch.arange(agents) == agents // 2).expand(len(leaving), -1)
        market = build_market(self.experiment, "cpu", len(leaving))
        gamma = self.experiment.gamma(group)
        profile = self.base | {group: Policy(policy)}
        by_start = [
            gains_in_place(
                market,
                profile,
                group,
                self.base[group],
                leaving,
                gamma,
                seed=SEED,
                burn_in=steps,
            ).gain
            for steps in kinds_of_start(gamma).values()
        ]
        means = [float(gain.mean()) for gain in by_start]
        errors = [float(gain.std() / len(gain) ** 0.5) for gain in by_start]
        surely = max(mean - 2 * error for mean, error in zip(means, errors, strict=True))
        return _Loss(max(means), surely)

    def _judge(self, fault: Fault, policy: PolicyFunction) -> tuple[str, bool]:
        """What the certificate says of a mutant, and whether it certifies it."""
        profile = self.base | {fault.group: Policy(policy)}
        for group, play in self.plays.items():
            if self.key.complete or play.answer is None:
                break
            worst = play.worst(profile)
            if worst.loss > SURE * self.limits[group]:
                return f"refused: loss in play, {group} ({worst.who})", False
        certificate = self.certificate(profile, SEED + 1)
        if certificate.passed:
            return "CERTIFIED", True
        if certificate.passed is None:
            return tables.verdict(certificate), False
        return f"refused: {certificate.missed[0].label}", False


def _shapes(column: int, middle: float, spread: float) -> dict[str, Shape]:
    """Faults that look at one column: close to where it rests, and far away from there."""

    def at_rest(seen: Tensor) -> Tensor:
        return torch.tanh((seen[..., column].double() - middle) / spread)

    def away(seen: Tensor) -> Tensor:
        far = (seen[..., column].double() - middle).abs() / spread
        return torch.tanh((far - 1).clamp_min(0))

    return {
        f"reacts at rest to observation {column}": at_rest,
        f"reacts away to observation {column}": away,
    }


def _shifts(agents: int) -> dict[str, Shape]:
    """Faults that look at nothing: of everybody alike, and where agents differ."""

    def by(sign: float) -> Shape:
        return lambda seen: torch.full(seen.shape[:-1], sign, dtype=torch.float64)

    shifts = {"is too high": by(1.0), "is too low": by(-1.0)}
    if agents > 1:
        signs = 1.0 - 2.0 * (torch.arange(agents, dtype=torch.float64) % 2)
        shifts["is too high or too low by turns"] = lambda seen: signs.expand(seen.shape[:-1])
    return shifts


def _blind(base: PolicyFunction, column: int, value: float) -> Callable[[float], PolicyFunction]:
    """A policy to which a column of the observation always says the same."""

    def act(observations: Tensor) -> Tensor:
        seen = observations.clone()
        seen[..., column] = value
        return base(seen)

    return lambda size: act


def _reacting(
    base: PolicyFunction, space: gym.spaces.Space[Any], action: int, shape: Shape
) -> Callable[[float], PolicyFunction]:
    """A policy one of whose actions has a fault of a shape."""

    def of(size: float) -> PolicyFunction:
        def act(observations: Tensor) -> Tensor:
            actions = base(observations).clone()
            fault = size * shape(observations)
            if isinstance(space, gym.spaces.Box):
                low = float(space.low.flat[action])
                high = float(space.high.flat[action])
                moved = actions[..., action].double() + (high - low) * fault
                actions[..., action] = moved.clamp(low, high).to(actions.dtype)
                return actions
            own = actions if isinstance(space, gym.spaces.Discrete) else actions[..., action]
            moved = (own + torch.round(fault).to(own.dtype)).clamp(0, choices(space) - 1)
            if isinstance(space, gym.spaces.Discrete):
                return moved
            actions[..., action] = moved
            return actions

        return act

    return of


def _lowest(agents: AgentGroup) -> PolicyFunction:
    """The lowest action, whatever is observed: a policy that knows nothing."""
    space = agents.action_space
    low = torch.from_numpy(space.low) if isinstance(space, gym.spaces.Box) else None

    def act(observations: Tensor) -> Tensor:
        shape = observations.shape[:-1]
        if low is not None:
            return low.expand(*shape, *low.shape)
        if isinstance(space, gym.spaces.Discrete):
            return torch.zeros(shape, dtype=torch.int64)
        return torch.zeros((*shape, _actions(space)), dtype=torch.int64)

    return act


def _actions(space: gym.spaces.Space[Any]) -> int:
    """Actions, or branches, of one agent."""
    return math.prod(space.shape or ())
