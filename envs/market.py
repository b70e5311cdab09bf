"""The contract of a market: a batch of worlds, each with groups of agents, as tensors on one
device.

`Market` is what the service calls. A market's author subclasses `TensorMarket` and writes pure
functions (`initial_state`, `observe`, `draw_noise`, `transition`); clocks, automatic restarts, true
final observations, seeding and checkpoints are done there, once. Every tensor leads with `[worlds,
agents, ...]`; nothing on the training path loops over agents.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import gymnasium as gym
import torch
from torch import Tensor

from rl_markets.envs.actions import Border
from rl_markets.envs.policy import Policy as Policy  # a market's author finds all nouns here
from rl_markets.envs.policy import PolicyFunction as PolicyFunction
from rl_markets.envs.spaces import AgentSpaces, described
from rl_markets.errors import MarketError

State = dict[str, Tensor]
"""A market's state: name -> tensor `[worlds, ...]`. Everything that the future depends on, and
nothing else."""


@dataclass(frozen=True)
class AgentGroup:
    """Agents of one kind. Groups, not agents, own policies.

    Attributes:
        count: agents in each world.
        observation_space: of one agent.
        action_space: of one agent: `Discrete`, `MultiDiscrete` with as many choices in every
            branch, or a `Box`.
        masked: whether an observation ends with one entry for each choice of each branch, 1 where
            it is allowed. Policies then choose among those; a market must stand any action unless
            its masks bind.
    """

    count: int
    observation_space: gym.spaces.Box
    action_space: gym.spaces.Space[Any]
    masked: bool = False

    @property
    def spaces(self) -> AgentSpaces:
        """What an agent observes and does, in numbers."""
        return described(math.prod(self.observation_space.shape), self.action_space)


@dataclass(frozen=True)
class Owned:
    """What each agent of a group owns: the columns `[start, stop)` of a state variable, positive
    and `[worlds, agents]`.

    Attributes:
        variable: name in the state.
        start, stop: the group's agents; a stop of None is the last one.
    """

    variable: str
    start: int = 0
    stop: int | None = None

    def of(self, state: State) -> Tensor:
        """The group's own columns."""
        return state[self.variable][:, self.start : self.stop]


@dataclass(frozen=True)
class Ended:
    """The worlds whose episode ended in this step, and what their agents last saw.

    Attributes:
        worlds: `[ended]` indices, ascending.
        terminated: `[ended]` bool; False where only the clock ran out, so that the value must be
            bootstrapped.
        observations: group -> `[ended, agents, ...]`, the true final observations (before the
            restart).
        global_state: `[ended, width]`, the true final global state, where the market gives one.
    """

    worlds: Tensor
    terminated: Tensor
    observations: dict[str, Tensor]
    global_state: Tensor | None = None


@dataclass(frozen=True)
class Step:
    """What one step returns.

    Attributes:
        observations: group -> `[worlds, agents, ...]`; already those of the new episode where a
            world restarted.
        rewards: group -> `[worlds, agents]`.
        ended: the worlds that ended, or None.
        active: group -> bool `[worlds, agents]`, which agents' actions counted; None where all did.
        agent_done: group -> bool `[worlds, agents]`, agents whose own episode terminated in this
            step though their world goes on; until it ends they do not act. None where there is
            nobody.
    """

    observations: dict[str, Tensor]
    rewards: dict[str, Tensor]
    ended: Ended | None = None
    active: dict[str, Tensor] | None = None
    agent_done: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class Transition:
    """What the dynamics return: the next state, the rewards, and optionally who ended, who acted
    and who was done."""

    state: State
    rewards: dict[str, Tensor]
    terminated: Tensor | None = None
    active: dict[str, Tensor] | None = None
    agent_done: dict[str, Tensor] | None = None


