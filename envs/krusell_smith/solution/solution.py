"""The equilibrium: a law of motion which, believed by all households, is the one their saving
brings about.

Krusell and Smith's (1998) algorithm: solve the household's problem for a law, simulate, regress,
move the law part of the way, repeat. Large steps make the law cycle, and an iteration that is
stopped there may report a plausible wrong answer with an R2 above .999; hence the damping, the
tolerance and the last check of Den Haan's error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.households.solution.economy import FloatArray
from rl_markets.envs.krusell_smith.solution.economy import GOOD, Economy, IntArray
from rl_markets.envs.krusell_smith.solution.histogram import (
    Simulation,
    draw_states,
    equal_start,
    simulate,
)
from rl_markets.envs.krusell_smith.solution.household import Grids, bracket, solve_household
from rl_markets.envs.krusell_smith.solution.statistics import (
    LawOfMotion,
    den_haan,
    gini,
    law_of_motion,
    lorenz,
    top_share,
)
from rl_markets.errors import ConvergenceError

FIRST_SLOPE = 0.94  # of the first guess of the law
CROWDED_TOP = 1e-6  # share of households at the end of the grid from which the grid is too short
MEMORY = 2
NEAR = 0.02  # steps that are extrapolated from, if they changed no coefficient by more
WINDFALL = 0.01  # of wealth, for the marginal propensity to consume


@final
@dataclass(frozen=True)
class Solution:
    """The equilibrium, its policy and its long-run distribution.

    States: z = 0 good, 1 bad; e = 0 employed, 1 unemployed; `kind` counts the kappa types from 0. k
        is own
    capital, K effective capital; arguments are numbers or arrays of broadcastable shapes.
    """

    economy: Economy
    law: LawOfMotion  # perceived, with the R2 of the regression on the simulated path
    grids: Grids
    policy: FloatArray  # [J, nK, Z, E, nk] consumption at the grids' points
    simulation: Simulation  # fresh paths, from which the statistics below are taken
    den_haan_max: float  # dynamic forecast error of the law on these paths, in % of capital
    den_haan_mean: float
    iterations: int  # of the law

    def consumption(
        self, k: ArrayLike, K: ArrayLike, z: ArrayLike, e: ArrayLike, kind: ArrayLike = 0
    ) -> FloatArray:
        """Consumption: linear between the grids' points and in k beyond them; in K the grid's ends
        hold beyond it."""
        own = np.asarray(k, dtype=np.float64)
        states = (np.asarray(kind), np.asarray(z), np.asarray(e))
        at, weight = bracket(self.grids.k, own)
        around, share = bracket(
            self.grids.K, np.clip(np.asarray(K, np.float64), *self.grids.K[[0, -1]])
        )
        lower, upper = (
            (1.0 - weight) * self.policy[states[0], row, states[1], states[2], at]
            + weight * self.policy[states[0], row, states[1], states[2], at + 1]
            for row in (around, around + 1)
        )
        return np.asarray(
            np.minimum((1.0 - share) * lower + share * upper, self.economy.wealth(k, K, z, e, kind))
        )

    def share(
        self, k: ArrayLike, K: ArrayLike, z: ArrayLike, e: ArrayLike, kind: ArrayLike = 0
    ) -> FloatArray:
        """Consumed share of wealth, the market's action; at k = 0 without a wage, its limit."""
        own = np.maximum(k, 1e-3 * self.grids.k[1])
        return np.asarray(
            self.consumption(own, K, z, e, kind) / self.economy.wealth(own, K, z, e, kind)
        )

    def mpc(
        self, k: ArrayLike, e: ArrayLike, K: float | None = None, z: int = GOOD, kind: ArrayLike = 0
    ) -> FloatArray:
        """Consumption out of a one-time windfall of 1% of wealth, as a share of it; K: by default
        its mean."""
        K = self.mean_effective_capital if K is None else K
        wealth = self.economy.wealth(k, K, z, e, kind)
        slope = self.economy.wealth(1.0, K, z, 1, kind)
        windfall = WINDFALL * (wealth + self.grids.k[1])
        rise = self.consumption(np.asarray(k) + windfall / slope, K, z, e, kind) - self.consumption(
            k, K, z, e, kind
        )
        return np.asarray(rise / windfall)

    @property
    def mean_effective_capital(self) -> float:
        """Long-run mean of K, which prices depend on."""
        return float(self.simulation.K.mean())

    @property
    def mean_capital(self) -> float:
        """Long-run mean of capital per head; it is K's where all kappa are 1."""
        return float(self.simulation.capital.mean())

    @property
    def mean_capital_by_type(self) -> FloatArray:
        """Long-run mean of capital per head of each kappa type: [J]."""
        held = self.simulation.mean.sum(axis=1) @ self.grids.histogram
        return np.asarray(held / np.asarray(self.economy.weights))

    @property
    def distribution(self) -> tuple[FloatArray, FloatArray]:
        """Own capital [nh] and the long-run share of households that hold it [nh]."""
        return self.grids.histogram, np.asarray(self.simulation.mean.sum(axis=(0, 1)))

    @property
    def gini(self) -> float:
        """Gini coefficient of own capital."""
        return gini(*self.distribution)

    def lorenz(self) -> tuple[FloatArray, FloatArray]:
        """Lorenz curve of own capital: see `statistics.lorenz`."""
        return lorenz(*self.distribution)

    def top_share(self, share: ArrayLike) -> FloatArray:
        """What the richest `share` of households hold of all capital."""
        capital, mass = self.distribution
        return top_share(capital, share, mass)


