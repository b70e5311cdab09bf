"""The equilibrium: the law of motion which, believed by all households, their saving brings about.

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

from rl_markets.envs.krusell_smith.solution.economy import (
    GOOD,
    UNEMPLOYED,
    Economy,
    IntArray,
)
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
from rl_markets.envs.numerics.checks import FloatArray
from rl_markets.errors import ConvergenceError

Steps = tuple[tuple[LawOfMotion, LawOfMotion], ...]  # laws believed, and those they bring about

FIRST_SLOPE = 0.94  # of the first guess of the law
CROWDED_TOP = 1e-6  # share of households at the end of the grid from which the grid is too short
MEMORY = 2  # earlier steps that the next law is extrapolated from
NEAR = 0.02  # only if none of them changed a coefficient by more
WINDFALL = 0.01  # of wealth, for the marginal propensity to consume


@final
@dataclass(frozen=True)
class Solution:
    """The equilibrium, its policy and its long-run distribution.

    States: z = 0 good, 1 bad; e = 0 employed, 1 unemployed; `kind` counts the kappa types from 0.
    k is own capital, K effective capital; arguments are numbers or arrays of broadcastable shapes.
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
        """Consumption, linear between the grids' points.

        It goes on as a line in k beyond its grid; in K the grid's ends hold beyond it.
        """
        j = np.asarray(kind)
        state = np.asarray(z)
        job = np.asarray(e)
        effective = np.clip(np.asarray(K, np.float64), *self.grids.K[[0, -1]])
        index_k, weight_k = bracket(self.grids.k, np.asarray(k, dtype=np.float64))
        index_K, weight_K = bracket(self.grids.K, effective)
        lower, upper = (
            (1.0 - weight_k) * self.policy[j, row, state, job, index_k]
            + weight_k * self.policy[j, row, state, job, index_k + 1]
            for row in (index_K, index_K + 1)
        )
        c = (1.0 - weight_K) * lower + weight_K * upper
        return np.asarray(np.minimum(c, self.economy.wealth(k, K, z, e, kind)))

    def share(
        self, k: ArrayLike, K: ArrayLike, z: ArrayLike, e: ArrayLike, kind: ArrayLike = 0
    ) -> FloatArray:
        """Consumed share of wealth, the market's action; at k = 0 without a wage, its limit."""
        own = np.maximum(k, 1e-3 * self.grids.k[1])
        c = self.consumption(own, K, z, e, kind)
        return np.asarray(c / self.economy.wealth(own, K, z, e, kind))

    def mpc(
        self, k: ArrayLike, e: ArrayLike, K: float | None = None, z: int = GOOD, kind: ArrayLike = 0
    ) -> FloatArray:
        """Consumption out of a one-time windfall of 1% of wealth, as a share of it.

        K: by default its mean.
        """
        K = self.mean_effective_capital if K is None else K
        wealth = self.economy.wealth(k, K, z, e, kind)
        gross_return = self.economy.wealth(1.0, K, z, UNEMPLOYED, kind)
        windfall = WINDFALL * (wealth + self.grids.k[1])
        # A windfall is the same as the capital that would bring it in.
        richer = np.asarray(k) + windfall / gross_return
        rise = self.consumption(richer, K, z, e, kind) - self.consumption(k, K, z, e, kind)
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
    end, whose mean distribution is reported.

    Raises ConvergenceError if households or law have not settled, the law's dynamic forecast error
    exceeds `den_haan_limit` % of capital, or capital runs into the end of a grid.
    """
    if not 0.0 < damping <= 1.0:
        raise ValueError(f"damping = {damping!r}: expected a number in (0, 1]")
    grids = grids or Grids.build(economy)
    z = draw_states(economy, periods + 1, 1, seed)
    start = Belief(_first_law(economy), None, equal_start(economy, grids, z.shape[1]))
    belief = _iterate(economy, grids, start, z, damping, tolerance, max_iterations)
    fresh_z = draw_states(economy, final_periods + 1, 1, seed + 1)
    return _finish(economy, grids, belief, fresh_z, den_haan_limit)


@dataclass(frozen=True)
class Belief:
    """How far the iteration has come."""

    law: LawOfMotion
    policy: FloatArray | None  # optimal consumption under the law before, [J, nK, Z, E, nk]
    mass: FloatArray  # [paths, J, E, nh] to start the next simulation from
    iterations: int = 0
    steps: Steps = ()  # the last ones


def _iterate(
    economy: Economy,
    grids: Grids,
    belief: Belief,
    z: IntArray,
    damping: float,
    tolerance: float,
    max_iterations: int,
) -> Belief:
    """The belief after which households who hold it bring it about, along the states `z`."""
    distance = float("inf")
    while belief.iterations < max_iterations:
        policy = solve_household(economy, grids, belief.law, belief.policy)
        path = simulate(economy, grids, policy, z, belief.mass, burn_in=len(z) // 6)
        regressed = law_of_motion(path.K, path.z)
        distance = belief.law.distance(regressed)
        steps = (*belief.steps[-MEMORY:], (belief.law, regressed))
        belief = Belief(_next_law(steps, damping), policy, path.last, belief.iterations + 1, steps)
        if distance < tolerance:
            return belief
    raise ConvergenceError(
        f"the law of motion still moved by {distance:.1e} after {max_iterations} iterations"
    )


def _next_law(steps: Steps, damping: float) -> LawOfMotion:
    """The law to try after `steps`: damped, and near the end extrapolated (Anderson 1965).

    Extrapolation takes back the part of a step which the last changes explain, and saves half of
    the iterations.
    """
    believed = np.array([law.intercept + law.slope for law, _ in steps])
    regressed = np.array([law.intercept + law.slope for _, law in steps])
    gaps = regressed - believed
    law = believed[-1] + damping * gaps[-1]
    if len(steps) > 1 and np.abs(gaps).max() < NEAR:
        changes = np.diff(gaps, axis=0)
        explained = np.linalg.lstsq(changes.T, gaps[-1], rcond=1e-3)[0]
        law -= explained @ (np.diff(believed, axis=0) + damping * changes)
    intercept = tuple(law[:2].tolist())
    slope = tuple(law[2:].tolist())
    return LawOfMotion(intercept, slope, steps[-1][1].r2)


def _first_law(economy: Economy) -> LawOfMotion:
    """The same in both states, at rest at the riskless capital."""
    intercept = (1.0 - FIRST_SLOPE) * float(np.log(economy.capital_scale))
    return LawOfMotion((intercept,) * 2, (FIRST_SLOPE,) * 2, (0.0,) * 2)


def _finish(
    economy: Economy, grids: Grids, belief: Belief, z: IntArray, den_haan_limit: float
) -> Solution:
    """The solution, checked on the fresh states `z`."""
    policy = solve_household(economy, grids, belief.law, belief.policy)
    path = simulate(economy, grids, policy, z, belief.mass, burn_in=len(z) // 6)
    largest, mean = den_haan(path.K, path.z, belief.law)
    if not largest <= den_haan_limit:  # refuses NaN too
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
