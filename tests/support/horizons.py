"""Horizons played in plain loops, which the analytic learner's must equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.market import State, TensorMarket
from tests.support.running import tiny

GAMMA = 0.95
DOUBLE: Any = {"dtype": torch.float64}


def analytic(
    households: int = 3, separate: bool = False, conduct: str = "cooperative", **parameters: Any
) -> Any:
    """The tiny experiment, learned by gradients through its dynamics."""
    data = tiny(
        policies={"household": {"groups": ["households"], "hidden": [8], "separate": separate}}
    )
    data["market"]["parameters"] |= {
        "households": households,
        "conduct": conduct,
        "initial_dispersion": 0.3,
    }
    data["algorithm"] = {"name": "analytic", "parameters": {"horizon": 4, **parameters}}
    return data


def household_market(n: int, conduct: str, worlds: int = 2) -> Households:
    kappa = [0.9, 1.0, 1.2][:n]
    p = HouseholdsParameters(
        households=n, conduct=conduct, capital_productivity=kappa, initial_dispersion=0.3
    )
    return Households(p, worlds=worlds, **DOUBLE)


def rule(obs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Smooth functions of what is observed."""
    x = obs["households"]
    return {
        "households": torch.stack(
            [0.3 + 0.1 * torch.tanh(x[..., 0] + x[..., 1]), 0.2 + 0.05 * torch.tanh(x[..., 3])], -1
        )
    }


def played(
    market: TensorMarket,
    state: State,
    noise: list[State],
    act: Callable[[dict[str, Tensor]], dict[str, Tensor]],
) -> tuple[list[State], list[dict[str, Tensor]]]:
    """A plain loop: the states, and the rewards in between."""
    states = [state]
    rewards = []
    for shocks in noise:
        transition = market.transition(states[-1], act(market.observe(states[-1])), shocks)
        states.append(transition.state)
        rewards.append(transition.rewards)
    return states, rewards


def shocks(market: TensorMarket, periods: int, generator: torch.Generator) -> list[State]:
    """What the generator draws next; it is left where it was."""
    at = generator.get_state()
    drawn = [market.draw_noise(generator) for _ in range(periods)]
    generator.set_state(at)
    return drawn
