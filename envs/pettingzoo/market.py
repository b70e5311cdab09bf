"""Copies of a foreign environment, stepped one after the other, as a market of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.market import AgentGroup, Ended, Market, Step
from rl_markets.envs.pettingzoo.layout import make
from rl_markets.envs.pettingzoo.parameters import ForeignParameters
from rl_markets.envs.pettingzoo.spaces import MASK, Kind
from rl_markets.errors import MarketError

Arrays = dict[str, NDArray[Any]]
"""Group -> `[worlds, agents, ...]`."""

NUMBERS = "biuf"
"""Numpy's kinds of types that count as numbers: bool, whole, unsigned, floating."""

_FLAGS = ("terminations", "truncations")
_PARTS = ("observations", "rewards", *_FLAGS)

CURES = {
    "draw from the generator that the market is given: torch.rand(..., generator=generator)": (
        "draw from self.np_random, or a generator of its own that reset(seed=...) makes"
    ),
    "seed every generator from reset(seed); no clock, no unseeded default_rng, no draws in "
    "__init__": "make every generator anew in reset(seed=...); no clock, no draws in __init__",
    "let it depend on its parameters alone; set up nothing by import, environment or parent "
    "process": "let it depend on its arguments alone; set up nothing by import or environment",
}
"""What is advised to authors of markets -> what the author of an environment can do instead."""


