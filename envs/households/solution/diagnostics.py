"""Diagnostics of any household policy: first-order conditions, moments, responses, welfare.

A policy is any function (k, z) -> (chat, l) on arrays of one shape: a learned one, or a solution's
`actions`. Chat is the consumed share of wealth, l labour, z log productivity.

Source of the economy: arXiv 2510.12272.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from math import expm1

import numpy as np
from numpy.typing import ArrayLike

from rl_markets.envs.households.solution.economy import (
    Economy,
    Policy,
    innovations,
    output,
    steady_state,
    utility,
)
from rl_markets.envs.numerics.checks import FloatArray

PolicyFunction = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
ValueFunction = Callable[[FloatArray, FloatArray], FloatArray]

VARIABLES = ("y", "c", "i", "l", "k", "chat")
REST_WINDOW = 500  # periods over which a policy at rest does not move
REST_PERIODS = 20_000  # how long it may take to get there before its impulse response is NaN
REST_TOLERANCE = 1e-6  # span of log capital in a window at rest; float32 trembles by about 1e-7


def enact(economy: Economy, policy: PolicyFunction, k: FloatArray, z: FloatArray) -> Policy:
    """What `policy` does in the states (k, z), with the quantities that follow."""
    chat, labour = (np.asarray(action, dtype=np.float64) for action in policy(k, z))
    y = output(economy, k, labour, z)
    a = y + (1.0 - economy.delta) * k
    return Policy(chat=chat, l=labour, c=chat * a, y=y, a=a, k_next=(1.0 - chat) * a)


def euler_errors(
    economy: Economy, policy: PolicyFunction, k: ArrayLike, z: ArrayLike, quadrature: int = 9
) -> FloatArray:
    """Unit-free error of the consumption-saving choice at each state.

    It is beta E[c / c' (1 - delta + r')] - 1, the expectation by Gauss-Hermite quadrature. An error
    of .01 reads: given tomorrow's consumption, today's is 1% too high (negative: too low).
    """
    capital, tfp = _states(k, z)
    shocks, weights = innovations(economy, quadrature)
    today = enact(economy, policy, capital, tfp)
    tfp_next = economy.rho * tfp[..., None] + shocks
    capital_next = np.broadcast_to(today.k_next[..., None], tfp_next.shape)
    tomorrow = enact(economy, policy, capital_next, tfp_next)
    gross_return = 1.0 - economy.delta + economy.alpha * tomorrow.y / capital_next
    terms = economy.beta * (today.c[..., None] / tomorrow.c * gross_return)
    return np.asarray(terms @ weights - 1.0)


def labour_errors(
    economy: Economy, policy: PolicyFunction, k: ArrayLike, z: ArrayLike
) -> FloatArray:
    """Unit-free error of the labour-leisure choice, b c / ((1 - l) w) - 1, at each state.

    Positive: the policy works too much, an hour of leisure being worth more than the hour's wage.
    """
    today = enact(economy, policy, *_states(k, z))
    wage = (1.0 - economy.alpha) * today.y / today.l
    return np.asarray(economy.b * today.c / ((1.0 - today.l) * wage) - 1.0)


@dataclass(frozen=True)
class Simulation:
    """Simulated paths; every array is [periods, paths]."""

    k: FloatArray
    z: FloatArray
    chat: FloatArray
    l: FloatArray  # noqa: E741 (the paper's symbol)
    c: FloatArray
    y: FloatArray
    i: FloatArray

    def split(self, parts: int) -> list[Simulation]:
        """Equal parts of the paths."""
        columns = {
            field.name: np.split(getattr(self, field.name), parts, axis=1) for field in fields(self)
        }
        return [
            Simulation(**{name: column[part] for name, column in columns.items()})
            for part in range(parts)
        ]


def simulate(
    economy: Economy,
    policy: PolicyFunction,
    periods: int,
    paths: int,
    rng: np.random.Generator,
    burn_in: int = 500,
) -> Simulation:
    """`paths` independent economies over `periods`.

    An unrecorded `burn_in` comes before them, from the steady state. Raises ValueError for fewer
    than one period or path, or a negative burn-in.
    """
    bounds = (("periods", periods, 1), ("paths", paths, 1), ("burn_in", burn_in, 0))
    for name, value, least in bounds:
        if value < least:
            raise ValueError(f"{name} = {value!r}: expected at least {least}")
    k = np.full(paths, steady_state(economy).k)
    z = np.zeros(paths)
    record = {field.name: np.empty((periods, paths)) for field in fields(Simulation)}
    for period in range(-burn_in, periods):
        now = enact(economy, policy, k, z)
        if period >= 0:
            levels = _levels(now, k) | {"z": z}
            for name, values in levels.items():
                record[name][period] = values
        k = now.k_next
        z = economy.rho * z + economy.sigma * rng.standard_normal(paths)
    return Simulation(**record)


@dataclass(frozen=True)
class Moment:
    """Business-cycle statistics of one variable, pooled over periods and paths."""

    mean: float  # of the level
    sd: float  # standard deviation of the log, in %
    correlation: float  # of the log with log output


def moments(simulation: Simulation) -> dict[str, Moment]:
    """Moments of y, c, i, l, k and chat.

    Standard deviation and correlation are NaN for a variable that was not always positive.
    """
    log_output = _log(simulation.y)
    table = {}
    for name in VARIABLES:
        level: FloatArray = getattr(simulation, name)
        logs = _log(level)
        covariance = float(np.mean((logs - logs.mean()) * (log_output - log_output.mean())))
        scale = float(logs.std() * log_output.std())
        correlation = covariance / scale if scale > 0.0 else float("nan")
        table[name] = Moment(float(level.mean()), 100.0 * float(logs.std()), correlation)
    return table


def impulse_response(
    economy: Economy, policy: PolicyFunction, shock: float = 0.01, periods: int = 40
) -> dict[str, FloatArray]:
    """Responses of y, c, i, l, k and chat to z_0 = `shock` and no shock after: each [periods].

    They are in % of the level at rest. The response starts from the policy's own rest point without
    shocks, not from the true steady state. A policy that finds no rest in REST_PERIODS (it cycles,
    drifts, starves) has none: all arrays are then NaN.
    """
    k = _rest_point(economy, policy)
    if k is None:
        return {name: np.full(periods, np.nan) for name in VARIABLES}
    rest = _levels(enact(economy, policy, k, np.zeros(1)), k)
    response = {name: np.empty(periods) for name in VARIABLES}
    for period in range(periods):
        now = enact(economy, policy, k, np.full(1, shock * economy.rho**period))
        levels = _levels(now, k)
        for name in VARIABLES:
            response[name][period] = 100.0 * (levels[name][0] / rest[name][0] - 1.0)
        k = now.k_next
    return response


def generalised_responses(
    economy: Economy,
    policy: PolicyFunction,
    rng: np.random.Generator,
    *,
    shock: float = 0.01,
    periods: int = 40,
    paths: int = 300,
    burn_in: int = 300,
) -> dict[str, FloatArray]:
    """Responses of y, c, i, l, k and chat to `shock` on many paths: each [periods, paths].

    They are in % of what each path would have been without it. The paths start where shocks have
    brought the economy in `burn_in` periods, and go on with shocks of their own, the same with and
    without `shock` (Koop, Pesaran and Potter 1996). Their spread is how the response depends on the
    state.
    """
    k = np.full(paths, steady_state(economy).k)
    z = np.zeros(paths)
    for _ in range(burn_in):
        k = enact(economy, policy, k, z).k_next
        z = economy.rho * z + economy.sigma * rng.standard_normal(paths)
    # Row 0 without the shock, row 1 with it; the later shocks are the same in both.
    capital = np.stack([k, k])
    tfp = np.stack([z, z + shock])
    response = {name: np.empty((periods, paths)) for name in VARIABLES}
    for period in range(periods):
        now = enact(economy, policy, capital, tfp)
        for name, levels in _levels(now, capital).items():
            response[name][period] = 100.0 * (levels[1] / levels[0] - 1.0)
        capital = now.k_next
        tfp = economy.rho * tfp + economy.sigma * rng.standard_normal(paths)
    return response


def welfare(
    economy: Economy,
    policy: PolicyFunction,
    k0: ArrayLike,
    shocks: FloatArray,
    terminal_value: ValueFunction | None = None,
) -> FloatArray:
    """Discounted utility of each path, sum_t beta^t [log c_t + b log(1 - l_t)]: [paths].

    Starts from capital `k0` (number or [paths]) and z = 0. shocks: [periods, paths] standard
    normals, the same array for every policy to be compared (common random numbers). Utility after
    the last period is ignored, unless `terminal_value(k, z)` gives it; at beta = .95, 500 periods
    leave 7e-12 of it. Raises ValueError if shocks is not two-dimensional.
    """
    if shocks.ndim != 2:
        raise ValueError(f"shocks = array of shape {shocks.shape}: expected [periods, paths]")
    paths = shocks.shape[1]
    k = np.full(paths, k0, dtype=np.float64)
    z = np.zeros(paths)
    total = np.zeros(paths)
    discount = 1.0
    for shock in shocks:
        now = enact(economy, policy, k, z)
        total += discount * utility(economy, now.c, now.l)
        k = now.k_next
        z = economy.rho * z + economy.sigma * shock
        discount *= economy.beta
    if terminal_value is not None:
        total += discount * terminal_value(k, z)
    return total


def consumption_equivalent(economy: Economy, gain: float) -> float:
    """Permanent relative rise of consumption worth `gain` of discounted utility.

    It is exp((1 - beta) gain) - 1, a fraction: .01 = 1% more consumption in every period.
    """
    return expm1((1.0 - economy.beta) * gain)


def _states(k: ArrayLike, z: ArrayLike) -> tuple[FloatArray, FloatArray]:
    capital, tfp = np.broadcast_arrays(
        np.asarray(k, dtype=np.float64), np.asarray(z, dtype=np.float64)
    )
    return capital, tfp


def _log(level: FloatArray) -> FloatArray:
    """Logs, NaN where there is none: a period of negative investment must show in the moment."""
    return np.log(np.where(level > 0.0, level, np.nan))


def _levels(now: Policy, k: FloatArray) -> dict[str, FloatArray]:
    """The reported VARIABLES of a period that began with capital `k`."""
    return {"y": now.y, "c": now.c, "i": now.y - now.c, "l": now.l, "k": k, "chat": now.chat}


def _rest_point(economy: Economy, policy: PolicyFunction) -> FloatArray | None:
    """Capital [1] at which `policy` rests without shocks, from the steady state, or None."""
    k = np.full(1, steady_state(economy).k)
    z = np.zeros(1)
    for _ in range(REST_PERIODS // REST_WINDOW):
        path = np.empty(REST_WINDOW)
        for period in range(REST_WINDOW):
            k = enact(economy, policy, k, z).k_next
            path[period] = k[0]
        if not np.all(np.isfinite(path) & (path > 0.0)):
            return None
        if np.ptp(np.log(path)) < REST_TOLERANCE:
            return k
    return None
