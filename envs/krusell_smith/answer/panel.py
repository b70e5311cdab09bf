"""Many households who follow one policy for a long time.

What an economy becomes, and what one of its households could gain.
"""

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
    """The economy with many households who all follow `policy`, from equal capital.

    There is a path for each seed.

    Args:
        parameters: of the economy; its number of households is replaced by a large one.
        policy: of every household.
        mean_capital: to start from.
        seeds: of the paths' shocks.
    """
    types = len(parameters.capital_productivity)
    update = {
        "households": max(1, HOUSEHOLDS // types) * types,
        "initial_dispersion": 0.0,
        "initial_capital": (mean_capital, mean_capital),
        "episode_length": 10**6,
    }
    large = parameters.model_copy(update=update)
    paths = []
    for seed in seeds:
        market = KrusellSmith(large, worlds=1, dtype=torch.float64, stagger=False)
        paths.append(_path(market, policy, seed))
    K, z, capital = (np.concatenate(columns, 1) for columns in zip(*paths, strict=True))
    return Panel(K, z, capital, np.arange(large.households) % types)


def _path(
    market: KrusellSmith, policy: SharePolicy, seed: int
) -> tuple[Array, NDArray[np.int64], Array]:
    """One path: K `[T, 1]`, z `[T, 1]`, snapshots `[snapshots, 1, households]`."""
    market.reset(seed)
    kinds = np.arange(market.parameters.households) % len(market.parameters.capital_productivity)
    Ks = []
    zs = []
    snapshots = []
    for t in range(BURN_IN + PERIODS):
        state = market.state
        k = state["capital"].numpy()
        K = market.effective_capital(state).numpy()
        z = state["aggregate"].numpy()
        if t >= BURN_IN:
            Ks.append(K[:, 0])
            zs.append(z[:, 0])
            if t % SNAPSHOT_EVERY == 0:
                snapshots.append(k)
        share = policy(k, K, z, state["unemployed"].numpy(), kinds)
        market.step({"households": torch.from_numpy(np.ascontiguousarray(share))[..., None]})
    return np.stack(Ks), np.stack(zs), np.stack(snapshots)


def deviation_gain(
    economy: known.Economy,
    panel: Panel,
    order: NDArray[np.int64],
    stay: SharePolicy,
    deviate: SharePolicy,
    seed: int,
) -> tuple[Array, NDArray[np.int64]]:
    """Discounted utility that households gain by `deviate`, everybody else as in `panel`.

    They are of so many that prices do not move; same start, same jobs, same path of prices. `order`
    has the kind, in `economy`, of each type of the experiment's list: the economy counts different
    productivities in ascending order.

    Returns:
        the gains `[DEVIATORS]` in utils, and the deviators' kinds in `economy`.
    """
    rng = np.random.default_rng(seed)
    path = int(rng.integers(panel.K.shape[1]))
    K = panel.K[:DEVIATION_PERIODS, path]
    z = panel.z[:DEVIATION_PERIODS, path]
    deviators = rng.integers(panel.capital.shape[2], size=DEVIATORS)
    types = panel.types[deviators]
    kinds = order[types]
    start = panel.capital[0, path, deviators]
    unemployed = _job_paths(economy, z, rng)
    # Row 0 stays with the others' policy, row 1 deviates; both meet the same jobs and prices.
    own = [start.copy(), start.copy()]
    total = np.zeros((2, DEVIATORS))
    for t in range(DEVIATION_PERIODS):
        for i, policy in enumerate((stay, deviate)):
            wealth = economy.wealth(own[i], K[t], z[t], unemployed[t], kinds)
            share = policy(own[i], K[t], z[t], unemployed[t], types)
            share = np.clip(share, ACTION_LOW, ACTION_HIGH)
            total[i] += economy.beta**t * np.log(share * wealth)
            own[i] = (1 - share) * wealth
    return total[1] - total[0], kinds


def _job_paths(
    economy: known.Economy, z: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Whether each deviator is unemployed in each period of the states `z`: `[T, DEVIATORS]`."""
    rate = economy.head_count[z[0], known.UNEMPLOYED]
    unemployed = [(rng.random(DEVIATORS) < rate).astype(np.int64)]
    draws = rng.random((DEVIATION_PERIODS, DEVIATORS))
    employment = np.asarray(economy.employment)
    for t in range(DEVIATION_PERIODS - 1):
        chance = employment[z[t], z[t + 1], unemployed[t], known.UNEMPLOYED]
        unemployed.append((draws[t] < chance).astype(np.int64))
    return np.stack(unemployed)