class Market(ABC):
    """A batch of worlds, as the service sees it.

    Attributes:
        worlds: number of parallel worlds.
        episode_length: steps after which an episode is truncated; None for markets that end by
            themselves.
        device: where every tensor lives.
        groups: group -> its agents.
    """

    cures: ClassVar[Mapping[str, str]] = {}
    """What is advised to authors of markets -> what its author can do instead."""
    differentiable: ClassVar[bool] = False
    """True where rewards and observations carry gradients back to actions."""

    owned: Mapping[str, Owned] = {}
    """Group -> what each of its agents owns, such as its capital. Learners that differentiate may
    learn what a little more
    of it is worth (its co-state)."""

    exchangeable: ClassVar[bool] = False
    """True where a group's agents are alike: permuting their states and actions permutes what they
    get."""

    masks_bind: ClassVar[bool] = False
    """True where what a mask forbids is an error, and not only of no use: foreign environments."""

    worlds: int
    episode_length: int | None
    device: torch.device
    groups: Mapping[str, AgentGroup]

    @cached_property
    def border(self) -> Border:
        """What its agents may do."""
        return Border(self.worlds, self.groups)

    @abstractmethod
    def reset(self, seed: int) -> dict[str, Tensor]:
        """Restarts every world; the same seed gives the same bytes over all that follows.

        Returns:
            group -> observations `[worlds, agents, ...]`.
        """

    @abstractmethod
    def step(self, actions: Mapping[str, Tensor]) -> Step:
        """Advances every world by one step; worlds that end restart at once.

        Args:
            actions: group -> `[worlds, agents, ...]`, in the group's action space.

        Raises:
            ActionError: an action is outside its space; nothing has moved.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything that `load_state_dict` needs to go on with the same bytes."""

    @abstractmethod
    def load_state_dict(self, saved: Mapping[str, Any]) -> dict[str, Tensor]:
        """Goes on where `state_dict` was taken; returns the observations of that state."""

    def truncate_after(self, steps: int | None) -> None:
        """Episodes end after so many steps from now on, or by themselves alone (None).

        For judges, who look at longer episodes than training does.
        """
        self.episode_length = steps

    def align(self, steps: int) -> None:  # noqa: B027 - most markets are never asked
        """From the next `reset` on, episodes of staggered worlds begin every so many steps.

        For learners that look at states every so many steps, and would hardly ever see how an
        episode begins.
        """

    def global_state(self) -> Tensor:
        """What a central critic sees beside an agent's own observation, `[worlds, width]`.

        Raises:
            MarketError: where the market gives none.
        """
        raise MarketError(
            f"market {type(self).__name__} gives no global state; a central critic needs one"
        )

    def scripts(self) -> Mapping[str, PolicyFunction]:
        """Rules by name that groups may follow in the place of a learned policy (`scripted` in an
        experiment file)."""
        return {}

    def in_units(self, gain: float) -> tuple[float, str]:
        """A gain of discounted reward in the units of the market's users."""
        return gain, "discounted reward"

    def close(self) -> None:  # noqa: B027 - most markets hold nothing
        """Releases what the market holds."""


@runtime_checkable
class Dynamics(Protocol):
    """A market as pure functions, for learners that take gradients through it; see
    `TensorMarket`."""

    differentiable: ClassVar[bool]
    worlds: int
    device: torch.device
    groups: Mapping[str, AgentGroup]
    owned: Mapping[str, Owned]
    state: State

    def observe(self, state: State) -> dict[str, Tensor]:
        """Group -> observations `[worlds, agents, ...]`."""

    def observe_globally(self, state: State) -> Tensor | None:
        """The global state `[worlds, width]`, or None."""

    def draw_noise(self, generator: torch.Generator) -> State:
        """The shocks of one step."""

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        """The dynamics."""