def solve(
    economy: Economy,
    *,
    grids: Grids | None = None,
    damping: float = 0.3,
    tolerance: float = 1e-5,
    max_iterations: int = 90,
    periods: int = 600,
    final_periods: int = 2500,
    seed: int = 0,
    den_haan_limit: float = 2.0,
) -> Solution:
    """The equilibrium of `economy`.

    damping: how far the law moves towards the regression in an iteration, in (0, 1]; 1 cycles at
        beta = .99.
    tolerance: largest difference of a coefficient between the perceived and the regressed law.
    periods, final_periods: length of the simulations in the iterations, and of the fresh one at the
        end, whose
    mean distribution is reported. Raises ConvergenceError if households or law have not settled,
    the law's dynamic forecast error exceeds `den_haan_limit` % of capital, or capital runs into the
    end of a grid.
    """
    if not 0.0 < damping <= 1.0:
        raise ValueError(f"damping = {damping!r}: expected a number in (0, 1]")
    grids = grids or Grids.build(economy)
    z = draw_states(economy, periods + 1, 1, seed)
    start = Belief(_first_law(economy), None, equal_start(economy, grids, z.shape[1]))
    belief = _iterate(economy, grids, start, z, damping, tolerance, max_iterations)
    fresh = draw_states(economy, final_periods + 1, 1, seed + 1)
    return _finish(economy, grids, belief, fresh, den_haan_limit)


@dataclass(frozen=True)
class Belief:
    """How far the iteration has come."""

    law: LawOfMotion
    policy: FloatArray | None  # its optimal consumption, [J, nK, Z, E, nk]
    mass: FloatArray  # [paths, J, E, nh] to start the next simulation from
    iterations: int = 0
    steps: tuple[
        tuple[LawOfMotion, LawOfMotion], ...
    ] = ()  # laws believed and brought about, the last ones


def _iterate(
    economy: Economy,
    grids: Grids,
    belief: Belief,
    z: IntArray,
    damping: float,
    tolerance: float,
    most: int,
) -> Belief:
    """The belief after which households who hold it bring it about, along the states `z`."""
    distance = float("inf")
    while belief.iterations < most:
        policy = solve_household(economy, grids, belief.law, belief.policy)
        path = simulate(economy, grids, policy, z, belief.mass, burn_in=len(z) // 6)
        found = law_of_motion(path.K, path.z)
        distance = belief.law.distance(found)
        steps = (*belief.steps[-MEMORY:], (belief.law, found))
        belief = Belief(_next_law(steps, damping), policy, path.last, belief.iterations + 1, steps)
        if distance < tolerance:
            return belief
    raise ConvergenceError(
        f"the law of motion still moved by {distance:.1e} after {most} iterations"
    )


def _next_law(steps: tuple[tuple[LawOfMotion, LawOfMotion], ...], damping: float) -> LawOfMotion:
    """The law to try after `steps`: damped, and near the end extrapolated from the last ones
    (Anderson 1965).

    That takes back the part of a step which the last changes explain, and saves half of the
    iterations.
    """
    believed, found = (
        np.array([law.intercept + law.slope for law in laws]) for laws in zip(*steps, strict=True)
    )
    gaps = found - believed
    law = believed[-1] + damping * gaps[-1]
    if len(steps) > 1 and np.abs(gaps).max() < NEAR:
        changes = np.diff(gaps, axis=0)
        explained = np.linalg.lstsq(changes.T, gaps[-1], rcond=1e-3)[0]
        law -= explained @ (np.diff(believed, axis=0) + damping * changes)
    return LawOfMotion(tuple(law[:2].tolist()), tuple(law[2:].tolist()), steps[-1][1].r2)


def _first_law(economy: Economy) -> LawOfMotion:
    level = float(np.log(economy.capital_scale))
    return LawOfMotion(((1.0 - FIRST_SLOPE) * level,) * 2, (FIRST_SLOPE,) * 2, (0.0,) * 2)


def _finish(
    economy: Economy, grids: Grids, belief: Belief, z: IntArray, den_haan_limit: float
) -> Solution:
    """The solution, checked on the fresh states `z`."""
    policy = solve_household(economy, grids, belief.law, belief.policy)
    path = simulate(economy, grids, policy, z, belief.mass, burn_in=len(z) // 6)
    largest, mean = den_haan(path.K, path.z, belief.law)
    if not largest <= den_haan_limit:  # nor NaN
        raise ConvergenceError(
            f"the law's dynamic forecast is {largest:.2f}% off: expected at most {den_haan_limit}%"
        )
    if path.K.min() <= grids.K[0] or path.K.max() >= grids.K[-1]:
        raise ConvergenceError(
            f"effective capital left its grid: it reached [{path.K.min():.4g}, {path.K.max():.4g}]"
        )
    at_top = float(path.mean[..., -1].sum())
    if at_top > CROWDED_TOP:
        raise ConvergenceError(
            f"{at_top:.1e} of the households are at the end of the grid of own capital"
        )
    return Solution(economy, belief.law, grids, policy, path, largest, mean, belief.iterations)
