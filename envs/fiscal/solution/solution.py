"""Markov-perfect equilibrium of the fiscal economy: time iteration on Chebyshev polynomials in log
K and z.

The rules chat(K, z), l(K, z), tau(K, z) and the government's value V(K, z) solve, with a prime for
tomorrow,

    labour      b / (1-l) = (1-p_e)(1-tau) w / c
    Euler       1 / c = beta E[ (1/c') ((1-p_e)(1-tau') r' + 1 - delta) ]
    government  theta / tau = m Y / a,   m = 1 + beta E dV(K', z') / dlog K'
    value       V = log c + b log(1-l) + theta log(tau Y) + beta E V(K', z')

The third is the first-order condition of max over tau of log(chat a) + theta log(tau Y) + beta E
V(K', z') with a = (1-tau) Y + (1-delta) K and K' = (1-chat) a, at given chat and Y. It says that
the government takes the share s = theta / (m + theta) of all there is, G = s (Y + (1-delta) K), and
leaves a = (1-s) (Y + (1-delta) K).

With tomorrow's rules, each K' has its c and s, and today's labour is a root of

    f(l) = b c l / (1-l) - (1-p_e)(1-alpha) [(1-s) Y(l) - s (1-delta) K],   convex; f(0) > 0 if
    delta < 1

f has two roots or none. The solution takes the higher: the only one at delta = 1 and in the limit
    theta -> 0. At the
lower, high taxes and little work cause each other; below it even less work is the best reply, so
that where actions are bounded the least work and a high tax may be best replies too. In states so
rich that G would be a large part of
output there is no root: the tax and the work flee from each other to the edges of what is allowed.
    The domain of
capital ends before such states. Capital does not rise to them from below, so that they do not
matter to the rest.
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
from scipy.special import expit, logit

from rl_markets.envs.fiscal.solution.economy import (
    QUADRATURE,
    FiscalEconomy,
    FiscalRest,
    Period,
    euler_errors,
    expected_basis,
    full_depreciation_tax,
    government_utility,
    labour_errors,
    outer,
    play,
    rest_at,
    rest_from,
    states,
)
from rl_markets.envs.households.solution.economy import (
    FloatArray,
    innovations,
    labour_supply,
    output,
    utility,
)
from rl_markets.envs.numerics.chebyshev import Interval
from rl_markets.errors import ConvergenceError

TFP_REACH = 4.0  # half-width of the productivity domain, in unconditional standard deviations,
TFP_FLOOR = 0.02  # but at least this, for an economy without shocks.
COARSE = 11, 3  # orders in capital and productivity with which the domain is sought, and
COARSE_TOLERANCE = 1e-6  # how far the iteration then goes
# how much wider than the range asked for the domain is, as its centre is not quite at rest
PADDING = 1.01
RECENTRED = 0.005  # log distance of the rest point from the domain's centre that counts as none
CEILING = 0.9  # the domain ends at this multiple of the poorest node without an interior reply;
SHRINK = 0.95  # then it shrinks by this factor until the errors are small,
UNSETTLED = 0.75  # or by this where the iteration does not settle,
NARROWEST = 1.15  # but no further than this multiple of the rest point's capital
MISSING = 1e-8  # f / (b c) that counts as no root
MOST_TAXED = 0.95  # tax rate that stands for the missing reply, while the domain is sought
MOST_DOMAINS = 40  # to try
CHECKED_STATES = 400  # off the nodes, for the solution's accuracy

Actions = Callable[
    [FloatArray, FloatArray], tuple[FloatArray, FloatArray, FloatArray]
]  # (K, z) to (chat, l, tau)


@final
@dataclass(frozen=True)
class FiscalSolution:
    """Consumption, the tax rate's log odds and the government's value as polynomials; labour from
    its condition.

    Trusted on the domain `capital` x `tfp`; outside, log c, the log odds and V go on as straight
    lines.
    """

    economy: FiscalEconomy
    capital: Interval  # of log k
    tfp: Interval  # of z
    log_c: FloatArray  # [capital.order, tfp.order] coefficients, as the next two
    tax_odds: FloatArray
    value_coefficients: FloatArray
    iterations: int  # of the last stage, from a solution on another domain

    def actions(self, k: ArrayLike, z: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(chat, l, tau) at mean capital `k` and log productivity `z`, of any broadcastable
        shapes."""
        capital, tfp = states(k, z)
        c = np.exp(self._at(capital, tfp, self.log_c))
        tau = expit(self._at(capital, tfp, self.tax_odds))
        labour = labour_supply(
            self.economy.economy, c / (self.economy.retention * (1.0 - tau)), capital, tfp
        )
        a = (1.0 - tau) * output(self.economy.economy, capital, labour, tfp)
        a += (1.0 - self.economy.economy.delta) * capital
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
        """The capital between which the solution is trusted; it may end below what was asked for:
        see `solve`."""
        return exp(self.capital.low), exp(self.capital.high)

    @cached_property
    def rest(self) -> FiscalRest:
        """Where these rules, made for an economy with its shocks, rest without them."""

        def growth(log_k: float) -> float:
            k = np.full(1, exp(log_k))
            z = np.zeros(1)
            return log(float(play(self.economy, k, z, *self.actions(k, z)).k_next[0])) - log_k

        if not growth(self.capital.low) > 0.0 > growth(self.capital.high):
            raise ConvergenceError("the rules have no rest point in their domain of capital")
        k = exp(brentq(growth, self.capital.low, self.capital.high, xtol=1e-14, rtol=1e-14))
        return rest_from(self.economy, np.full(1, k), self.household, self.tax)

    @cached_property
    def accuracy(self) -> float:
        """Largest unit-free error of the two choices over time, and of V in utils, at random states
        of the domain."""
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
        """Unit-free error of the government's choice, (tau Y / a) m / theta - 1; positive: it taxes
        too much."""
        now, _, tfp = self._play(k, z)
        slope = self._expected(self.capital.slopes(np.log(now.k_next)), tfp)
        return np.asarray(
            now.g / now.a * (1.0 + self.economy.economy.beta * slope) / self.economy.theta - 1.0
        )

    def value_error(self, k: ArrayLike, z: ArrayLike) -> FloatArray:
        """The Bellman equation's right-hand side less V, in utils; V is off by at most the largest
        / (1 - beta)."""
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
        """E of V, or of its slope in log k: `by_capital` is the basis in k', or its slopes, [...,
        capital.order]."""
        return _evaluate(
            by_capital, expected_basis(self.economy, self.tfp, z), self.value_coefficients
        )