class TensorMarket(Market):
    """A market as tensors. Subclasses give `groups` and four pure functions; this class steps them.

    Args:
        worlds: number of parallel worlds.
        episode_length: steps after which an episode is truncated; None for markets that end by
            themselves.
        device: where every tensor lives.
        stagger: start the worlds' clocks at random times, so that rollouts are not phase-locked.
    """

    def __init__(
        self, *, worlds: int, episode_length: int | None, device: str = "cpu", stagger: bool = True
    ) -> None:
        if worlds < 1:
            raise ValueError(f"worlds = {worlds}: expected at least 1")
        self.worlds = worlds
        self.episode_length = episode_length
        self.stagger = stagger
        self._aligned = 1
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        self.state: State = {}
        self._asked_globally = False
        self._set_clock(torch.zeros(worlds, dtype=torch.int64))

    @property
    def clock(self) -> Tensor:
        """Steps since each world's episode began, `[worlds]`; on the CPU: reading it must not wait
        for a device."""
        return self._now - self._began

    def _set_clock(self, clock: Tensor) -> None:
        # Episodes remember when they began: time itself is one number, and most steps touch no
        # tensor for their clocks.
        self._now = 0
        self._began = -clock
        self._oldest = -int(clock.max())

    # -- what a market's author writes -------------------------------------------------------------

    @abstractmethod
    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        """Draws the state of `worlds` fresh episodes."""

    @abstractmethod
    def observe(self, state: State) -> dict[str, Tensor]:
        """Group -> observations `[worlds, agents, ...]` of `state`. Pure."""

    @abstractmethod
    def draw_noise(self, generator: torch.Generator) -> State:
        """Draws the shocks of one step, for all worlds."""

    @abstractmethod
    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        """The dynamics, a pure function: `actions` is group -> `[worlds, agents, ...]`."""

    def observe_globally(self, state: State) -> Tensor | None:
        """The global state `[worlds, width]` that a central critic sees, or None where the market
        gives none. Pure."""
        return None

    # -- what the service calls --------------------------------------------------------------------

    def reset(self, seed: int) -> dict[str, Tensor]:
        """Fresh episodes in every world."""
        self.generator.manual_seed(seed)
        self.state = self.initial_state(self.worlds, self.generator)
        clock = torch.zeros(self.worlds, dtype=torch.int64)
        if self.stagger and self.episode_length is not None:
            clocks = torch.Generator().manual_seed(seed)
            begun = -(-self.episode_length // self._aligned)
            clock = self._aligned * torch.randint(begun, (self.worlds,), generator=clocks)
        self._set_clock(clock)
        return self.observe(self.state)

    def step(self, actions: Mapping[str, Tensor]) -> Step:
        """One step of the dynamics, then fresh episodes where one ended."""
        self.border.check(actions)
        moved = self.transition(self.state, actions, self.draw_noise(self.generator))
        self._now += 1
        observations = self.observe(moved.state)
        state = moved.state
        ended = None
        over = self._over(moved.terminated)
        if over is not None:
            ended = self._ended(over.to(self.device), moved, observations)
            state = self._restart(state, ended.worlds)
            self._began[over] = self._now
            self._oldest = int(self._began.min())
            observations = self.observe(state)
        self.state = state
        return Step(observations, moved.rewards, ended, moved.active, moved.agent_done)

    def align(self, steps: int) -> None:
        """Staggered clocks stand at multiples of `steps`."""
        self._aligned = steps

    def global_state(self) -> Tensor:
        """The global state of every world; from now on ended worlds come with theirs."""
        self._asked_globally = True
        found = self.observe_globally(self.state)
        return super().global_state() if found is None else found

    def _over(self, terminated: Tensor | None) -> Tensor | None:
        """Indices of the worlds that ended, or None; waits for the device only where the market can
        terminate."""
        over = None if terminated is None else terminated.cpu()
        length = self.episode_length
        if length is not None and self._oldest <= self._now - length:
            late = self._began <= self._now - length
            over = late if over is None else over | late
        return over.nonzero().squeeze(-1) if over is not None and bool(over.any()) else None

    def _ended(self, worlds: Tensor, moved: Transition, observations: dict[str, Tensor]) -> Ended:
        none = torch.zeros_like(worlds, dtype=torch.bool)
        terminated = none if moved.terminated is None else moved.terminated[worlds]
        found = self.observe_globally(moved.state) if self._asked_globally else None
        last = {group: seen[worlds] for group, seen in observations.items()}
        return Ended(worlds, terminated, last, None if found is None else found[worlds])

    def _restart(self, state: State, worlds: Tensor) -> State:
        fresh = self.initial_state(len(worlds), self.generator)
        return {name: value.index_copy(0, worlds, fresh[name]) for name, value in state.items()}

    def state_dict(self) -> dict[str, Any]:
        """State, clocks and generator."""
        return {
            "state": {
                name: value.detach().cpu().numpy().copy() for name, value in self.state.items()
            },
            "clock": self.clock.numpy().copy(),
            "generator": self.generator.get_state().numpy().copy(),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> dict[str, Tensor]:
        """The reverse of `state_dict`."""
        self.state = {
            name: torch.as_tensor(value.copy(), device=self.device)
            for name, value in saved["state"].items()
        }
        self._set_clock(torch.as_tensor(saved["clock"].copy()))
        self.generator.set_state(torch.as_tensor(saved["generator"].copy()))
        return self.observe(self.state)
