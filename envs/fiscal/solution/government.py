"""What the government could gain against households that play a frozen policy.

Its exact best response solves

    V(K, z) = max over tau of log(chat a) + b log(1-l) + theta log(tau Y) + beta E V(K', z')
    a = (1-tau) Y + (1-delta) K,   K' = (1-chat) a,   (chat, l) = household policy at (K, z)

V is a polynomial in log K and z. Howard's policy iteration: the value of given tax rates is one
linear system, then the rates are improved at every node. It starts from the frozen tax policy, so
that the gain, the optimum less that policy's own value, comes out of one approximation: no less
than 0, and 0 at an equilibrium, but for the polynomials' error, which is small for policies as
smooth as an equilibrium's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from rl_markets.envs.fiscal.solution.economy import (
    TFP_FLOOR,
    TFP_REACH,
    FiscalEconomy,
    Period,
    TaxPolicy,
    expected_basis,
    government_utility,
    play,
    rest_point,
    states,
)
from rl_markets.envs.households.solution.diagnostics import PolicyFunction
from rl_markets.envs.numerics.chebyshev import Interval, outer, product_nodes
from rl_markets.envs.numerics.checks import FloatArray
from rl_markets.errors import ConvergenceError

ORDERS = 17, 6  # of the polynomials in capital and productivity
RATES = expit(np.linspace(-7.0, 7.0, 43))  # tax rates among which the search starts
BISECTIONS = 50  # of the interval between two neighbours of the best of them
WIDER = 1.5  # factor by which the domain grows at an end where capital leaves it
MOST_WIDENINGS = 8


@dataclass(frozen=True)
class _Response:
    """The government's problem at N nodes, where the households' actions are given.

    All arrays but two are [N].
    """

    economy: FiscalEconomy
    capital: Interval
    tfp: Interval
    k: FloatArray
    z: FloatArray
    chat: FloatArray
    labour: FloatArray
    y: FloatArray  # output: it does not depend on the tax rate
    basis: FloatArray  # [N, N] of today's states
    expected_z: FloatArray  # [N, tfp.order] mean of the basis in z'

    @classmethod
    def build(
        cls,
        economy: FiscalEconomy,
        household_policy: PolicyFunction,
        capital: tuple[float, float],
        reach: float,
    ) -> _Response:
        """The problem on a domain of `capital` (low, high) and productivity -reach to reach."""
        by_k = Interval(log(capital[0]), log(capital[1]), ORDERS[0])
        by_z = Interval(-reach, reach, ORDERS[1], margin=0.3)
        log_k, z = product_nodes(by_k, by_z)
        k = np.exp(log_k)
        chat, labour = household_policy(k, z)
        chat = _share("chat", chat, k)
        labour = _share("l", labour, k)
        return cls(
            economy,
            capital=by_k,
            tfp=by_z,
            k=k,
            z=z,
            chat=chat,
            labour=labour,
            y=play(economy, k, z, chat, labour, np.zeros_like(k)).y,
            basis=outer(by_k.basis(log_k), by_z.basis(z)),
            expected_z=expected_basis(economy, by_z, z),
        )

    def play(self, tau: FloatArray) -> Period:
        """What the rates `tau` [N] lead to."""
        return play(self.economy, self.k, self.z, self.chat, self.labour, tau)

    def evaluate(self, tau: FloatArray) -> FloatArray:
        """[N] coefficients of the value of setting the rates `tau` [N] for ever."""
        now = self.play(tau)
        beta = self.economy.economy.beta
        # V = utility + beta E V' at the nodes: linear in the coefficients of V.
        later = outer(self.capital.basis(np.log(now.k_next)), self.expected_z)
        utility = government_utility(self.economy, now, self.labour)
        return np.asarray(np.linalg.solve(self.basis - beta * later, utility))

    def total(self, value: FloatArray, tau: FloatArray) -> FloatArray:
        """The right-hand side of the Bellman equation at the rates `tau` [N]: [N]."""
        now = self.play(tau)
        beta = self.economy.economy.beta
        by_tfp = self.capital.basis(np.log(now.k_next)) @ self._matrix(value)
        later = np.sum(by_tfp * self.expected_z, axis=1)
        return np.asarray(government_utility(self.economy, now, self.labour) + beta * later)

    def slope(self, value: FloatArray, tau: FloatArray) -> FloatArray:
        """Its derivative in tau: theta / tau - (1 + beta E dV / dlog K') Y / a."""
        now = self.play(tau)
        beta = self.economy.economy.beta
        by_tfp = self.capital.slopes(np.log(now.k_next)) @ self._matrix(value)
        slope = np.sum(by_tfp * self.expected_z, axis=1)
        return np.asarray(self.economy.theta / tau - (1.0 + beta * slope) * self.y / now.a)

    def improve(self, value: FloatArray, tau: FloatArray) -> FloatArray:
        """The best rates against `value`, [N].

        The best of RATES, then bisection of the slope between its neighbours. A rate in `tau` that
        is as good stays.
        """
        totals = np.stack([self.total(value, np.full_like(tau, rate)) for rate in RATES])
        # With a neighbour on either side, even at the ends.
        best = np.clip(np.argmax(totals, axis=0), 1, len(RATES) - 2)
        low = RATES[best - 1]
        high = RATES[best + 1]
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            rising = self.slope(value, middle) > 0.0
            low = np.where(rising, middle, low)
            high = np.where(rising, high, middle)
        improved = 0.5 * (low + high)
        return np.where(self.total(value, improved) > self.total(value, tau), improved, tau)

    def value(self, coefficients: FloatArray, k: FloatArray, z: FloatArray) -> FloatArray:
        """The value function with `coefficients` [N] at any states."""
        by_tfp = self.capital.basis(np.log(k)) @ self._matrix(coefficients)
        return np.asarray(np.sum(by_tfp * self.tfp.basis(z), axis=-1))

    def leaves(self, *rates: FloatArray) -> tuple[bool, bool]:
        """Whether capital leaves the domain at its (low, high) end under any of these rates.

        On average over z.
        """
        growth = []
        for tau in rates:
            by_node = np.log(self.play(tau).k_next / self.k)
            growth.append(by_node.reshape(ORDERS).mean(axis=1))
        return any(x[0] < 0.0 for x in growth), any(x[-1] > 0.0 for x in growth)

    def _matrix(self, coefficients: FloatArray) -> FloatArray:
        return coefficients.reshape(self.capital.order, self.tfp.order)


def government_gain(
    economy: FiscalEconomy,
    household_policy: PolicyFunction,
    tax_policy: TaxPolicy,
    k: ArrayLike,
    z: ArrayLike,
    *,
    capital_range: tuple[float, float] = (0.3, 3.0),
    tolerance: float = 1e-9,
    max_iterations: int = 50,
) -> FloatArray:
    """Discounted utils the government gains by its best response, from each state (k, z).

    Households go on with `household_policy`, (K, z) to (chat, l); the government gives up
    `tax_policy`, (K, z) to tau.
    capital_range: the domain, in multiples of the capital at which the frozen policies rest. It is
    made wider to hold the states asked about, and until neither the frozen tax nor the best one
    leads out of it.
    tolerance: largest change of the value at the nodes in the last iteration, in utils.
    Raises ConvergenceError if the frozen policies have no rest point, policy iteration does not
    settle or no domain is wide enough; ValueError for actions outside (0, 1) or an empty range.
    """
    if not 0.0 < capital_range[0] < capital_range[1]:
        raise ValueError(f"capital_range = {capital_range!r}: expected 0 < low < high")
    capital, tfp = _positive_states(k, z)
    rest = rest_point(economy, household_policy, tax_policy).k
    low, high = _capital_domain(capital, capital_range[0] * rest, capital_range[1] * rest)
    reach = max(TFP_REACH * economy.economy.tfp_sd, TFP_FLOOR, _largest(np.abs(tfp)))
    for _ in range(MOST_WIDENINGS):
        problem = _Response.build(economy, household_policy, (low, high), reach)
        frozen = _share("tau", tax_policy(problem.k, problem.z), problem.k)
        best, gain = _iterate(problem, frozen, tolerance, max_iterations)
        below, above = problem.leaves(frozen, best)
        if not (below or above):
            return problem.value(gain, capital, tfp)
        low = low / WIDER if below else low
        high = high * WIDER if above else high
    raise ConvergenceError(
        f"capital leaves the domain [{low:.3g}, {high:.3g}]: the government's problem has no end"
    )


def _positive_states(k: ArrayLike, z: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """`states`, or ValueError unless all capital is positive."""
    capital, tfp = states(k, z)
    if not np.all(capital > 0.0):
        raise ValueError(f"k = {k!r}: expected positive capital")
    return capital, tfp


def _capital_domain(capital: FloatArray, low: float, high: float) -> tuple[float, float]:
    """The domain (low, high), made wider to hold all of `capital`."""
    return min(low, float(np.min(capital, initial=np.inf))), max(high, _largest(capital))


def _largest(values: FloatArray) -> float:
    """The largest of numbers that are not negative; 0 where there are none."""
    return float(np.max(values, initial=0.0))


def _iterate(
    problem: _Response, frozen: FloatArray, tolerance: float, max_iterations: int
) -> tuple[FloatArray, FloatArray]:
    """Howard's policy iteration from the rates `frozen`.

    Returns the best rates [N], and the coefficients [N] of the gain over `frozen`.
    """
    value = start = problem.evaluate(frozen)
    tau = frozen
    for _ in range(max_iterations):
        tau = problem.improve(value, tau)
        previous = value
        value = problem.evaluate(tau)
        # Of the value at the nodes; `value` itself holds coefficients.
        change = float(np.max(np.abs(problem.basis @ (value - previous))))
        if change < tolerance:
            return tau, value - start
    raise ConvergenceError(
        f"policy iteration still moved the value by {change:.1e} after {max_iterations} steps"
    )


def _share(name: str, values: ArrayLike, k: FloatArray) -> FloatArray:
    """`values` at the states with capital `k` [N]; ValueError unless all are within (0, 1)."""
    share = np.broadcast_to(np.asarray(values, dtype=np.float64), k.shape)
    if not np.all((share > 0.0) & (share < 1.0)):
        low = float(share.min())
        high = float(share.max())
        raise ValueError(
            f"policy's {name} in [{low!r}, {high!r}]: expected within (0, 1) at every state"
        )
    return share
