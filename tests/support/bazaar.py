"""Small markets for other libraries: one that the clock cuts, one whose agents leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.market import AgentGroup, Market, State, TensorMarket, Transition

LENGTH = 5


def economy(worlds: int = 1, households: int = 3, **options: Any) -> Households:
    """Episodes of five periods, cut by the clock; nobody leaves."""
    parameters = HouseholdsParameters(households=households, delta=1.0, episode_length=LENGTH)
    return Households(parameters, worlds=worlds, **{"stagger": False, **options})


class Bazaar(TensorMarket):
    """Two kinds of agents: buyers who shop, and sellers.

    Buyer i leaves after i + 1 days of shopping, the last of them closes the bazaar.
    """

    def __init__(self, worlds: int = 1, buyers: int = 3, episode_length: int | None = None) -> None:
        super().__init__(worlds=worlds, episode_length=episode_length, stagger=False)
        space = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.groups = {
            "buyers": AgentGroup(buyers, space, gym.spaces.Discrete(3)),
            "sellers": AgentGroup(2, space, gym.spaces.Box(0.5, 2.0, (1,), np.float32)),
        }

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        return {"day": torch.zeros(worlds, 1), "mood": torch.rand((worlds, 1), generator=generator)}

    def draw_noise(self, generator: torch.Generator) -> State:
        return {"mood": torch.rand((self.worlds, 1), generator=generator)}

    def observe(self, state: State) -> dict[str, Tensor]:
        row = torch.cat([state["day"], state["mood"]], -1)[:, None]
        return {
            name: row.expand(-1, group.count, -1) + torch.arange(group.count)[:, None]
            for name, group in self.groups.items()
        }

    def observe_globally(self, state: State) -> Tensor:
        return torch.cat([state["day"], state["mood"]], -1)

    def transition(self, state: State, actions: Mapping[str, Tensor], noise: State) -> Transition:
        day = state["day"] + 1
        stay = torch.arange(self.groups["buyers"].count)
        here = state["day"] <= stay
        spent = torch.where(here, actions["buyers"] * state["mood"], 0.0)
        price = actions["sellers"].squeeze(-1)
        rewards = {"buyers": -spent, "sellers": price * spent.sum(-1, keepdim=True)}
        next_state = {"day": day, "mood": noise["mood"]}
        return Transition(
            next_state,
            rewards,
            (day > stay.max()).squeeze(-1),
            {"buyers": here},
            {"buyers": here & (day > stay)},
        )


MARKETS: dict[str, Callable[[], Market]] = {"households": economy, "bazaar": Bazaar}
every_market = pytest.mark.parametrize("build", MARKETS.values(), ids=MARKETS.keys())


def drawn(market: Market, generator: np.random.Generator) -> dict[str, Tensor]:
    """Actions of every agent, `[worlds, agents, ...]`."""
    actions = {}
    for name, group in market.groups.items():
        shape = (market.worlds, group.count)
        space = group.action_space
        if isinstance(space, gym.spaces.Discrete):
            actions[name] = torch.from_numpy(generator.integers(space.n, size=shape))
        elif isinstance(space, gym.spaces.MultiDiscrete):
            own = generator.integers(space.nvec, size=(*shape, *space.shape))
            actions[name] = torch.from_numpy(own)
        else:
            actions[name] = torch.from_numpy(
                generator.uniform(space.low, space.high, (*shape, *space.shape))
            ).float()
    return actions
