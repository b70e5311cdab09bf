"""Markov-perfect equilibrium of the fiscal economy, by time iteration.

The rules chat(K, z), l(K, z), tau(K, z) and the government's value V(K, z) are Chebyshev
polynomials in log K and z. With a prime for tomorrow, they solve

    labour      b / (1-l) = (1-p_e)(1-tau) w / c
    Euler       1 / c = beta E[ (1/c') ((1-p_e)(1-tau') r' + 1 - delta) ]
    government  theta / tau = m Y / a,   m = 1 + beta E dV(K', z') / dlog K'
    value       V = log c + b log(1-l) + theta log(tau Y) + beta E V(K', z')

The third is the first-order condition of

    max over tau of log(chat a) + theta log(tau Y) + beta E V(K', z')
    with a = (1-tau) Y + (1-delta) K,   K' = (1-chat) a,   at given chat and Y

It says that the government takes the share s = theta / (m + theta) of all there is,
G = s (Y + (1-delta) K), and leaves a = (1-s) (Y + (1-delta) K).

One step back in time, from tomorrow's rules to today's choices, is in `game`; there may be no
interior choice in rich states, so that the domain of capital is part of what is sought.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import exp, inf, log
from typing import final

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import expit

from rl_markets.envs.fiscal.solution.economy import (
    FiscalEconomy,
    FiscalRest,
    Period,
    euler_errors,
    expected_basis,
    full_depreciation_tax,
    government_utility,
    labour_errors,
    play,
    rest_at,
    rest_from,
    states,
)
from rl_markets.envs.fiscal.solution.game import MISSING, Game
from rl_markets.envs.households.solution.economy import labour_supply, output
from rl_markets.envs.numerics.chebyshev import Interval
from rl_markets.envs.numerics.checks import FloatArray
from rl_markets.errors import ConvergenceError

COARSE = 11, 3  # orders in capital and productivity with which the domain is sought, and
COARSE_TOLERANCE = 1e-6  # how far the iteration then goes
PADDING = 1.01  # the domain is so much wider than was asked for: its centre is not quite at rest
RECENTRED = 0.005  # log distance of the rest point from the domain's centre that counts as none
CEILING = 0.9  # the domain ends at this multiple of the poorest node without an interior reply;
SHRINK = 0.95  # then it shrinks by this factor until the errors are small,
UNSETTLED = 0.75  # or by this where the iteration does not settle,
NARROWEST = 1.15  # but no further than this multiple of the rest point's capital
MOST_DOMAINS = 40  # to try
CHECKED_STATES = 400  # off the nodes, for the solution's accuracy

Actions = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray, FloatArray]]
"""(K, z) to (chat, l, tau)."""


@final
@dataclass(frozen=True)
class FiscalSolution:
    """Consumption, the tax rate's log odds and the government's value as polynomials.

    Labour follows from its condition. Trusted on the domain `capital` x `tfp`; outside, log c, the
    log odds and V go on as straight lines.
    """

    economy: FiscalEconomy
    capital: Interval  # of log k
    tfp: Interval  # of z
    log_c: FloatArray  # [capital.order, tfp.order] coefficients, as the next two
    tax_odds: FloatArray
    value_coefficients: FloatArray
    iterations: int  # of the last stage, from a solution on another domain

    def actions(self, k: ArrayLike, z: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(chat, l, tau) at mean capital `k` and log productivity `z`, whose shapes broadcast."""
        core = self.economy.economy
        capital, tfp = states(k, z)
        c = np.exp(self._at(capital, tfp, self.log_c))
        tau = expit(self._at(capital, tfp, self.tax_odds))
        # The condition without taxes, with c / ((1-p_e)(1-tau)) in the place of c.
        labour = labour_supply(core, c / (self.economy.retention * (1.0 - tau)), capital, tfp)
        a = (1.0 - tau) * output(core, capital, labour, tfp)
        a += (1.0 - core.delta) * capital
        return c / a, labour, tau

    def household(self, k: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The households' (chat, l): a PolicyFunction."""
        return self.actions(k, z)[:2]

    def tax(self, k: FloatArray, z: FloatArray) -> FloatArray:
        """The government's tau: a TaxPolicy."""
        return self.actions(k, z)[2]

    def value(self, k: ArrayLike, z: ArrayLike) -> FloatArray:
        """V: the government's expected discounted utility."""
        return self._at(*states(k, z), self.value_coefficients)

    @property
    def capital_range(self) -> tuple[float, float]:
        """The capital (low, high) between which the solution is trusted.

        It may end below what was asked for: see `solve`.
        """
        return exp(self.capital.low), exp(self.capital.high)

    @cached_property
    def rest(self) -> FiscalRest:
        """Where these rules, made for an economy with its shocks, rest without them."""

        def growth(log_k: float) -> float:
            k = np.full(1, exp(log_k))
            z = np.zeros(1)
            now = play(self.economy, k, z, *self.actions(k, z))
            return log(float(now.k_next[0])) - log_k

        if not growth(self.capital.low) > 0.0 > growth(self.capital.high):
            raise ConvergenceError("the rules have no rest point in their domain of capital")
        k = exp(brentq(growth, self.capital.low, self.capital.high, xtol=1e-14, rtol=1e-14))
        return rest_from(self.economy, np.full(1, k), self.household, self.tax)

    @cached_property
    def accuracy(self) -> float:
        """Largest error at random states of the domain.

        Of the two choices over time, without unit, and of V in utils.
        """
        rng = np.random.default_rng(0)
        k = np.exp(rng.uniform(self.capital.low, self.capital.high, CHECKED_STATES))
        z = rng.uniform(self.tfp.low, self.tfp.high, CHECKED_STATES)
        errors = self.euler_error(k, z), self.government_error(k, z), self.value_error(k, z)
        return float(np.max(np.abs(errors)))

    def euler_error(self, k: ArrayLike, z: ArrayLike) -> FloatArray:
        """Unit-free error of the households' choice to save: see `euler_errors`."""
        return euler_errors(self.economy, self.household, self.tax, k, z)

    def labour_error(self, k: ArrayLike, z: ArrayLike) -> FloatArray:
        """Unit-free error of the households' choice of work: see `labour_errors`."""
        return labour_errors(self.economy, self.household, self.tax, k, z)

    def government_error(self, k: ArrayLike, z: ArrayLike) -> FloatArray:
        """Unit-free error of the government's choice, (tau Y / a) m / theta - 1.

        Positive: it taxes too much.
        """
        now, _, tfp = self._play(k, z)
        slope = self._expected(self.capital.slopes(np.log(now.k_next)), tfp)
        m = 1.0 + self.economy.economy.beta * slope
        return np.asarray(now.g / now.a * m / self.economy.theta - 1.0)

    def value_error(self, k: ArrayLike, z: ArrayLike) -> FloatArray:
        """The Bellman equation's right-hand side less V, in utils.

        V is off by at most the largest / (1 - beta).
        """
        now, labour, tfp = self._play(k, z)
        later = self._expected(self.capital.basis(np.log(now.k_next)), tfp)
        total = government_utility(self.economy, now, labour) + self.economy.economy.beta * later
        return np.asarray(total - self.value(k, tfp))

    def _play(self, k: ArrayLike, z: ArrayLike) -> tuple[Period, FloatArray, FloatArray]:
        """(what the rules lead to, labour, z)."""
        capital, tfp = states(k, z)
        chat, labour, tau = self.actions(capital, tfp)
        return play(self.economy, capital, tfp, chat, labour, tau), labour, tfp

    def _at(self, k: FloatArray, z: FloatArray, coefficients: FloatArray) -> FloatArray:
        return _evaluate(self.capital.basis(np.log(k)), self.tfp.basis(z), coefficients)

    def _expected(self, by_capital: FloatArray, z: FloatArray) -> FloatArray:
        """E of V, or of its slope in log k.

        by_capital: the basis in k', or its slopes, [..., capital.order]. z: today's, [...].
        """
        by_tfp = expected_basis(self.economy, self.tfp, z)
        return _evaluate(by_capital, by_tfp, self.value_coefficients)


def solve(
    economy: FiscalEconomy,
    *,
    capital_range: tuple[float, float] = (0.3, 3.0),
    capital_order: int = 21,
    tfp_order: int = 7,
    accuracy: float = 5e-6,
    tolerance: float = 1e-10,
    max_iterations: int = 400,
) -> FiscalSolution:
    """The equilibrium around its rest point.

    capital_range: the domain of k, in multiples of its rest point. It ends earlier where an
    interior equilibrium does (see `game`) or comes so near to its end that
    `FiscalSolution.accuracy` would exceed `accuracy`.
    tolerance: the largest change of log c and of tau in the last iteration.
    Raises ConvergenceError if the iteration does not settle, or there is no interior equilibrium up
    to NARROWEST times the rest point, as with too large a theta; ValueError for a range without 1
    in it.
    """
    if not 0.0 < capital_range[0] < 1.0 < capital_range[1]:
        raise ValueError(f"capital_range = {capital_range!r}: expected 0 < low < 1 < high")
    start = rest_at(economy, full_depreciation_tax(economy))
    low = capital_range[0] / PADDING
    top = capital_range[1] * PADDING
    # Seek the domain with few polynomials, then solve on it with many.
    coarse = _Stage(economy, COARSE, COARSE_TOLERANCE, inf, max_iterations)
    rough, top = coarse.widest(_constant(start), start.k, low, top)
    fine = _Stage(economy, (capital_order, tfp_order), tolerance, accuracy, max_iterations)
    return fine.widest(rough.actions, rough.rest.k, low, top)[0]


@dataclass(frozen=True)
class _Stage:
    """How well to solve: see `solve`."""

    economy: FiscalEconomy
    orders: tuple[int, int]
    tolerance: float
    accuracy: float
    max_iterations: int

    def widest(
        self, guess: Actions, centre: float, low: float, top: float
    ) -> tuple[FiscalSolution, float]:
        """(solution on the widest domain that works, its top).

        low, top: the domain's ends, in multiples of the rest point; the top comes down until the
        solution is good.
        """
        actions = guess
        for _ in range(MOST_DOMAINS):
            if top < NARROWEST:
                raise ConvergenceError(
                    f"no interior equilibrium at {NARROWEST} times the rest point, k = {centre:.4g}"
                )
            game = Game.build(self.economy, (centre * low, centre * top), self.orders)
            try:
                solution, ceiling = _iterate(game, actions, self.tolerance, self.max_iterations)
                rest = solution.rest.k
            except ConvergenceError:
                top = top * UNSETTLED
                actions = guess
                if top < NARROWEST:
                    raise
                continue
            drift = abs(log(rest / centre))
            centre = rest
            actions = solution.actions
            if np.isfinite(ceiling):  # rich states without an interior reply
                top = min(CEILING * ceiling / centre, SHRINK * top)
            elif solution.accuracy > self.accuracy:
                top *= SHRINK
            elif drift < RECENTRED:
                return solution, top
            # Otherwise only the centre moves: the same multiples, around the new rest point.
        raise ConvergenceError(
            f"the rest point, k = {centre:.4g}, still moves with the domain of capital"
        )


def _constant(rest: FiscalRest) -> Actions:
    """The actions at a rest point, at every state."""

    def actions(k: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        return np.full_like(k, rest.chat), np.full_like(k, rest.l), np.full_like(k, rest.tau)

    return actions


def _iterate(
    game: Game, actions: Actions, tolerance: float, max_iterations: int
) -> tuple[FiscalSolution, float]:
    """(limit of the time iteration from `actions`, ceiling).

    The ceiling is the least capital at a node without an interior reply; infinite where all have
    one.
    """
    choice = game.start(*actions(game.k, game.z))
    for iteration in range(1, max_iterations + 1):
        # A wild iteration shows in `change`.
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            previous = choice
            choice = game.reply(game.rules(choice), choice)
            change = np.max(np.abs([np.log(choice.c / previous.c), choice.tau - previous.tau]))
        if not np.isfinite(change):
            raise ConvergenceError(
                f"time iteration broke down at iteration {iteration}: is theta too large?"
            )
        if change < tolerance:
            break
    else:
        raise ConvergenceError(
            f"time iteration still moved the rules by {change:.1e} "
            f"after {max_iterations} iterations"
        )
    rules = game.rules(choice)
    solution = FiscalSolution(
        game.economy,
        capital=game.capital,
        tfp=game.tfp,
        log_c=rules.log_c,
        tax_odds=rules.tax_odds,
        value_coefficients=rules.value,
        iterations=iteration,
    )
    missing = choice.missing > MISSING
    return solution, float(np.min(game.k, where=missing, initial=np.inf))


def _evaluate(by_capital: FloatArray, by_tfp: FloatArray, coefficients: FloatArray) -> FloatArray:
    """Polynomials at states [...], from the bases in log k and z at them: [...]."""
    return np.asarray(np.sum((by_capital @ coefficients) * by_tfp, axis=-1))
