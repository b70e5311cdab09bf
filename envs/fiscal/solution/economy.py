"""The fiscal economy: identical households, and a government that taxes them for a public good.

Per head, with w, r the competitive prices of labour and capital and K, L the means of the n
households:

    Y = exp(z) K^alpha L^(1-alpha),   y_i = w l_i + r k_i   (gross income)
    d_i = (1 - tau) Y y_i^(1-p) / mean_j y_j^(1-p)          (disposable income)
    G = Y - mean_i d_i = tau Y                               (public good)
    c_i + k_i' = a_i = d_i + (1 - delta) k_i,   c_i = chat_i a_i

p is a constant of the schedule: 0 is a flat rate, 1 would give everybody the same. Each period the
households choose (chat, l) and, at the same time, the government chooses tau, all knowing the state
(K, z). A household's reward is log c + b log(1 - l), with G given to it; the government's is the
households' mean of that, plus theta log G.

What a household keeps of a unit that it earns, where all are alike, is (1 - p_e)(1 - tau): log d_i
rises by dy_i / Y times 1 - p from its own income and, if it knows its weight of 1/n, by 1/n from
mean income Y, and falls by (1 - p) / n from the schedule's mean:

    p_e = p  (price-taking),    p_e = p (1 - 1/n)  (strategic)

The effect of its own work or capital on w and r leaves all incomes as they were: L dw + K dr = 0,
by Euler's theorem. Strategic households take as given the paths of the others' capital and work and
of tau (open loop). To players who respond to the state, more is known: a household's saving moves
the future tau through K, by O(1/n), unless tau is constant, as at delta = 1; and with p > 0 the
others' wealth, by O(p^2/n). Neither counts here.

Source of the game: Klein, Krusell and Rios-Rull (2008), "Time-consistent public policy", Review of
Economic Studies 75, with a public good in utility. There the government moves first within the
period; here all move at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, isfinite
from numbers import Integral, Real
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.households.solution.diagnostics import (
    REST_PERIODS,
    REST_TOLERANCE,
    REST_WINDOW,
    PolicyFunction,
)
from rl_markets.envs.households.solution.economy import Economy, innovations, output, utility
from rl_markets.envs.numerics.chebyshev import Interval
from rl_markets.envs.numerics.checks import FloatArray
from rl_markets.errors import ConvergenceError

QUADRATURE = 9  # nodes of the expectation over z'
TFP_REACH = 4.0  # half-width of the productivity domain, in unconditional standard deviations,
TFP_FLOOR = 0.02  # but at least this, for an economy without shocks.
Conduct = Literal["price-taking", "strategic"]
TaxPolicy = Callable[[FloatArray, FloatArray], FloatArray]
"""(mean capital K, z), two arrays of one shape, to the tax rate tau.

A household's policy is a PolicyFunction.
"""


@dataclass(frozen=True)
class FiscalEconomy:
    """The households' economy, and what the government adds to it.

    Raises ValueError, naming the field, its value and the expected range, for a value out of range.
    """

    economy: Economy = field(default_factory=Economy)  # preferences and technology
    theta: float = 0.3  # weight of the log of the public good in the government's utility
    progressivity: float = 0.0  # p, of the tax schedule
    households: int = 1  # n; matters only to strategic ones
    conduct: Conduct = "price-taking"

    def __post_init__(self) -> None:
        if not isinstance(self.economy, Economy):
            raise ValueError(f"economy = {self.economy!r}: expected an Economy")
        if not _number(self.theta) or not 0.0 < self.theta < inf:
            raise ValueError(f"theta = {self.theta!r}: expected a number in (0, inf)")
        if not _number(self.progressivity) or not 0.0 <= self.progressivity < 1.0:
            raise ValueError(f"progressivity = {self.progressivity!r}: expected a number in [0, 1)")
        whole = isinstance(self.households, Integral) and not isinstance(self.households, bool)
        if not whole or self.households < 1:
            raise ValueError(
                f"households = {self.households!r}: expected a whole number in [1, inf)"
            )
        if self.conduct not in get_args(Conduct):
            raise ValueError(f"conduct = {self.conduct!r}: expected one of {get_args(Conduct)}")

    @property
    def effective_p(self) -> float:
        """p_e, the progressivity that counts at the margin."""
        own = 1.0 / self.households if self.conduct == "strategic" else 0.0
        return self.progressivity * (1.0 - own)

    @property
    def retention(self) -> float:
        """1 - p_e: what a household keeps of a unit it earns, relative to 1 - tau.

        That is what all keep of all units.
        """
        return 1.0 - self.effective_p


@dataclass(frozen=True)
class Period:
    """What follows from the actions, per head; every array has the states' shape."""

    y: FloatArray  # output
    a: FloatArray  # wealth: disposable income plus undepreciated capital
    c: FloatArray  # consumption
    g: FloatArray  # public good
    k_next: FloatArray  # next period's capital


