"""Global solution by Chebyshev collocation: the reference policy.

log c(log k, z) is a tensor product of Chebyshev polynomials; Newton's method sets the Euler
residual to zero at their zeros, with expectations by Gauss-Hermite quadrature. Judd (1992),
"Projection methods for solving aggregate growth models". Under full depreciation log c is linear in
the state: exact to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.households.solution.diagnostics import euler_errors
from rl_markets.envs.households.solution.economy import (
    Economy,
    Policy,
    Solution,
    allocation,
    innovations,
    labour_supply,
    output,
    steady_state,
)
from rl_markets.envs.households.solution.loglinear import solve_loglinear
from rl_markets.envs.numerics.chebyshev import Interval, outer, product_nodes
from rl_markets.envs.numerics.checks import FloatArray
from rl_markets.errors import ConvergenceError

TFP_REACH = 4.5  # half-width of the productivity domain, in unconditional standard deviations
TFP_FLOOR = 0.12  # the least half-width: impulse responses start from a +10% shock


@final
@dataclass(frozen=True)
class CollocationSolution(Solution):
    """Consumption as a Chebyshev polynomial, labour from its first-order condition.

    Trusted on the domain `capital` x `tfp`. Outside, log c goes on as a straight line in log k, and
    in z after 30% more of the half-width; `euler_error` tells how wrong that is there.
    """

    economy: Economy
    capital: Interval  # of log k
    tfp: Interval  # of z
    coefficients: FloatArray  # [capital.order, tfp.order]
    newton_steps: int
    residual: float  # largest Euler error at the collocation nodes, unit-free

    def consumption(self, k: FloatArray, z: FloatArray) -> FloatArray:
        """Consumption at `k` and `z` (broadcastable)."""
        basis_k = self.capital.basis(np.log(k))
        basis_z = self.tfp.basis(z)
        return np.asarray(np.exp(np.sum((basis_k @ self.coefficients) * basis_z, axis=-1)))

    def policy(self, k: ArrayLike, z: ArrayLike) -> Policy:
        """See `Solution.policy`."""
        capital = np.asarray(k, dtype=np.float64)
        tfp = np.asarray(z, dtype=np.float64)
        c = self.consumption(capital, tfp)
        labour = labour_supply(self.economy, c, capital, tfp)
        return allocation(self.economy, capital, tfp, c, labour)

    def euler_error(self, k: ArrayLike, z: ArrayLike) -> FloatArray:
        """Unit-free Euler residual beta E[c / c' R'] - 1 at any states: the solution's accuracy."""
        return euler_errors(self.economy, self.actions, k, z)