class ForeignMarket(Market):
    """`worlds` copies of a `ParallelEnv`.

    A Python loop over worlds and agents: as slow as the environment itself.

    Observation `[width]`: the environment's own, flattened by `gymnasium.spaces.flatten` to single
    precision. Masks of actions, in infos or in observations (PettingZoo's two conventions), come
    last.
    Action: `Discrete`, `MultiDiscrete` (counted from 0) or a flat Box; see `spaces`. Boxes are
    clamped to the environment's own bounds, which single precision may miss by a digit.

    Agents that leave early do not act and observe zeros until their world ends, or until they come
    back. An agent that is missing from `agents` though it was neither terminated nor truncated
    pauses: it does not act, earns nothing, and goes on observing what it saw last. An agent that is
    truncated while its world goes on counts as one that terminated. A world that `max_steps` cuts,
    or in whose last step any agent was truncated, counts as truncated for all. What the environment
    itself raises passes through untouched. The same seed gives the same bytes as far as the
    environment's own `reset(seed=...)` does.

    A foreign environment has no state that could be saved: `state_dict` holds the generator of
    episode seeds, and `load_state_dict` starts fresh episodes. A resumed run is reproducible, but
    not the uninterrupted one.
    """

    masks_bind = True
    cures = CURES

    def __init__(self, parameters: ForeignParameters, *, worlds: int, device: str = "cpu") -> None:
        if worlds < 1:
            raise ValueError(f"worlds = {worlds}: expected at least 1")
        self.parameters = parameters
        self.worlds = worlds
        self.device = torch.device(device)
        self.episode_length: int | None = parameters.max_steps
        self.kinds = parameters.layout()
        self.groups = {name: _agent_group(kind) for name, kind in self.kinds.items()}
        self.envs = [make(parameters.env, parameters.arguments) for _ in range(worlds)]
        self.generator = torch.Generator()
        self._place = {
            agent: (group, i)
            for group, kind in self.kinds.items()
            for i, agent in enumerate(kind.agents)
        }
        # Written in place, world by world, and copied when they are returned.
        self._observations = {
            name: np.zeros((worlds, group.count, *group.observation_space.shape), np.float32)
            for name, group in self.groups.items()
        }
        self._nothing = {name: _nothing(kind) for name, kind in self.kinds.items()}
        self._active = self._zeros(bool)
        self._paused = self._zeros(bool)
        self._live = [list[Any]() for _ in range(worlds)]
        self._clock = [0] * worlds
        self._no_state: str | None = "reset it first"

    # -- what the service calls --------------------------------------------------------------------

    def reset(self, seed: int) -> dict[str, Tensor]:
        """Fresh episodes in every world, each with a seed of its own."""
        self.generator.manual_seed(seed)
        return self._restart_all()

    def step(self, actions: Mapping[str, Tensor]) -> Step:
        """Every world in turn; worlds that end restart at once."""
        self.border.check(actions)
        native = {
            group: kind.native(actions[group].detach().cpu().numpy())
            for group, kind in self.kinds.items()
        }
        # Who has left observes nothing from the step after its last on; who pauses, what it saw.
        for group, observations in self._observations.items():
            gone = ~(self._active[group] | self._paused[group])
            observations[gone] = self._nothing[group]
        active = {group: mask.copy() for group, mask in self._active.items()}
        rewards = self._zeros(np.float32)
        agent_done = self._zeros(bool)
        ends = {}
        for world in range(self.worlds):
            terminated = self._step(world, native, rewards, agent_done)
            if terminated is not None:
                ends[world] = terminated
        ended = self._ended(ends) if ends else None
        for world in ends:
            self._restart(world)
        anybody_done = any(mask.any() for mask in agent_done.values())
        return Step(
            self._tensors(self._observations),
            self._tensors(rewards),
            ended,
            # Always: runners' fragments are joined, and must hold the same columns.
            active=self._tensors(active),
            agent_done=self._tensors(agent_done) if anybody_done else None,
        )

    def state_dict(self) -> dict[str, Any]:
        """The generator of episode seeds."""
        return {"generator": self.generator.get_state().numpy().copy()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> dict[str, Tensor]:
        """Fresh episodes, with seeds that follow those drawn before `state_dict`."""
        self.generator.set_state(torch.as_tensor(saved["generator"].copy()))
        return self._restart_all()

    def global_state(self) -> Tensor:
        """The environments' `state()`, flattened, `[worlds, width]`."""
        if self._no_state is not None:
            raise MarketError(
                f"{self.parameters.env} gives no global state, a central critic needs one: "
                f"{self._no_state}"
            )
        return self._states(range(self.worlds))

    def close(self) -> None:
        """Closes every environment."""
        for env in self.envs:
            env.close()

    # -- one world ---------------------------------------------------------------------------------

    def _step(self, world: int, native: Arrays, rewards: Arrays, agent_done: Arrays) -> bool | None:
        """Steps one world, and writes what it returns into the arrays.

        Returns:
            None where the world goes on, otherwise whether it terminated (and was not truncated).
        """
        env = self.envs[world]
        live = self._live[world]
        self._clock[world] += 1
        place = self._place
        actions = {agent: native[place[agent][0]][world, place[agent][1]] for agent in live}
        parts = self._parts(world, live, env.step(actions))
        for agent in live:
            group, i = place[agent]
            self._observe(world, agent, parts["observations"], parts["infos"])
            rewards[group][world, i] = self._number(world, agent, parts["rewards"][agent])
        truncated = [agent for agent in live if parts["truncations"][agent]]
        done = {*truncated, *(agent for agent in live if parts["terminations"][agent])}
        next_live = self._next_live(world, done)
        if not next_live:
            return not truncated
        if self.episode_length is not None and self._clock[world] >= self.episode_length:
            return False
        for agent in next_live:
            if agent not in live:  # PettingZoo allows agents to be born later
                self._observe(world, agent, parts["observations"], parts["infos"])
        for agent in done:
            group, i = place[agent]
            agent_done[group][world, i] = True
        for agent in {*live} - done - {*next_live}:
            group, i = place[agent]
            self._paused[group][world, i] = True
        self._go_on(world, next_live)
        return None

    def _go_on(self, world: int, live: list[Any]) -> None:
        """Notes who acts in the next step."""
        if live != self._live[world]:
            self._live[world] = live
            for agent, (group, i) in self._place.items():
                self._active[group][world, i] = agent in live
                self._paused[group][world, i] &= agent not in live

    def _next_live(self, world: int, done: set[Any]) -> list[Any]:
        """The agents that act in the next step, in the environment's order.

        Raises:
            MarketError: where the environment's `agents` contradict what it said of them.
        """
        named = list(self.envs[world].agents)
        for agent in named:
            if agent not in self._place:
                raise self._error(world, f"agents hold {agent!r}, which is not in possible_agents")
        return [agent for agent in named if agent not in done]

    def _restart(self, world: int) -> None:
        """A fresh episode, with a seed drawn from the market's generator."""
        seed = int(torch.randint(2**31 - 1, (), generator=self.generator))
        returned = self.envs[world].reset(seed=seed)
        self._clock[world] = 0
        self._live[world] = []
        for paused in self._paused.values():
            paused[world] = False
        pair = isinstance(returned, tuple) and len(returned) == 2
        if not pair or not isinstance(returned[0], dict):
            raise self._error(
                world, f"reset returned {_brief(returned)}: expected (observations, infos)"
            )
        live = self._next_live(world, set())
        if not live:
            raise self._error(world, "agents is empty after reset: expected those who act first")
        self._go_on(world, live)
        for group, observations in self._observations.items():
            observations[world] = self._nothing[group]
        for agent in live:
            self._observe(world, agent, returned[0], returned[1])

    def _restart_all(self) -> dict[str, Tensor]:
        for world in range(self.worlds):
            self._restart(world)
        self._no_state = self._why_no_state()
        return self._tensors(self._observations)

    def _why_no_state(self) -> str | None:
        """What speaks against `state()`; None where it gives numbers.

        Few environments have it and few critics need it, so that this is no error yet.
        """
        try:
            state = self.envs[0].state()
        except Exception as error:
            # PettingZoo's own way is NotImplementedError, others break in theirs.
            said = (str(error).splitlines() or [""])[0]
            return f"state() raises {type(error).__name__}: {said}"
        if np.asarray(state).dtype.kind in NUMBERS:
            return None
        return f"state() returns {_brief(state)}: expected an array of numbers"

    # -- what the environment returns --------------------------------------------------------------

    def _parts(self, world: int, live: list[Any], returned: Any) -> dict[str, dict[Any, Any]]:
        """What `step` returned, by name; every agent that acted is in every part."""
        if not isinstance(returned, tuple) or len(returned) != 5:
            raise self._error(
                world, f"step returned {_brief(returned)}: expected ({', '.join(_PARTS)}, infos)"
            )
        parts = dict(zip(_PARTS, returned[:4], strict=True))
        infos = {"infos": returned[4]}
        for name, part in parts.items():
            if not isinstance(part, dict):
                raise self._error(world, f"{name} are {_brief(part)}: expected a dict of agents")
            for agent in live:
                if agent not in part:
                    raise self._error(world, f"{name} lack agent {agent!r}, which acted")
                if name in _FLAGS and type(part[agent]) is not bool and np.ndim(part[agent]) != 0:
                    raise self._error(
                        world,
                        f"{name} of agent {agent!r} are {_brief(part[agent])}: expected a bool",
                    )
        return parts | infos

    def _observe(self, world: int, agent: Any, observations: Mapping[Any, Any], infos: Any) -> None:
        """Writes an agent's observation into the market's array, flat, its mask last."""
        group, i = self._place[agent]
        kind = self.kinds[group]
        if agent not in observations:
            raise self._error(world, f"observations lack agent {agent!r}, which acts next")
        value = observations[agent]
        told = None
        if kind.mask_in == "observation" and isinstance(value, Mapping):
            told = value.get(MASK)
            value = {name: part for name, part in value.items() if name != MASK}
        elif kind.mask_in == "info" and isinstance(infos, Mapping):
            told = (infos.get(agent) or {}).get(MASK)
        space = kind.observation_space
        if (odd := _misfit(space, value)) is not None:
            raise self._error(world, f"observation of agent {agent!r} {odd}")
        row = self._observations[group][world, i]
        seen = kind.width
        row[:seen] = (
            np.ravel(value)
            if isinstance(space, gym.spaces.Box)
            else gym.spaces.flatten(space, value)
        )
        if kind.masked:
            row[seen:] = self._mask(world, agent, kind, told)

    def _mask(self, world: int, agent: Any, kind: Kind, told: Any) -> NDArray[np.float32]:
        """What an agent may choose next; a MarketError where that cannot be told."""
        try:
            mask: NDArray[np.float32] = kind.mask(told)
        except ValueError as error:
            raise self._error(
                world, f"{MASK} of agent {agent!r} is {_brief(told)}: {error}"
            ) from None
        return mask

    def _number(self, world: int, agent: Any, value: Any) -> float:
        """An agent's reward; a MarketError where it is not one number."""
        number = np.asarray(value)
        if number.ndim or number.dtype.kind not in NUMBERS:
            raise self._error(
                world, f"reward of agent {agent!r} is {_brief(value)}: expected a number"
            )
        return float(number)

    def _error(self, world: int, problem: str) -> MarketError:
        return MarketError(
            f"{self.parameters.env}: {problem}; world {world}, step {self._clock[world]} of its "
            "episode"
        )

    # -- tensors -----------------------------------------------------------------------------------

    def _ended(self, ends: dict[int, bool]) -> Ended:
        """The true final observations and states, before anything restarts."""
        worlds = list(ends)
        last = {name: rows[worlds] for name, rows in self._observations.items()}
        return Ended(
            torch.tensor(worlds, device=self.device),
            torch.tensor(list(ends.values()), dtype=torch.bool, device=self.device),
            self._tensors(last),
            self._states(worlds) if self._no_state is None else None,
        )

    def _states(self, worlds: Sequence[int]) -> Tensor:
        """The flat `state()` of these worlds, `[len(worlds), width]`."""
        rows = [np.asarray(self.envs[world].state(), np.float32).ravel() for world in worlds]
        for world, row in zip(worlds, rows, strict=True):
            if row.shape != rows[0].shape:
                raise self._error(
                    world, f"state() has {row.size} entries: expected {rows[0].size}, as in world 0"
                )
        return torch.from_numpy(np.stack(rows)).to(self.device)

    def _tensors(self, arrays: Arrays) -> dict[str, Tensor]:
        """Copies: what was returned stays as it was when the buffers are written again."""
        return {
            group: torch.from_numpy(array.copy()).to(self.device) for group, array in arrays.items()
        }

    def _zeros(self, dtype: Any) -> Arrays:
        """Group -> `[worlds, agents]`."""
        return {
            name: np.zeros((self.worlds, group.count), dtype) for name, group in self.groups.items()
        }


def _agent_group(kind: Kind) -> AgentGroup:
    """The flattened spaces of a group."""
    width = len(_nothing(kind))
    observation = gym.spaces.Box(-np.inf, np.inf, (width,), np.float32)
    return AgentGroup(len(kind.agents), observation, kind.market_space, masked=kind.masked)


def _nothing(kind: Kind) -> NDArray[np.float32]:
    """What an agent observes that does not act: zeros, and that everything is allowed."""
    seen = np.zeros(kind.width, np.float32)
    return np.concatenate([seen, kind.mask(None)]) if kind.masked else seen


def _brief(value: Any) -> str:
    """A value in one short line, with its type."""
    return f"{type(value).__name__} {' '.join(str(value).split())[:60]}"


def _misfit(space: Any, value: Any) -> str | None:
    """What is wrong with an observation of `space`, or None.

    Bounds of boxes are not held against it.
    """
    if isinstance(space, gym.spaces.Box):
        shape = np.shape(value)
        return None if shape == space.shape else f"has shape {shape}: expected {space.shape}"
    if isinstance(space, gym.spaces.Tuple):
        if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
            return f"{_short(value)}: expected a tuple of {len(space.spaces)}"
        misfits = map(_misfit, space.spaces, value)
        return next((odd for odd in misfits if odd), None)
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(value, dict) or value.keys() != space.spaces.keys():
            return f"{_short(value)}: expected a dict of {', '.join(map(str, space.spaces))}"
        for key, part in space.spaces.items():
            if odd := _misfit(part, value[key]):
                return f"[{key!r}] {odd}"
        return None
    return None if space.contains(value) else f"{_short(value)}: expected one of {space}"


def _short(value: Any) -> str:
    return f"is {str(value)[:40]!r}"
