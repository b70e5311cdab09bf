"""Simulation of the distribution of capital itself, without sampling households.

Young (2010), "Solving the incomplete markets model with aggregate uncertainty using the
Krusell-Smith algorithm and non-stochastic simulations": mass sits on the points of a grid, and who
saves an amount between two points is split between both, so that mean capital is kept. Several
economies run side by side, one for each path of z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rl_markets.envs.krusell_smith.solution.economy import EMPLOYED, Economy, IntArray
from rl_markets.envs.krusell_smith.solution.household import Grids, bracket
from rl_markets.envs.numerics.checks import FloatArray


@dataclass(frozen=True)
class Simulation:
    """Aggregate paths, each [T, paths], and distributions of mass.

    Mass is over (type, employment, own capital).
    """

    z: IntArray
    K: FloatArray  # effective capital
    capital: FloatArray  # mean capital per head
    consumption: FloatArray  # per head
    last: FloatArray  # [paths, J, E, nh] mass one period after the paths' end
    mean: FloatArray  # [J, E, nh] mass, averaged over periods and paths


def draw_states(economy: Economy, periods: int, pairs: int, seed: int) -> IntArray:
    """Paths of the aggregate state [periods, 2 pairs]; every path comes with its mirror image.

    Good and bad times are then equally frequent, as in the long run: averages settle sooner.
    """
    switches = np.random.default_rng(seed).random((periods, pairs)) >= economy.persistence
    half = np.cumsum(switches, axis=0) % 2
    return np.concatenate([half, 1 - half], axis=1)


def equal_start(economy: Economy, grids: Grids, paths: int) -> FloatArray:
    """Mass [paths, J, E, nh] of households who all have about the riskless capital.

    It is to be given a head-count.
    """
    mass = np.zeros((paths, economy.types, 2, len(grids.histogram)))
    mass[..., np.searchsorted(grids.histogram, economy.capital_scale)] = 1.0
    return mass


def with_head_count(economy: Economy, mass: FloatArray, z: IntArray) -> FloatArray:
    """`mass` [paths, J, E, nh] rescaled to the types' weights and unemployment in `z` [paths]."""
    weights = np.asarray(economy.weights)[:, None]
    target = weights * economy.head_count[z][:, None]  # [paths, J, E]
    return np.asarray(mass * (target / mass.sum(axis=-1))[..., None])


def simulate(
    economy: Economy,
    grids: Grids,
    consumption: FloatArray,
    z: IntArray,
    mass: FloatArray,
    burn_in: int = 0,
) -> Simulation:
    """The economy under a policy of consumption, along given states.

    consumption: [J, nK, Z, E, nk]; effective capital beyond its grid is taken for the grid's end.
    z: [T + 1, paths] aggregate states.
    mass: [paths, J, E, nh] at the beginning, rescaled to z's first head-count.
    burn_in: how many of the T periods are left out of what is returned, the first ones.
    """
    rule = _on_histogram(grids, consumption)
    chain = np.asarray(economy.employment)
    kappa = np.asarray(economy.kappa)
    periods = len(z) - 1
    paths = z.shape[1]
    mass = with_head_count(economy, mass, z[0])
    K, capital, spent = (np.empty((periods, paths)) for _ in range(3))
    total = np.zeros(mass.shape[1:])
    for t in range(periods):
        by_type = mass.sum(axis=2) @ grids.histogram  # [paths, J]
        K[t] = by_type @ kappa
        capital[t] = by_type.sum(axis=-1)
        if t >= burn_in:
            total += mass.sum(axis=0)
        wealth = _wealth(economy, grids, K[t], z[t])
        desired = wealth - _consumption(grids, rule, K[t], z[t])
        saved = np.clip(desired, 0.0, grids.histogram[-1])
        spent[t] = np.sum(mass * (wealth - saved), axis=(1, 2, 3))
        # Capital moves first, then jobs: the chain's transpose takes mass from e to e'.
        to_next_job = chain[z[t], z[t + 1]].transpose(0, 2, 1)[:, None]
        mass = to_next_job @ _move(grids, mass, saved)
    kept = slice(burn_in, None)
    mean = total / ((periods - burn_in) * paths)
    return Simulation(z[:-1][kept], K[kept], capital[kept], spent[kept], mass, mean)


def _on_histogram(grids: Grids, consumption: FloatArray) -> FloatArray:
    """The policy at the distribution's points: [Z, nK, J, E, nh]."""
    index, weight = bracket(grids.k, grids.histogram)
    finer = (1.0 - weight) * consumption[..., index] + weight * consumption[..., index + 1]
    return np.ascontiguousarray(finer.transpose(2, 1, 0, 3, 4))


def _wealth(economy: Economy, grids: Grids, K: FloatArray, z: IntArray) -> FloatArray:
    """Wealth [paths, J, E, nh] at the distribution's points, in the states K, z [paths]."""
    r, w = economy.prices(K, z)
    gross_return = 1.0 - economy.delta + np.multiply.outer(r, economy.kappa)  # [paths, J]
    wealth = np.repeat((gross_return[..., None] * grids.histogram)[:, :, None], 2, axis=2)
    wealth[:, :, EMPLOYED] += (w * economy.hours)[:, None, None]
    return wealth


def _consumption(grids: Grids, rule: FloatArray, K: FloatArray, z: IntArray) -> FloatArray:
    """The rule [Z, nK, J, E, nh] in the states K, z [paths]: [paths, J, E, nh]."""
    index, weight = bracket(grids.K, np.clip(K, grids.K[0], grids.K[-1]))
    lower = rule[z, index]
    upper = rule[z, index + 1]
    return np.asarray(lower + weight[:, None, None, None] * (upper - lower))


def _move(grids: Grids, mass: FloatArray, saved: FloatArray) -> FloatArray:
    """`mass` after each of its points has saved `saved`, before the new employment.

    All are [paths, J, E, nh].
    """
    points = len(grids.histogram)
    index, weight = bracket(grids.histogram, saved)
    # One count over all rows laid end to end; what goes to the upper point is one place further.
    row_start = points * np.arange(mass.size // points).reshape(mass.shape[:-1])
    target = (index + row_start[..., None]).ravel()
    above = (mass * weight).ravel()
    next_mass = np.bincount(target, mass.ravel() - above, mass.size).astype(np.float64)
    next_mass[1:] += np.bincount(target, above, mass.size)[:-1]
    return next_mass.reshape(mass.shape)