@dataclass(frozen=True)
class _EulerSystem:
    """Euler residuals at the N = capital.order * tfp.order nodes, and their Jacobian."""

    economy: Economy
    capital: Interval
    tfp: Interval
    k: FloatArray  # [N]
    z: FloatArray  # [N]
    z_next: FloatArray  # [N, Q]
    weights: FloatArray  # [Q]
    basis: FloatArray  # [N, N] of today's states
    basis_z_next: FloatArray  # [N, Q, tfp.order], once: z' does not depend on the policy

    @classmethod
    def build(
        cls, economy: Economy, capital: Interval, tfp: Interval, quadrature: int
    ) -> _EulerSystem:
        """The system, with everything that does not depend on the coefficients."""
        log_k, z = product_nodes(capital, tfp)
        shocks, weights = innovations(economy, quadrature)
        z_next = economy.rho * z[:, None] + shocks
        return cls(
            economy=economy,
            capital=capital,
            tfp=tfp,
            k=np.exp(log_k),
            z=z,
            z_next=z_next,
            weights=weights,
            basis=outer(capital.basis(log_k), tfp.basis(z)),
            basis_z_next=tfp.basis(z_next),
        )

    def evaluate(self, coefficients: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(residual [N], Jacobian [N, N]) at `coefficients` [N]."""
        economy = self.economy
        alpha = economy.alpha
        matrix = coefficients.reshape(self.capital.order, self.tfp.order)
        # Today.
        c = np.exp(self.basis @ coefficients)
        labour = labour_supply(economy, c, self.k, self.z)
        y = output(economy, self.k, labour, self.z)
        # A wild Newton step may save less than nothing: the floor keeps logarithms finite until
        # the step is undone.
        k_next = np.maximum(y + (1.0 - economy.delta) * self.k - c, np.exp(self.capital.low))
        # Elasticity of next capital to today's consumption: what is eaten, and the work that is no
        # longer done.
        saving = (-(1.0 - alpha) * y / (labour / (1.0 - labour) + alpha) - c) / k_next

        # Tomorrow, at each of the shocks [N, Q], and the Euler equation's terms.
        log_k_next = np.log(k_next)
        basis_k_next = self.capital.basis(log_k_next)
        log_c_next = np.einsum("na,nqa->nq", basis_k_next @ matrix, self.basis_z_next)
        slope = np.einsum("na,nqa->nq", self.capital.slopes(log_k_next) @ matrix, self.basis_z_next)
        labour_next = labour_supply(economy, np.exp(log_c_next), k_next[:, None], self.z_next)
        y_next = output(economy, k_next[:, None], labour_next, self.z_next)
        rental = alpha * y_next / k_next[:, None]
        gross_return = 1.0 - economy.delta + rental
        term = economy.beta * self.weights * c[:, None] * np.exp(-log_c_next) * gross_return

        # Elasticities of a term to tomorrow's consumption and to next capital, by the chain rule.
        share = rental / gross_return
        # Elasticity of labour to productivity at given consumption.
        supply = 1.0 / (labour_next / (1.0 - labour_next) + alpha)
        by_c_next = -(1.0 + share * (1.0 - alpha) * supply)
        by_k_next = share * (alpha * supply - 1.0) * (1.0 - alpha) + by_c_next * slope
        own = np.sum(term * (1.0 + by_k_next * saving[:, None]), axis=1)
        future = np.einsum("nq,nqb->nb", term * by_c_next, self.basis_z_next)
        jacobian = own[:, None] * self.basis + outer(basis_k_next, future)
        return term.sum(axis=1) - 1.0, jacobian


def solve_collocation(
    economy: Economy,
    *,
    capital_order: int = 17,
    tfp_order: int = 7,
    capital_range: tuple[float, float] = (0.05, 3.0),
    quadrature: int = 9,
    tolerance: float = 1e-11,
    max_steps: int = 50,
) -> CollocationSolution:
    """The reference policy, by Newton's method from the log-linear one.

    capital_range: the domain of k, in multiples of its steady state.
    tolerance: the largest Euler error allowed at the nodes, unit-free.
    Raises ConvergenceError if Newton's method does not get there, ValueError for an empty domain.
    """
    if not 0.0 < capital_range[0] < capital_range[1]:
        raise ValueError(f"capital_range = {capital_range!r}: expected 0 < low < high")
    low, high = (log(multiple * steady_state(economy).k) for multiple in capital_range)
    capital = Interval(low, high, capital_order)
    reach = max(TFP_REACH * economy.tfp_sd, TFP_FLOOR)
    tfp = Interval(-reach, reach, tfp_order, margin=0.3)
    system = _EulerSystem.build(economy, capital, tfp, quadrature)
    guess = solve_loglinear(economy).policy(system.k, system.z).c
    start = np.asarray(np.linalg.solve(system.basis, np.log(guess)), dtype=np.float64)
    coefficients, steps, residual = _newton(system, start, tolerance, max_steps)
    matrix = coefficients.reshape(capital_order, tfp_order)
    return CollocationSolution(economy, capital, tfp, matrix, steps, residual)


def _newton(
    system: _EulerSystem, coefficients: FloatArray, tolerance: float, max_steps: int
) -> tuple[FloatArray, int, float]:
    """Newton's method, halving a step until the largest residual falls.

    Returns (coefficients, steps, residual).
    """
    residual, jacobian = system.evaluate(coefficients)
    for step in range(max_steps):
        worst = float(np.max(np.abs(residual)))
        if worst < tolerance:
            return coefficients, step, worst
        direction = np.linalg.solve(jacobian, -residual)
        for halving in range(20):
            trial = coefficients + direction * 0.5**halving
            residual, jacobian = system.evaluate(trial)
            if np.max(np.abs(residual)) < worst:
                break
        else:
            raise ConvergenceError(
                f"collocation stalled at an Euler error of {worst:.2e}, Newton step {step}"
            )
        coefficients = trial
    raise ConvergenceError(f"collocation did not reach {tolerance:.0e} in {max_steps} Newton steps")