@dataclass(frozen=True)
class _Rules:
    """What tomorrow's players do, and the government's value: coefficients, all [capital.order,
    tfp.order]."""

    log_c: FloatArray
    tax_odds: FloatArray
    value: FloatArray


@dataclass(frozen=True)
class _Choice:
    """What today's players do at the nodes; all [N]."""

    log_k_next: FloatArray
    c: FloatArray
    l: FloatArray  # noqa: E741 (the paper's symbol)
    tau: FloatArray
    missing: FloatArray  # f / (b c) at l: 0 at a root, positive where there is none


@dataclass(frozen=True)
class _Game:
    """One period of the game at the N = capital.order * tfp.order nodes, with Q nodes of tomorrow's
    productivity."""

    economy: FiscalEconomy
    capital: Interval
    tfp: Interval
    k: FloatArray  # [N]
    z: FloatArray  # [N]
    z_next: FloatArray  # [N, Q]
    weights: FloatArray  # [Q]
    basis: FloatArray  # [N, N] of today's states
    basis_z_next: FloatArray  # [N, Q, tfp.order]
    expected_z: FloatArray  # [N, tfp.order]: its mean over Q

    @classmethod
    def build(
        cls, economy: FiscalEconomy, capital: tuple[float, float], orders: tuple[int, int]
    ) -> _Game:
        core = economy.economy
        by_k = Interval(log(capital[0]), log(capital[1]), orders[0])
        reach = max(TFP_REACH * core.tfp_sd, TFP_FLOOR)
        by_z = Interval(-reach, reach, orders[1], margin=0.3)
        log_k, z = (grid.ravel() for grid in np.meshgrid(by_k.nodes(), by_z.nodes(), indexing="ij"))
        shocks, weights = innovations(core, QUADRATURE)
        z_next = core.rho * z[:, None] + shocks
        basis = outer(by_k.basis(log_k), by_z.basis(z))
        later = by_z.basis(z_next)
        expected = expected_basis(economy, by_z, z)
        return cls(economy, by_k, by_z, np.exp(log_k), z, z_next, weights, basis, later, expected)

    def start(self, chat: FloatArray, labour: FloatArray, tau: FloatArray) -> _Choice:
        """These actions [N], as a choice."""
        now = play(self.economy, self.k, self.z, chat, labour, tau)
        return _Choice(np.log(now.k_next), now.c, labour, tau, np.zeros_like(tau))

    def rules(self, choice: _Choice) -> _Rules:
        """The rules through `choice`, and their value if they are kept for ever."""
        core = self.economy.economy
        tau = np.where(choice.missing > MISSING, np.minimum(choice.tau, MOST_TAXED), choice.tau)
        g = tau * output(core, self.k, choice.l, self.z)
        now = utility(core, choice.c, choice.l) + self.economy.theta * np.log(g)
        later = outer(self.capital.basis(choice.log_k_next), self.expected_z)
        value = np.asarray(np.linalg.solve(self.basis - core.beta * later, now), dtype=np.float64)
        log_c, odds = np.linalg.solve(
            self.basis, np.stack([np.log(choice.c), logit(tau)], axis=1)
        ).T
        shape = self.capital.order, self.tfp.order
        return _Rules(log_c.reshape(shape), odds.reshape(shape), value.reshape(shape))

    def reply(self, rules: _Rules, guess: _Choice) -> _Choice:
        """The equilibrium of today's choices, given tomorrow's `rules`: Newton's method in log K'
        at each node."""
        log_k_next = guess.log_k_next
        for _ in range(30):
            gap = self._gap(rules, log_k_next)[0]
            step = 1e-6
            slope = (self._gap(rules, log_k_next + step)[0] - gap) / step
            move = np.clip(-gap / slope, -0.3, 0.3)
            log_k_next = log_k_next + move
            if np.max(np.abs(move)) < 1e-9:
                break
        return self._gap(rules, log_k_next)[1]

    def _gap(self, rules: _Rules, log_k_next: FloatArray) -> tuple[FloatArray, _Choice]:
        """(K' + c - a) / K [N] at these log K', and the choices that they lead to."""
        core = self.economy.economy
        c, share = self._tomorrow(rules, log_k_next)
        labour, missing = self._labour(c, share)
        y = output(core, self.k, labour, self.z)
        all_there_is = y + (1.0 - core.delta) * self.k
        gap = (np.exp(log_k_next) + c - (1.0 - share) * all_there_is) / self.k
        return gap, _Choice(log_k_next, c, labour, share * all_there_is / y, missing)

    def _tomorrow(self, rules: _Rules, log_k_next: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Today's consumption by the Euler equation, and the government's share s by its condition:
        [N] each."""
        core = self.economy.economy
        retention = self.economy.retention
        basis = self.capital.basis(log_k_next)
        k_next = np.exp(log_k_next)[:, None]
        c = np.exp(np.einsum("na,nqa->nq", basis @ rules.log_c, self.basis_z_next))
        kept = retention * (
            1.0 - expit(np.einsum("na,nqa->nq", basis @ rules.tax_odds, self.basis_z_next))
        )
        labour = labour_supply(core, c / kept, k_next, self.z_next)
        rental = core.alpha * output(core, k_next, labour, self.z_next) / k_next
        marginal_value = core.beta * ((kept * rental + 1.0 - core.delta) / c) @ self.weights
        slope = np.sum((self.capital.slopes(log_k_next) @ rules.value) * self.expected_z, axis=1)
        m = np.maximum(1.0 + core.beta * slope, 0.1)  # the floor is for wild steps
        return 1.0 / marginal_value, self.economy.theta / (m + self.economy.theta)

    def _labour(self, c: FloatArray, share: FloatArray) -> tuple[FloatArray, FloatArray]:
        """(the higher root of f, 0), or where it has none (the l at which f is least, f / (b c)
        there): [N] each.

        Newton's method falls monotonically onto the root from the right, where labour is if s is
        the tax rate.
        """
        core = self.economy.economy
        alpha = self.economy.economy.alpha
        work = self.economy.retention * (1.0 - alpha) / (core.b * c)
        scale = work * (1.0 - share) * np.exp(self.z) * self.k**alpha
        fixed = work * share * (1.0 - core.delta) * self.k
        least = _least(scale * (1.0 - alpha), alpha)
        labour = labour_supply(core, c / (self.economy.retention * (1.0 - share)), self.k, self.z)
        for _ in range(60):
            f = labour / (1.0 - labour) - scale * labour ** (1.0 - alpha) + fixed
            slope = 1.0 / (1.0 - labour) ** 2 - (1.0 - alpha) * scale * labour**-alpha
            previous = labour
            labour = np.maximum(labour - f / np.maximum(slope, 1e-12), least)
            if np.all(np.abs(labour - previous) <= 1e-13 * labour):
                break
        return labour, np.maximum(
            labour / (1.0 - labour) - scale * labour ** (1.0 - alpha) + fixed, 0.0
        )


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
        interior equilibrium
    does (see the module) or comes so near to its end that `FiscalSolution.accuracy` would exceed
    `accuracy`.
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
        """(solution on the widest domain that works, its top): from `low` to at most `top` times
        the rest point."""
        actions = guess
        for _ in range(MOST_DOMAINS):
            if top < NARROWEST:
                raise ConvergenceError(
                    f"no interior equilibrium at {NARROWEST} times the rest point, k = {centre:.4g}"
                )
            game = _Game.build(self.economy, (centre * low, centre * top), self.orders)
            try:
                solution, ceiling = _iterate(game, actions, self.tolerance, self.max_iterations)
                rest = solution.rest.k
            except ConvergenceError:
                top = top * UNSETTLED
                actions = guess
                if top < NARROWEST:
                    raise
                continue
            moved = abs(log(rest / centre))
            centre = rest
            actions = solution.actions
            if np.isfinite(ceiling):
                top = min(CEILING * ceiling / centre, SHRINK * top)
            elif solution.accuracy > self.accuracy:
                top *= SHRINK
            elif moved < RECENTRED:
                return solution, top
        raise ConvergenceError(
            f"the rest point, k = {centre:.4g}, still moves with the domain of capital"
        )


def _constant(rest: FiscalRest) -> Actions:
    return lambda k, z: (
        np.full_like(k, rest.chat),
        np.full_like(k, rest.l),
        np.full_like(k, rest.tau),
    )


def _iterate(
    game: _Game, actions: Actions, tolerance: float, max_iterations: int
) -> tuple[FiscalSolution, float]:
    """(limit of the time iteration from `actions`, the least capital at a node without an interior
    reply)."""
    choice = game.start(*actions(game.k, game.z))
    for iteration in range(1, max_iterations + 1):
        with np.errstate(
            invalid="ignore", divide="ignore", over="ignore"
        ):  # a wild iteration shows in `change`
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
            f"time iteration still moved the rules by {change:.1e} after {max_iterations} "
            "iterations"
        )
    rules = game.rules(choice)
    missing = choice.missing > MISSING
    parts = game.economy, game.capital, game.tfp, rules.log_c, rules.tax_odds, rules.value
    return FiscalSolution(*parts, iterations=iteration), float(
        np.min(game.k, where=missing, initial=np.inf)
    )


def _least(scale: FloatArray, alpha: float) -> FloatArray:
    """The l in (0, 1) at which l^alpha / (1-l)^2 = scale: Newton's method in log odds, as for
    labour supply."""
    log_scale = np.log(scale)
    log_odds = np.where(log_scale > 0.0, log_scale / 2.0, log_scale / alpha)
    for _ in range(60):
        excess = (
            2.0 * np.logaddexp(0.0, log_odds) - alpha * np.logaddexp(0.0, -log_odds) - log_scale
        )
        step = excess / (alpha + (2.0 - alpha) * expit(log_odds))
        log_odds = log_odds - step
        if np.all(np.abs(step) <= 1e-12 * (1.0 + np.abs(log_odds))):
            break
    return np.asarray(expit(log_odds))


def _evaluate(by_capital: FloatArray, by_tfp: FloatArray, coefficients: FloatArray) -> FloatArray:
    return np.asarray(np.sum((by_capital @ coefficients) * by_tfp, axis=-1))
