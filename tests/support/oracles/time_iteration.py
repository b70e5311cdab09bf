"""Global solution by time iteration on endogenous grid points, to check the collocation.

Carroll (2006), "The method of endogenous gridpoints". It shares neither the approximation (cubic
splines, not Chebyshev polynomials), nor the algorithm (a contraction, not Newton's method), nor the
labour-leisure formula with the collocation: where the two agree, a common error is unlikely.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import final

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline, RectBivariateSpline

from rl_markets.envs.households.solution.economy import (
    Economy,
    Policy,
    Solution,
    allocation,
    innovations,
    output,
    steady_state,
)
from rl_markets.envs.numerics.checks import FloatArray
from rl_markets.errors import ConvergenceError


@final
@dataclass(frozen=True)
class TimeIterationSolution(Solution):
    """Consumption and labour as splines in (log k, z).

    Outside the grid they keep their value at its edge.
    """

    economy: Economy
    log_k: FloatArray  # [nk] grid
    z: FloatArray  # [nz] grid
    log_c: RectBivariateSpline
    log_work_leisure: RectBivariateSpline  # of l / (1 - l)
    iterations: int

    def policy(self, k: ArrayLike, z: ArrayLike) -> Policy:
        """See `Solution.policy`."""
        capital, tfp = np.broadcast_arrays(
            np.asarray(k, dtype=np.float64), np.asarray(z, dtype=np.float64)
        )
        log_k = np.clip(np.log(capital), *self.log_k[[0, -1]])
        z_inside = np.clip(tfp, *self.z[[0, -1]])
        c = np.exp(self.log_c.ev(log_k, z_inside))
        work_leisure = np.exp(self.log_work_leisure.ev(log_k, z_inside))
        return allocation(self.economy, capital, tfp, c, work_leisure / (1.0 + work_leisure))


def solve_time_iteration(
    economy: Economy,
    *,
    capital_points: int = 200,
    tfp_points: int = 15,
    capital_range: tuple[float, float] = (0.3, 3.0),
    quadrature: int = 9,
    tolerance: float = 1e-9,
    max_iterations: int = 5000,
) -> TimeIterationSolution:
    """The policy as the limit of a backward recursion on the Euler equation.

    capital_range: the grid of k, in multiples of its steady state.
    tolerance: the largest change of log c in the last iteration.
    Raises ConvergenceError if the recursion has not settled after `max_iterations`.
    """
    steady = steady_state(economy)
    reach = max(4.5 * economy.tfp_sd, 0.12)
    low, high = (log(multiple * steady.k) for multiple in capital_range)
    log_k = np.linspace(low, high, capital_points)
    z = np.linspace(-reach, reach, tfp_points)
    shocks, weights = innovations(economy, quadrature)
    z_next = economy.rho * z[:, None] + shocks  # [nz, Q]
    # A rough guess is enough: the recursion is a contraction.
    log_c = log(steady.c) + 0.5 * (log_k[:, None] - log(steady.k) + z)
    log_work_leisure = np.full_like(log_c, log(steady.l / (1.0 - steady.l)))
    for iteration in range(1, max_iterations + 1):
        log_marginal_value = _log_marginal_value(economy, log_k, z, log_c, log_work_leisure)
        value = CubicSpline(z, log_marginal_value, axis=1)
        expected = np.exp(value(z_next)) @ weights
        previous = log_c
        log_c, log_work_leisure = _step_back(economy, log_k, z, expected)
        change = float(np.max(np.abs(log_c - previous)))
        if change < tolerance:
            c_rule = RectBivariateSpline(log_k, z, log_c)
            work_rule = RectBivariateSpline(log_k, z, log_work_leisure)
            return TimeIterationSolution(economy, log_k, z, c_rule, work_rule, iteration)
    raise ConvergenceError(
        f"time iteration still moved log c by {change:.1e} after {max_iterations} iterations"
    )


def _step_back(
    economy: Economy, log_k: FloatArray, z: FloatArray, expected: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Today's (log c, log of l / (1 - l)) on the grid, given the `expected` value of capital.

    `expected` is that of a unit of next capital, E[(1 - delta + r') / c'], where next capital is
    the grid's and z today's. All are [nk, nz].
    """
    # Today's choices if next capital is the grid's, and the capital from which they are made.
    c = 1.0 / (economy.beta * expected)
    work_leisure = _work_leisure(economy, c, np.exp(log_k)[:, None], z)
    endogenous = np.log(_capital_today(economy, c, work_leisure, z))
    # Back to the grid.
    log_c = _regrid(endogenous, np.log(c), log_k)
    return log_c, _regrid(endogenous, np.log(work_leisure), log_k)


def _log_marginal_value(
    economy: Economy,
    log_k: FloatArray,
    z: FloatArray,
    log_c: FloatArray,
    log_work_leisure: FloatArray,
) -> FloatArray:
    """log of a unit of capital's value, (1 - delta + r) / c, on the grid: [nk, nz]."""
    k = np.exp(log_k)[:, None]
    labour = 1.0 / (1.0 + np.exp(-log_work_leisure))
    rental = economy.alpha * output(economy, k, labour, z) / k
    return np.asarray(np.log(1.0 - economy.delta + rental) - log_c)


def _capital_today(
    economy: Economy, c: FloatArray, work_leisure: FloatArray, z: FloatArray
) -> FloatArray:
    """The capital at which a household consuming `c` chooses `work_leisure`."""
    alpha = economy.alpha
    scale = (economy.b * c / ((1.0 - alpha) * np.exp(z))) ** (1.0 / alpha)
    return np.asarray(scale * work_leisure * (1.0 + work_leisure) ** (1.0 / alpha - 1.0))


def _work_leisure(economy: Economy, c: FloatArray, k_next: FloatArray, z: FloatArray) -> FloatArray:
    """x = l / (1 - l) that supports consumption `c` and next capital `k_next`.

    Output is b c x / (1 - alpha) by the labour-leisure choice, so the resource constraint is
    increasing and convex in x: Newton's method falls onto its root from the right, where it starts
    (all out of output).
    """
    alpha = economy.alpha
    remaining = 1.0 - economy.delta
    output_slope = economy.b * c / (1.0 - alpha)
    x = (c + k_next) / output_slope
    for _ in range(100):
        k = _capital_today(economy, c, x, z)
        capital_slope = k * (1.0 / x + (1.0 / alpha - 1.0) / (1.0 + x))
        excess = output_slope * x + remaining * k - c - k_next
        step = excess / (output_slope + remaining * capital_slope)
        x = x - step
        if np.all(np.abs(step) <= 1e-13 * x):
            break
    return np.asarray(x)


def _regrid(endogenous: FloatArray, values: FloatArray, log_k: FloatArray) -> FloatArray:
    """`values` [nk, nz], known at `endogenous` log capital, interpolated to the grid `log_k`."""
    columns = [CubicSpline(endogenous[:, j], values[:, j])(log_k) for j in range(values.shape[1])]
    return np.stack(columns, axis=1)
