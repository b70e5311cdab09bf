"""Many households who follow one policy for a long time: what an economy becomes, and what one of
them could gain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_markets.envs.krusell_smith import solution as known
from rl_markets.envs.krusell_smith.market import ACTION_HIGH, ACTION_LOW, KrusellSmith
from rl_markets.envs.krusell_smith.parameters import KrusellSmithParameters

Array = NDArray[np.float64]
SharePolicy = Callable[[Any, Any, Any, Any, Any], Array]
"""(k, K, z, e, type) of broadcastable shapes -> consumption share of wealth."""

HOUSEHOLDS = 2000
BURN_IN = 700
PERIODS = 1000
SNAPSHOT_EVERY = 50
DEVIATORS = 2000
DEVIATION_PERIODS = 300


@dataclass(frozen=True)
class Panel:
    """A long simulation.

    Attributes:
        K, z: `[T, paths]` effective capital and aggregate state, after the burn-in.
        capital: `[snapshots, paths, households]` own capital, every 50 quarters.
        types: `[households]` which type each household is of.
    """

    K: Array
    z: NDArray[np.int64]
    capital: Array
    types: NDArray[np.int64]

    @property
    def gini(self) -> Array:
        """Gini coefficient of capital in each path, the mean over snapshots, `[paths]`."""
        ginis = [[float(known.gini(capital)) for capital in snapshot] for snapshot in self.capital]
        mean: Array = np.asarray(ginis).mean(0)
        return mean


@torch.no_grad()
def simulate(
    parameters: KrusellSmithParameters, policy: SharePolicy, mean_capital: float, seeds: list[int]
) -> Panel:
    """The economy with many households who all follow `policy`; a path for each seed, from equal
    capital.

    Args:
        parameters: of the economy; its number of households is replaced by a large one.
        policy: of every household.
        mean_capital: to start from.
        seeds: of the paths' shocks.
    """
    types = len(parameters.capital_productivity)
    large = parameters.model_copy(
        update={
            "households": max(1, HOUSEHOLDS // types) * types,
            "initial_dispersion": 0.0,
            "initial_capital": (mean_capital, mean_capital),
            "episode_length": 10**6,
        }
    )
    paths = [
        _path(KrusellSmith(large, worlds=1, dtype=torch.float64, stagger=False), policy, seed)
        for seed in seeds
    ]
    kinds = np.arange(large.households) % types
    K, z, capital = (np.concatenate(columns, 1) for columns in zip(*paths, strict=True))
    return Panel(K, z, capital, kinds)


def _path(
    market: KrusellSmith, policy: SharePolicy, seed: int
) -> tuple[Array, NDArray[np.int64], Array]:
    """One path: K `[T, 1]`, z `[T, 1]`, snapshots `[snapshots, 1, households]`."""
    market.reset(seed)
    kinds = np.arange(market.parameters.households) % len(market.parameters.capital_productivity)
    K = []
    z = []
    capital = []
    for t in range(BURN_IN + PERIODS):
        state = market.state
        now: list[Any] = [market.effective_capital(state).numpy(), state["aggregate"].numpy()]
        if t >= BURN_IN:
            K.append(now[0][:, 0])
            z.append(now[1][:, 0])
            if t % SNAPSHOT_EVERY == 0:
                capital.append(state["capital"].numpy())
        share = policy(state["capital"].numpy(), now[0], now[1], state["unemployed"].numpy(), kinds)
        market.step({"households": torch.from_numpy(np.ascontiguousarray(share))[..., None]})
    return np.stack(K), np.stack(z), np.stack(capital)


def deviation_gain(
    economy: known.Economy,
    panel: Panel,
    order: NDArray[np.int64],
    stay: SharePolicy,
    deviate: SharePolicy,
    seed: int,
) -> tuple[Array, NDArray[np.int64]]:
    """Discounted utility that households gain by `deviate`, everybody else as in `panel`, and their
    kinds in `economy`.

    They are of so many that prices do not move; same start, same jobs, same path of prices. `order`
    has the kind, in `economy`, of each type of the experiment's list: the economy counts different
    productivities in ascending order.
    """
    rng = np.random.default_rng(seed)
    path = int(rng.integers(panel.K.shape[1]))
    K = panel.K[:DEVIATION_PERIODS, path]
    z = panel.z[:DEVIATION_PERIODS, path]
    who = rng.integers(panel.capital.shape[2], size=DEVIATORS)
    kinds = panel.types[who]
    start = panel.capital[0, path, who]
    unemployed = (rng.random(DEVIATORS) < economy.head_count[z[0], known.UNEMPLOYED]).astype(
        np.int64
    )
    draws = rng.random((DEVIATION_PERIODS, DEVIATORS))
    chances = np.asarray(economy.employment)
    own = [start.copy(), start.copy()]
    total = np.zeros((2, DEVIATORS))
    for t in range(DEVIATION_PERIODS):
        for i, policy in enumerate((stay, deviate)):
            wealth = economy.wealth(own[i], K[t], z[t], unemployed, order[kinds])
            share = np.clip(policy(own[i], K[t], z[t], unemployed, kinds), ACTION_LOW, ACTION_HIGH)
            total[i] += economy.beta**t * np.log(share * wealth)
            own[i] = (1 - share) * wealth
        if t + 1 < DEVIATION_PERIODS:
            unemployed = (draws[t] < chances[z[t], z[t + 1], unemployed, known.UNEMPLOYED]).astype(
                np.int64
            )
    return total[1] - total[0], order[kinds]
