"""The household's consumption on grids, given a perceived law of motion of effective capital.

Carroll (2006), "The method of endogenous gridpoints", for all kappa types at once: for every next
capital k' on the grid, today's consumption follows from the Euler equation

    1 / c = beta E[(1 - delta + kappa r') / c'],

and with it the wealth c + k' from which the household would choose k'; interpolation leads back to
the grid. Consumption is linear between the points of both grids.

Arrays of policies are [J, nK, Z, E, nk]: type, effective capital, state, employment, own capital.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rl_markets.envs.krusell_smith.solution.economy import Economy, IntArray
from rl_markets.envs.krusell_smith.solution.statistics import LawOfMotion
from rl_markets.envs.numerics.checks import FloatArray
from rl_markets.errors import ConvergenceError

FLOOR = 1e-10  # consumption of who has nothing: the unemployed at k = 0 avoid it at any price
FIRST_SHARE = 0.06  # of wealth, consumed in the first guess
TOP = 20.0  # of own capital, in multiples of the economy's capital_scale
OWN_SHIFT = 0.01
HISTOGRAM_SHIFT = 0.1  # in the same multiples: points are equally spaced in log(shift + k)
EFFECTIVE_RANGE = (0.8, 1.4)  # in the same multiples


@dataclass(frozen=True)
class Grids:
    """Points of the capital grids, ascending."""

    k: FloatArray  # [nk] own capital, from 0
    K: FloatArray  # [nK] effective capital
    histogram: FloatArray  # [nh] the distribution's own capital, from 0

    @staticmethod
    def build(
        economy: Economy, own: int = 200, effective: int = 17, histogram: int = 1000
    ) -> Grids:
        """Points for `economy`, of given numbers; dense where own capital is small."""
        scale = economy.capital_scale
        return Grids(
            k=scale * _dense_at_zero(OWN_SHIFT, own),
            K=scale * np.linspace(*EFFECTIVE_RANGE, effective),
            histogram=scale * _dense_at_zero(HISTOGRAM_SHIFT, histogram),
        )


def _dense_at_zero(shift: float, points: int) -> FloatArray:
    """[points] from 0 to TOP, nearly equally spaced below `shift`, in proportion to k above."""
    return np.asarray(shift * np.expm1(np.linspace(0.0, np.log1p(TOP / shift), points)))


def bracket(grid: FloatArray, x: FloatArray) -> tuple[IntArray, FloatArray]:
    """Index i and weight w with x = (1 - w) grid[i] + w grid[i + 1].

    Beyond the grid, w leaves [0, 1].
    """
    index = np.clip(np.searchsorted(grid, x, side="right") - 1, 0, len(grid) - 2)
    return index, (x - grid[index]) / (grid[index + 1] - grid[index])


def solve_household(
    economy: Economy,
    grids: Grids,
    law: LawOfMotion,
    start: FloatArray | None = None,
    tolerance: float = 1e-7,
    max_iterations: int = 5000,
) -> FloatArray:
    """Optimal consumption [J, nK, Z, E, nk] of households who believe in `law`.

    start: a first guess of it.
    tolerance: the largest relative change in the last iteration.
    Raises ConvergenceError if consumption has not settled after `max_iterations`.
    """
    wealth = wealth_on(economy, grids.K, grids.k)
    expectation = Expectation.build(economy, grids, law)
    regrid = Regrid.build(wealth)
    c = np.maximum(FIRST_SHARE * wealth if start is None else start, FLOOR)
    for _ in range(max_iterations):
        desired = expectation.consumption(c)
        previous = c
        c = regrid(desired + grids.k, desired)
        # Not at k = 0, where the unemployed consume the floor.
        change = float(np.max(np.abs(c / previous - 1.0)[..., 1:]))
        if change < tolerance:
            return c
    raise ConvergenceError(
        f"consumption still changed by {change:.1e} after {max_iterations} iterations"
    )


def wealth_on(economy: Economy, K: FloatArray, k: FloatArray) -> FloatArray:
    """Wealth at the points `K` and `k` for all types, states and employment: [J, nK, Z, E, nk]."""
    kind = np.arange(economy.types)[:, None, None, None, None]
    z = np.arange(2)[:, None, None]
    e = np.arange(2)[:, None]
    return economy.wealth(k, K[:, None, None, None], z, e, kind)


@dataclass(frozen=True)
class Expectation:
    """The Euler equation's right side; what the law of motion fixes is computed once.

    ahead: [Z nK, nK] weights that interpolate to the perceived K' after (z, K).
    discount: [J, Z, nK, E, Z'E'] beta P(z', e' | z, e) (1 - delta + kappa r').
    """

    ahead: FloatArray
    discount: FloatArray

    @staticmethod
    def build(economy: Economy, grids: Grids, law: LawOfMotion) -> Expectation:
        """What `law` says of tomorrow, at the points of effective capital."""
        points = len(grids.K)
        K_next = np.clip(law(grids.K, np.arange(2)[:, None]), grids.K[0], grids.K[-1])  # [Z, nK]
        index, weight = (part.ravel() for part in bracket(grids.K, K_next))
        ahead = np.zeros((2 * points, points))
        rows = np.arange(2 * points)
        ahead[rows, index] = 1.0 - weight
        ahead[rows, index + 1] = weight
        rental, _ = economy.prices(K_next[..., None], np.arange(2))  # [Z, nK, Z']
        kappa = np.asarray(economy.kappa)[:, None, None, None]
        gross_return = 1.0 - economy.delta + kappa * rental  # [J, Z, nK, Z']
        chance = economy.transitions[None, :, None]  # [1, Z, 1, E, Z', E']
        discount = economy.beta * chance * gross_return[:, :, :, None, :, None]
        return Expectation(ahead, discount.reshape(*discount.shape[:4], 4))

    def consumption(self, c_next: FloatArray) -> FloatArray:
        """Today's consumption before saving each k' of the grid, if tomorrow's is `c_next`.

        Both are [J, nK, Z, E, nk].
        """
        types = len(c_next)
        points = c_next.shape[1]
        own = c_next.shape[-1]
        tomorrow = self.ahead @ c_next.reshape(types, points, 4 * own)
        marginal = np.reciprocal(tomorrow).reshape(types, 2, points, 4, own)
        # The matrix product sums over tomorrow's four states (z', e').
        return np.asarray(np.reciprocal(self.discount @ marginal).transpose(0, 2, 1, 3, 4))


@dataclass(frozen=True)
class Regrid:
    """Linear interpolation of many rows at the wealth of the grids, each row from its own points.

    One search serves all rows: each is shifted beyond the one before.
    """

    wealth: FloatArray  # [J, nK, Z, E, nk]
    span: float  # from one row's shift to the next
    shift: FloatArray  # [rows, 1]
    shifted: FloatArray  # [rows, nk] wealth

    @staticmethod
    def build(wealth: FloatArray) -> Regrid:
        """For `wealth` [J, nK, Z, E, nk]."""
        rows = wealth.reshape(-1, wealth.shape[-1])
        span = 2.0 * float(wealth.max())
        shift = np.asarray(span * np.arange(len(rows), dtype=np.float64)[:, None])
        return Regrid(wealth, span, shift, rows + shift)

    def __call__(self, points: FloatArray, values: FloatArray) -> FloatArray:
        """`values`, known at `points` of wealth, at the grids' wealth.

        Points increase along the last axis. Below the first point the borrowing constraint binds,
        and all wealth is consumed; above the last, the line through the last two goes on. All
        arrays are [J, nK, Z, E, nk].
        """
        own = points.shape[-1]
        x = points.reshape(-1)
        y = values.reshape(-1)
        # Points are cut below the next row's shift, so that rows laid end to end ascend.
        ascending = (np.minimum(points.reshape(-1, own), 0.99 * self.span) + self.shift).reshape(-1)
        after = np.searchsorted(ascending, self.shifted.reshape(-1), side="right")
        before = after.reshape(-1, own) - 1
        # Each row keeps to its own points, of which the last has no right neighbour.
        first = own * np.arange(len(before))[:, None]
        index = np.clip(before, first, first + own - 2).reshape(points.shape)
        left = x[index]
        weight = (self.wealth - left) / (x[index + 1] - left)
        c = y[index] + weight * (y[index + 1] - y[index])
        return np.maximum(np.where(weight < 0.0, self.wealth, c), FLOOR)
