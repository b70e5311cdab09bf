"""Log-linear solution around the steady state, as Dynare's order 1 in logs.

Blanchard and Kahn (1980), through the generalised Schur form of Klein (2000).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import ordqz

from rl_markets.envs.households.solution.economy import (
    Economy,
    Policy,
    Solution,
    SteadyState,
    allocation,
    steady_state,
)
from rl_markets.envs.numerics.checks import FloatArray
from rl_markets.errors import BlanchardKahnError


def solve_linear_expectations(lead: FloatArray, lag: FloatArray, predetermined: int) -> FloatArray:
    """Jump variables as a linear function of the predetermined ones, for lead E[x'] = lag x.

    lead, lag: [n, n], the first `predetermined` entries of x being the predetermined variables.
    Returns [n - predetermined, predetermined].
    Raises BlanchardKahnError unless there are exactly as many stable roots as predetermined
    variables (fewer: no stable path; more: a continuum of them), or if the rank condition fails.
    """
    # Roots are numerator / denominator; "iuc" puts those inside the unit circle, the stable, first.
    _, _, numerator, denominator, _, vectors = ordqz(lag, lead, sort="iuc", output="complex")
    stable = int(np.sum(np.abs(numerator) < np.abs(denominator)))
    if stable != predetermined:
        verdict = "no stable path" if stable < predetermined else "many stable paths"
        raise BlanchardKahnError(
            f"{stable} stable roots, {predetermined} predetermined variables: {verdict}"
        )
    states = vectors[:predetermined, :predetermined]
    jumps = vectors[predetermined:, :predetermined]
    if np.linalg.cond(states) > 1e12:
        raise BlanchardKahnError(
            "rank condition fails: the stable paths do not cover the predetermined states"
        )
    return np.asarray(np.real(np.linalg.solve(states.T, jumps.T).T))


@final
@dataclass(frozen=True)
class LogLinear(Solution):
    """Policy in log deviations from the steady state: log(c / c_ss) = c_k log(k / k_ss) + c_z z.

    The rules of consumption and labour are the policy's; output, wealth and next capital follow
    from them exactly.
    """

    economy: Economy
    steady: SteadyState
    c_k: float
    c_z: float
    l_k: float
    l_z: float
    k_k: float
    k_z: float

    def policy(self, k: ArrayLike, z: ArrayLike) -> Policy:
        """See `Solution.policy`. The solution is local: far from rest c may exceed wealth."""
        capital = np.asarray(k, dtype=np.float64)
        tfp = np.asarray(z, dtype=np.float64)
        gap = np.log(capital / self.steady.k)
        c = self.steady.c * np.exp(self.c_k * gap + self.c_z * tfp)
        labour = self.steady.l * np.exp(self.l_k * gap + self.l_z * tfp)
        return allocation(self.economy, capital, tfp, c, labour)


def solve_loglinear(economy: Economy) -> LogLinear:
    """The log-linear policy; raises BlanchardKahnError if it does not exist or is not unique."""
    steady = steady_state(economy)
    alpha = economy.alpha
    work_leisure = steady.l / (1.0 - steady.l)
    # Labour-leisure choice, in deviations: (work_leisure + alpha) log l = z + alpha log k - log c.
    static = 1.0 / (work_leisure + alpha)
    labour = np.array([alpha, 1.0, -1.0]) * static  # on (k, z, c)
    lead, lag = _system(economy, steady, labour)
    consumption = solve_linear_expectations(lead, lag, predetermined=2)[0]
    rule = np.vstack([np.eye(2), consumption])  # (k, z) -> (k, z, c)
    l_k, l_z = (labour @ rule).tolist()
    k_k, k_z = (lag[0] @ rule / lead[0, 0]).tolist()
    c_k, c_z = consumption.tolist()
    return LogLinear(economy, steady, c_k=c_k, c_z=c_z, l_k=l_k, l_z=l_z, k_k=k_k, k_z=k_z)


def _system(
    economy: Economy, steady: SteadyState, labour: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """(lead, lag) of resources, productivity and Euler equation, lead E[x'] = lag x.

    x holds the log deviations of (k, z, c); each name below is a variable's row on x.
    """
    alpha = economy.alpha
    beta = economy.beta
    delta = economy.delta
    capital, tfp, consumption = np.eye(3)
    production = tfp + alpha * capital + (1.0 - alpha) * labour
    interest = beta * steady.r * (production - capital)
    lead = np.vstack([steady.k * capital, tfp, interest - consumption])
    resources = steady.y * production + (1.0 - delta) * steady.k * capital - steady.c * consumption
    lag = np.vstack([resources, economy.rho * tfp, -consumption])
    return lead, lag
