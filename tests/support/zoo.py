"""PettingZoo environments of somebody else's: one with every kind of space and fault, one bare."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from pettingzoo import ParallelEnv

from rl_markets.envs.pettingzoo import SPEC
from rl_markets.envs.pettingzoo.market import ForeignMarket
from rl_markets.envs.pettingzoo.parameters import ForeignParameters
from rl_markets.envs.pettingzoo.spaces import branches

SEEN = gym.spaces.Dict(
    {
        "target": gym.spaces.Discrete(3),
        "mood": gym.spaces.Box(-1, 1, (2,), np.float64),
        "pair": gym.spaces.Tuple((gym.spaces.MultiBinary(2), gym.spaces.MultiDiscrete([2, 3]))),
    }
)
ZOO = "tests.support.zoo:Zoo"
BARE = "tests.support.zoo:Bare"
STRICT = "tests.support.zoo:Strict"
WIDTH = 2 + (2 + 5) + 3  # mood, pair, target: a Dict goes by the alphabet


class Zoo(ParallelEnv):  # type: ignore[misc]
    """Red agents name the target they see (actions start at 5), blue ones hit a number.

    Some leave, some come late.

    Args:
        lives: agent -> steps after which it terminates.
        cuts: agent -> steps after which it is truncated.
        born: agent -> step in which it appears.
        pauses: agent -> steps after which it is missing from `agents`, and there again.
        periods: steps after which everybody is truncated.
        fault: what is wrong, from step 2 on.
    """

    metadata = {"name": "zoo"}  # noqa: RUF012

    def __init__(
        self,
        lives: Any = None,
        cuts: Any = None,
        born: Any = None,
        pauses: Any = None,
        periods: int = 6,
        fault: str = "",
        broken: bool = False,
    ) -> None:
        if broken:
            raise KeyError("no such\nworld")
        self.possible_agents = ["red_0", "blue_0", "red_1"]
        self.agents: list[str] = []
        self.lives = lives or {}
        self.cuts = cuts or {}
        self.born = born or {}
        self.pauses = pauses or {}
        self.periods = periods
        self.fault = fault
        self.actions: list[Any] = []

    def observation_space(self, agent: str) -> Any:
        return SEEN if agent.startswith("red") else gym.spaces.Box(-1, 1, (2, 2), np.float32)

    def action_space(self, agent: str) -> Any:
        if agent.startswith("red"):
            return gym.spaces.Discrete(3, start=5)
        return gym.spaces.Box(-2, 0.3, (1,), np.float64)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.random = np.random.default_rng(seed)
        self.steps = 0
        self.agents = [agent for agent in self.possible_agents if agent not in self.born]
        return self._observe(), {agent: {} for agent in self.agents}

    def _observe(self) -> dict[str, Any]:
        draw = self.random
        self.target = int(draw.integers(3))
        pair = (
            draw.integers(2, size=2, dtype=np.int8),
            np.array([draw.integers(2), draw.integers(3)]),
        )
        red = {"target": self.target, "mood": draw.uniform(-1, 1, 2), "pair": pair}
        blue = draw.uniform(-1, 1, (2, 2)).astype(np.float32)
        return {agent: red if agent.startswith("red") else blue for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> Any:
        assert set(actions) == set(self.agents)
        self.actions.append(actions)
        self.steps += 1
        rewards = {
            agent: float(action - 5 == self.target) if agent[0] == "r" else -abs(float(action[0]))
            for agent, action in actions.items()
        }
        dead = {a: self.lives.get(a) == self.steps for a in self.agents}
        cut = {a: self.steps >= self.periods or self.cuts.get(a) == self.steps for a in self.agents}
        active = self.agents
        back = {a: pause[1] for a, pause in self.pauses.items()}
        appears = [*self.born.items(), *back.items()]
        self.agents = active + [a for a, step in appears if step == self.steps]
        away = {a for a, pause in self.pauses.items() if pause[0] == self.steps}
        obs = self._observe()
        gone = {a for a in self.agents if dead.get(a) or cut.get(a)} | away
        self.agents = [a for a in self.agents if a not in gone]
        returned: Any = [obs, rewards, dead, cut, {a: {} for a in active}]
        return tuple(self._spoil(returned) if self.steps >= 2 and self.fault else returned)

    def _spoil(self, step: Any) -> Any:
        obs, right, dead, cut, infos = step
        out_of_range = obs["red_1"] | {"target": 3} if "red_1" in obs else {}
        faults: dict[str, Any] = {
            "raise": lambda: 1 / 0,
            "four": lambda: step[:4],
            "list": lambda: [obs, [1.0], dead, cut, infos],
            "no-reward": lambda: [obs, {"red_0": 1.0}, dead, cut, infos],
            "no-observation": lambda: [{"red_0": obs["red_0"]}, right, dead, cut, infos],
            "shape": lambda: [obs | {"blue_0": np.zeros(4)}, right, dead, cut, infos],
            "key": lambda: [obs | {"red_1": {"target": 0}}, right, dead, cut, infos],
            "target": lambda: [obs | {"red_1": out_of_range}, right, dead, cut, infos],
            "reward": lambda: [obs, right | {"red_1": None}, dead, cut, infos],
            "flags": lambda: [obs, right, dead | {"red_1": [True, False]}, cut, infos],
            "stranger": lambda: [self.agents.append("green_0"), step][1],
        }
        return faults[self.fault]()


class Bare(ParallelEnv):  # type: ignore[misc]
    """Two agents with spaces to order; reset and step do nothing right."""

    metadata = {"name": "bare"}  # noqa: RUF012

    def __init__(
        self, agents: int = 2, observes: str = "box", acts: str = "discrete", reset: Any = None
    ) -> None:
        if agents:
            self.possible_agents = [f"a{i}" for i in range(agents)]
        self.observes = observes
        self.acts = acts
        self.returned = reset
        self.agents = []

    def observation_space(self, agent: str) -> Any:
        return {
            "box": gym.spaces.Box(0, 1, (1,)),
            "text": gym.spaces.Text(3),
            "empty": gym.spaces.Box(0, 1, (0,)),
        }[self.observes]

    def action_space(self, agent: str) -> Any:
        return {
            "discrete": gym.spaces.Discrete(2),
            "multi": gym.spaces.MultiDiscrete([2, 2]),
            "infinite": gym.spaces.Box(-np.inf, 1, (1,)),
            "matrix": gym.spaces.Box(0, 1, (2, 2)),
            "whole": gym.spaces.Box(0, 3, (1,), np.int64),
            "point": gym.spaces.Box(0, 0, (1,)),
            "text": gym.spaces.Text(3),
        }[self.acts]

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        return self.returned if self.returned is None else ({}, {})


class Strict(ParallelEnv):  # type: ignore[misc]
    """Two agents who may do a single thing in each branch of their action, another every step.

    Anything else is refused. Each step names what is allowed in the next by a mask.

    Args:
        acts: a key of `SPACES`.
        told: `info` or `observation`, PettingZoo's two conventions; `nowhere`.
        fault: what is wrong with the mask in step 3.
    """

    metadata = {"name": "strict"}  # noqa: RUF012
    SPACES: ClassVar[dict[str, gym.spaces.Space[Any]]] = {
        "discrete": gym.spaces.Discrete(3, start=2),
        "multi": gym.spaces.MultiDiscrete([2, 4, 3]),
        "matrix": gym.spaces.MultiDiscrete([[2, 2], [3, 3]]),
        "binary": gym.spaces.MultiBinary([2, 2]),
        "box": gym.spaces.Box(
            np.array([[0, 1], [2, 3]], np.float32), np.array([[1, 2], [3, 4]], np.float32)
        ),
    }

    def __init__(self, acts: str = "discrete", told: str = "info", fault: str = "") -> None:
        self.possible_agents = ["a", "b"]
        self.agents: list[str] = []
        self.space = self.SPACES[acts]
        self.told = told
        self.fault = fault

    def observation_space(self, agent: str) -> Any:
        seen = gym.spaces.Box(-1, 1, (2,), np.float32)
        if self.told != "observation":
            return seen
        mask = gym.spaces.Box(0, 1, (sum(self.choices),), np.int8)
        return gym.spaces.Dict({"observation": seen, "action_mask": mask})

    def action_space(self, agent: str) -> Any:
        return self.space

    @property
    def choices(self) -> list[int]:
        return branches(self.space) or []

    def mask(self) -> Any:
        """The only thing that is allowed now: choice `step` modulo the choices, in every branch."""
        flat = [float(i == self.steps % n) for n in self.choices for i in range(n)]
        wrong: dict[str, Any] = {
            "short": flat[:-1],
            "nothing": [0.0] * len(flat),
            "fraction": [0.5] * len(flat),
            "nan": [np.nan] * len(flat),
        }
        return np.array(wrong[self.fault] if self.fault and self.steps == 3 else flat)

    def _returned(self) -> tuple[Any, Any]:
        seen = np.full(2, self.steps / 10, np.float32)
        whole: Any = seen
        if self.told == "observation":
            whole = {"observation": seen, "action_mask": self.mask()}
        info = {"action_mask": self.mask()} if self.told == "info" else {}
        return dict.fromkeys(self.agents, whole), dict.fromkeys(self.agents, info)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents = list(self.possible_agents)
        self.steps = 0
        return self._returned()

    def step(self, actions: dict[str, Any]) -> Any:
        for agent, action in actions.items():
            assert self.space.contains(action), f"{agent}: {action!r} is not in {self.space}"
            start = getattr(self.space, "start", 0)
            flat = np.ravel(np.asarray(action) - (0 if start is None else start))
            only = [self.steps % n for n in self.choices]
            if self.choices and self.told != "nowhere" and flat.tolist() != only:
                raise ValueError(f"illegal action of {agent}: {flat} for {only}")
        self.steps += 1
        over = self.steps >= 8
        seen, infos = self._returned()
        rewards = dict.fromkeys(self.agents, 1.0)
        ended = dict.fromkeys(self.agents, False)
        cut = dict.fromkeys(self.agents, over)
        if over:
            self.agents = []
        return seen, rewards, ended, cut, infos


NOT_CALLABLE = 3


def no_env(**_: Any) -> Any:
    return gym.Env()


def zoo(
    worlds: int = 2, groups: Any = None, max_steps: int | None = None, **arguments: Any
) -> ForeignMarket:
    """A market of zoos; `arguments` are the environment's."""
    parameters = ForeignParameters(env=ZOO, arguments=arguments, groups=groups, max_steps=max_steps)
    market = SPEC.build(parameters, worlds=worlds)
    assert isinstance(market, ForeignMarket)
    return market


def right(market: ForeignMarket) -> dict[str, torch.Tensor]:
    """Some actions of the default groups."""
    w = market.worlds
    return {"agents": torch.ones(w, 2, dtype=torch.int64), "agents_2": torch.full((w, 1, 1), -0.5)}
