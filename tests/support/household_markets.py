"""Household markets, and random actions in them."""

from __future__ import annotations

from typing import Any

import torch

from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.market import Market

HETEROGENEOUS = {
    "households": 6,
    "capital_productivity": [0.8, 1.0, 1.2],
    "labour_productivity": [1.0, 0.5],
}


def economy(worlds: int = 4, dtype: torch.dtype = torch.float32, **parameters: Any) -> Households:
    return Households(HouseholdsParameters(**parameters), worlds=worlds, dtype=dtype)


def draw_actions(market: Market, generator: torch.Generator) -> dict[str, torch.Tensor]:
    group = market.groups["households"]
    return {
        "households": 0.05 + 0.9 * torch.rand((market.worlds, group.count, 2), generator=generator)
    }