@dataclass(frozen=True)
class FiscalRest:
    """Rest point without shocks, per head."""

    k: float  # capital
    l: float  # labour, share of time  # noqa: E741 (the paper's symbol)
    y: float  # output
    c: float  # consumption
    g: float  # public good
    a: float  # wealth
    chat: float  # consumed share of wealth
    tau: float  # tax rate


def disposable(income: ArrayLike, y: ArrayLike, tau: ArrayLike, progressivity: float) -> FloatArray:
    """d_i of households, [..., n].

    income: gross, [..., n]. y: output per head, [...]. tau: the tax rate, [...].
    """
    weight = np.asarray(income, dtype=np.float64) ** (1.0 - progressivity)
    level = (1.0 - np.asarray(tau, dtype=np.float64)) * np.asarray(y, dtype=np.float64)
    return np.asarray(level[..., None] * weight / weight.mean(axis=-1, keepdims=True))


def play(
    economy: FiscalEconomy,
    k: FloatArray,
    z: FloatArray,
    chat: FloatArray,
    labour: FloatArray,
    tau: FloatArray,
) -> Period:
    """One period among identical households, from the state (k, z) and the actions.

    All shapes broadcast.
    """
    y = output(economy.economy, k, labour, z)
    a = (1.0 - tau) * y + (1.0 - economy.economy.delta) * k
    return Period(y=y, a=a, c=chat * a, g=tau * y, k_next=(1.0 - chat) * a)


def government_utility(economy: FiscalEconomy, now: Period, labour: FloatArray) -> FloatArray:
    """The government's utility of one period, log c + b log(1 - l) + theta log G."""
    return np.asarray(utility(economy.economy, now.c, labour) + economy.theta * np.log(now.g))


def closed_form(economy: FiscalEconomy) -> tuple[float, float, float]:
    """The constant equilibrium actions (chat, l, tau) under full depreciation.

        chat = 1 - alpha beta (1-p_e)
        l = (1-p_e)(1-alpha) / ((1-p_e)(1-alpha) + b chat)
        tau = theta (1 - alpha beta) / (1 + theta)

    The government's value is B log K + ..., with B = alpha (1 + theta) / (1 - alpha beta); its
    choice weighs theta / tau against (1 + beta B) / (1 - tau). Neither p nor what households do
    matters to tau. Raises ValueError unless delta = 1.
    """
    core = economy.economy
    if core.delta != 1.0:
        raise ValueError(
            f"delta = {core.delta!r}: the closed form needs full depreciation, delta = 1"
        )
    chat = 1.0 - core.alpha * core.beta * economy.retention
    work = economy.retention * (1.0 - core.alpha)
    return chat, work / (work + core.b * chat), full_depreciation_tax(economy)


def full_depreciation_tax(economy: FiscalEconomy) -> float:
    """theta (1 - alpha beta) / (1 + theta): the tax rate at delta = 1.

    For other depreciation it is a guess.
    """
    core = economy.economy
    return economy.theta * (1.0 - core.alpha * core.beta) / (1.0 + economy.theta)


def rest_at(economy: FiscalEconomy, tau: float) -> FiscalRest:
    """Where households rest without shocks if the tax rate is always `tau`.

    They take prices or are strategic, as the economy says:

        (1-p_e)(1-tau) r = 1 / beta - 1 + delta,   b c / (1-l) = (1-p_e)(1-tau) w

    Raises ValueError for tau outside (0, 1).
    """
    if not 0.0 < tau < 1.0:
        raise ValueError(f"tau = {tau!r}: expected a number in (0, 1)")
    core = economy.economy
    kept = economy.retention * (1.0 - tau)
    # The first condition fixes capital per hour, the second the hours.
    ratio = core.alpha * kept / (1.0 / core.beta - 1.0 + core.delta)
    capital_labour = ratio ** (1.0 / (1.0 - core.alpha))
    output_labour = capital_labour**core.alpha
    consumption_labour = (1.0 - tau) * output_labour - core.delta * capital_labour
    work_leisure = kept * (1.0 - core.alpha) * output_labour / (core.b * consumption_labour)
    labour = work_leisure / (1.0 + work_leisure)
    k = capital_labour * labour
    y = output_labour * labour
    c = consumption_labour * labour
    a = (1.0 - tau) * y + (1.0 - core.delta) * k
    return FiscalRest(k=k, l=labour, y=y, c=c, g=tau * y, a=a, chat=c / a, tau=tau)


