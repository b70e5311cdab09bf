"""A small differentiable market in which worlds end and growers leave.

It has two groups; what learners make of it is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from rl_markets.envs import registry
from rl_markets.envs.market import AgentGroup, Owned, State, TensorMarket, Transition
from rl_markets.envs.spec import MarketSpec

SEES = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
ACTS = gym.spaces.Box(0.1, 0.9, (1,), np.float32)


class OrchardParameters(BaseModel):
    """Worlds end after `ends` periods, the second grower leaves after `leaves`.

    Both are counted from a random start.
    """

    model_config = ConfigDict(extra="forbid")
    ends: int = 10**6
    leaves: int = 10**6
    owned: bool = True


class Orchard(TensorMarket):
    """Two growers eat a share of their trees; a merchant owns gold.

    Trees grow better where the merchant sets a high price.
    """

    differentiable = True
    owned: Mapping[str, Owned] = {"growers": Owned("trees"), "merchants": Owned("gold")}

    def __init__(
        self,
        parameters: OrchardParameters,
        *,
        worlds: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(worlds=worlds, episode_length=50, device=device)
        self.parameters = parameters
        self.dtype = dtype
        if not parameters.owned:
            self.owned = {}  # type: ignore[misc]
        self.groups = {"growers": AgentGroup(2, SEES, ACTS), "merchants": AgentGroup(1, SEES, ACTS)}

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        options: Any = {"generator": generator, "dtype": self.dtype}
        return {
            "trees": 0.5 + torch.rand((worlds, 2), **options),
            "gold": 0.5 + torch.rand((worlds, 1), **options),
            "age": torch.randint(3, (worlds, 1), generator=generator).to(self.dtype),
        }

    def observe(self, state: State) -> dict[str, Tensor]:
        trees = torch.log(state["trees"])
        gold = torch.log(state["gold"])
        mean = trees.mean(-1, keepdim=True)
        return {
            "growers": torch.stack((trees, gold.expand_as(trees)), -1),
            "merchants": torch.stack((gold, mean), -1),
        }

    def draw_noise(self, generator: torch.Generator) -> State:
        return {"rain": 0.1 * torch.randn((self.worlds, 2), generator=generator, dtype=self.dtype)}

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        eaten = actions["growers"].squeeze(-1)
        price = actions["merchants"].squeeze(-1)
        trees = state["trees"]
        gold = state["gold"]
        age = state["age"] + 1
        crop = eaten * trees
        sold = crop.mean(-1, keepdim=True)
        next_state = {
            "trees": ((1 - eaten) * trees) ** 0.5 * torch.exp(noise["rain"]) * (1 + price),
            "gold": gold**0.7 * torch.exp(0.2 * sold - 0.3 * price),
            "age": age,
        }
        rewards = {
            "growers": torch.log(crop) + 0.1 * price,
            "merchants": torch.log(gold) + torch.log(sold * (1 - price)),
        }
        agent_done = torch.cat(
            (torch.zeros_like(age, dtype=torch.bool), age == self.parameters.leaves), -1
        )
        return Transition(
            next_state,
            rewards,
            (age >= self.parameters.ends)[:, 0],
            agent_done={"growers": agent_done},
        )


SPEC = MarketSpec(
    "orchard",
    "two growers and a merchant",
    OrchardParameters,
    f"{__name__}:Orchard",
    lambda parameters: {"growers": 2, "merchants": 1},
    differentiable=True,
)


class _Entry:
    name = "orchard"

    @staticmethod
    def load() -> MarketSpec:
        return SPEC


def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets experiments name it."""
    known = registry.entry_points

    def entry_points(group: str) -> Any:
        return [*known(group=group), *([_Entry] if group == registry.MARKETS else [])]

    monkeypatch.setattr(registry, "entry_points", entry_points)


def orchard_experiment(**sections: Any) -> dict[str, Any]:
    """A small experiment; growers and merchant have a policy each."""
    data: dict[str, Any] = {
        "name": "orchard",
        "market": {"name": "orchard", "worlds": 6},
        "policies": {
            "grower": {"groups": ["growers"], "hidden": [8]},
            "merchant": {"groups": ["merchants"], "hidden": [8]},
        },
        "algorithm": {"name": "analytic", "parameters": {"gamma": 0.9, "horizon": 3}},
        "training": {"agent_steps": 6 * 6 * 3 * 3, "rollout_length": 6, "checkpoint_every": 1},
        "certificate": {"seeds": 2, "deviation_agent_steps": 0},
    }
    return data | sections