def rest_point(
    economy: FiscalEconomy, household_policy: PolicyFunction, tax_policy: TaxPolicy
) -> FiscalRest:
    """Where the economy rests without shocks under these policies.

    Raises ConvergenceError if it finds no rest: the policies cycle, drift or starve the economy.
    """
    start = rest_at(economy, full_depreciation_tax(economy))
    k = np.full(1, start.k)
    z = np.zeros(1)
    for _ in range(REST_PERIODS // REST_WINDOW):
        path = np.empty(REST_WINDOW)
        for period in range(REST_WINDOW):
            chat, labour = household_policy(k, z)
            tau = tax_policy(k, z)
            k = play(economy, k, z, chat, labour, tau).k_next
            path[period] = k[0]
            if not 0.0 < k[0] < inf:
                raise ConvergenceError(
                    f"without shocks, these policies lead to k = {k[0]:.3g}: no rest point"
                )
        # Over a whole window, so that a slow drift is not taken for rest.
        if np.ptp(np.log(path)) < REST_TOLERANCE:
            return rest_from(economy, k, household_policy, tax_policy)
    raise ConvergenceError(
        f"without shocks, capital still moves after {REST_PERIODS} periods: no rest point"
    )


def rest_from(
    economy: FiscalEconomy, k: FloatArray, household_policy: PolicyFunction, tax_policy: TaxPolicy
) -> FiscalRest:
    """What happens at capital `k` [1] without shocks, as a rest point."""
    z = np.zeros(1)
    chat, labour = household_policy(k, z)
    tau = tax_policy(k, z)
    now = play(economy, k, z, chat, labour, tau)
    values = (k, labour, now.y, now.c, now.g, now.a, chat, tau)
    return FiscalRest(*(float(np.ravel(value)[0]) for value in values))


def euler_errors(
    economy: FiscalEconomy,
    household_policy: PolicyFunction,
    tax_policy: TaxPolicy,
    k: ArrayLike,
    z: ArrayLike,
) -> FloatArray:
    """Unit-free error of the choice to save at each state, of the shape of `k` and `z`.

        beta E[c / c' ((1-p_e)(1-tau') r' + 1 - delta)] - 1

    An error of .01 reads: given tomorrow's consumption, today's is 1% too high (negative: too low).
    """
    core = economy.economy
    capital, tfp = states(k, z)
    chat, labour = household_policy(capital, tfp)
    today = play(economy, capital, tfp, chat, labour, tax_policy(capital, tfp))
    # Tomorrow, at each node of the expectation over z': the last axis.
    shocks, weights = innovations(core, QUADRATURE)
    tfp_next = core.rho * tfp[..., None] + shocks
    capital_next = np.broadcast_to(today.k_next[..., None], tfp_next.shape)
    chat, labour = household_policy(capital_next, tfp_next)
    tau = tax_policy(capital_next, tfp_next)
    tomorrow = play(economy, capital_next, tfp_next, chat, labour, tau)
    rental = economy.retention * (1.0 - tau) * core.alpha * tomorrow.y / capital_next
    gross = rental + 1.0 - core.delta
    return np.asarray(core.beta * (today.c[..., None] / tomorrow.c * gross) @ weights - 1.0)


def labour_errors(
    economy: FiscalEconomy,
    household_policy: PolicyFunction,
    tax_policy: TaxPolicy,
    k: ArrayLike,
    z: ArrayLike,
) -> FloatArray:
    """Unit-free error of the choice of work, b c / ((1-l) (1-p_e)(1-tau) w) - 1.

    Positive: too much work.
    """
    core = economy.economy
    capital, tfp = states(k, z)
    chat, labour = household_policy(capital, tfp)
    tau = tax_policy(capital, tfp)
    now = play(economy, capital, tfp, chat, labour, tau)
    wage = (1.0 - core.alpha) * now.y / labour
    worth = (1.0 - labour) * economy.retention * (1.0 - tau) * wage
    return np.asarray(core.b * now.c / worth - 1.0)


def states(k: ArrayLike, z: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Capital and log productivity as arrays of one shape."""
    capital = np.asarray(k, dtype=np.float64)
    tfp = np.asarray(z, dtype=np.float64)
    capital, tfp = np.broadcast_arrays(capital, tfp)
    return capital, tfp


def expected_basis(economy: FiscalEconomy, tfp: Interval, z: FloatArray) -> FloatArray:
    """E of the polynomials in z', given z [...]: [..., tfp.order].

    Tomorrow's z does not depend on what is done.
    """
    shocks, weights = innovations(economy.economy, QUADRATURE)
    basis = tfp.basis(economy.economy.rho * z[..., None] + shocks)
    return np.asarray(np.einsum("...qb,q->...b", basis, weights))


def _number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
