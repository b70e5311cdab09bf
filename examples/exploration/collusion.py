"""Two learning sellers: do they find each other? Q-learners that set prices, and a monitor of them.

The duopoly and the learners of Calvano, Calzolari, Denicolo and Pastorello (2020), American
Economic Review 110, 3267-3297, many sessions side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CHUNK = 1000
"""Periods between two looks at who has finished."""

TAIL = 1000
"""Greedy periods over which profits are averaged at the end."""


@dataclass(frozen=True)
class Duopoly:
    """Two sellers of one product each, alike.

    Attributes:
        prices: the grid, `[m]`.
        profits: of one's own price and the rival's, `[m, m]`.
        nash: profit in the one-shot equilibrium.
        monopoly: profit of each where both maximise their sum.
    """

    prices: Floats
    profits: Floats
    nash: float
    monopoly: float


def logit_duopoly(
    nash_price: float,
    monopoly_price: float,
    *,
    m: int = 15,
    xi: float = 0.1,
    quality: float = 2.0,
    cost: float = 1.0,
    outside: float = 0.0,
    mu: float = 0.25,
) -> Duopoly:
    """The logit duopoly of Calvano et al. (2020).

    It has m prices, from a little below Nash to a little above monopoly.

    Args:
        nash_price, monopoly_price: 1.472927 and 1.924981 for the other arguments' defaults.
        m: prices.
        xi: by which share of their distance the grid reaches beyond both.
        quality, cost, outside, mu: shares are exp((quality - p_i)/mu) / (exp(outside/mu) + sum_j
            exp((quality - p_j)/mu)).

    Raises:
        ValueError: if the monopoly price is not above the Nash price.
    """
    if not monopoly_price > nash_price:
        raise ValueError(
            f"monopoly_price is {monopoly_price}, expected more than nash_price, {nash_price}"
        )
    beyond = xi * (monopoly_price - nash_price)
    prices = np.linspace(nash_price - beyond, monopoly_price + beyond, m)
    profit = partial(_logit_profit, quality=quality, cost=cost, outside=outside, mu=mu)
    profits = profit(prices[:, None], prices[None, :])
    nash = float(profit(nash_price, nash_price))
    monopoly = float(profit(monopoly_price, monopoly_price))
    return Duopoly(prices, profits, nash, monopoly)


def _logit_profit(
    own: Any, rival: Any, *, quality: float, cost: float, outside: float, mu: float
) -> Any:
    """Margin times share, of one's own price and the rival's, which broadcast."""
    utilities = (quality - own, quality - rival, outside)
    own_weight, rival_weight, none_weight = (np.exp(np.asarray(u) / mu) for u in utilities)
    return (own - cost) * own_weight / (none_weight + own_weight + rival_weight)


@dataclass(frozen=True)
class Sessions:
    """Finished pairs of learners.

    Attributes:
        gains: Delta = (profit - Nash) / (monopoly - Nash), mean of both sellers and of the last
            periods, `[sessions]`.
        converged: whether the greedy policies had stopped changing, `[sessions]`.
        periods: `[sessions]`.
    """

    gains: Floats
    converged: NDArray[np.bool_]
    periods: Ints


@dataclass
class _State:
    """Sessions under way; both sellers of a session share its last prices, the state.

    A state is a number of two digits to base m: the first seller's price, then the second's.
    """

    values: Floats  # [sessions, 2, states, m]
    greedy: Ints  # [sessions, 2, states]
    state: Ints  # [sessions]
    stable: Ints  # [sessions], periods since a greedy action changed

    def keep(self, which: NDArray[np.bool_]) -> _State:
        # contiguous, so that `reshape` in `_advance` gives views to write through, not copies
        kept = {name: np.ascontiguousarray(x[which]) for name, x in vars(self).items()}
        return replace(self, **kept)


def calvano(
    duopoly: Duopoly,
    *,
    sessions: int = 50,
    alpha: float = 0.15,
    beta: float = 4e-6,
    discount: float = 0.95,
    patience: int = 100_000,
    limit: int = 10_000_000,
    seed: int = 0,
) -> Sessions:
    """The Q-learners of Calvano et al. (2020), AER 110, in pairs.

    They see both last prices and explore with probability exp(-beta t). A session ends when no
    greedy action has changed for `patience` periods, looked at every `CHUNK` of them.

    Args:
        duopoly: the market.
        sessions: independent pairs, side by side.
        alpha: step size.
        beta: how fast exploration dies out.
        discount: 0 makes them myopic, which is the control.
        patience, limit: see above; most periods of a session, which then has not converged.
        seed: of prices tried and first states.

    Raises:
        ValueError: for parameters out of range.
    """
    _check(sessions=sessions, alpha=alpha, beta=beta, patience=patience, limit=limit)
    if not (alpha <= 1 and 0 <= discount < 1):
        raise ValueError(
            f"alpha is {alpha} and discount {discount}, expected at most 1 and a number in [0, 1)"
        )
    rng = np.random.default_rng(seed)
    return _play(duopoly, sessions, alpha, beta, discount, patience, limit, rng)


def _play(
    duopoly: Duopoly,
    sessions: int,
    alpha: float,
    beta: float,
    discount: float,
    patience: int,
    limit: int,
    rng: np.random.Generator,
) -> Sessions:
    """Plays all sessions to their ends; those that are over leave the arrays of the others."""
    m = len(duopoly.prices)
    profits = np.stack([duopoly.profits, duopoly.profits.T], -1).reshape(m * m, 2)
    running = _start(duopoly, sessions, discount, rng)
    numbers = np.arange(sessions)  # of the sessions that are still running
    results = Sessions(np.zeros(sessions), np.zeros(sessions, bool), np.zeros(sessions, np.int64))
    t = 0
    while len(numbers):
        rate = np.exp(-beta * (t + np.arange(min(CHUNK, limit - t))))
        forced = _explored(rng, rate, len(numbers), m)
        _advance(running, forced, profits, alpha, discount)
        t += len(forced)
        steady = running.stable >= patience
        done = steady | (t >= limit)
        if done.any():
            profit = _greedy_profit(running.keep(done), profits, m)
            gain = (profit - duopoly.nash) / (duopoly.monopoly - duopoly.nash)
            results.gains[numbers[done]] = gain
            results.periods[numbers[done]] = t
            results.converged[numbers[done]] = steady[done]
            numbers = numbers[~done]
            running = running.keep(~done)
    return results


def _check(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} is {number}, expected a positive number")


def _start(duopoly: Duopoly, sessions: int, discount: float, rng: np.random.Generator) -> _State:
    """Values as if the rival's prices were drawn uniformly for ever."""
    m = len(duopoly.prices)
    uniform_rival = duopoly.profits.mean(1) / (1 - discount)
    values = np.broadcast_to(uniform_rival, (sessions, 2, m * m, m)).copy()
    states = rng.integers(0, m * m, sessions)
    return _State(values, values.argmax(-1), states, np.zeros(sessions, np.int64))


def _explored(rng: np.random.Generator, rate: Floats, sessions: int, m: int) -> Ints:
    """Actions tried, or -1 for the greedy one, `[periods, sessions, 2]`."""
    # one uniform number serves twice: below the rate it explores, and its share of the rate, again
    # uniform, chooses the action; the bound keeps a rate that has died out from dividing by 0
    share = rng.random((len(rate), sessions, 2)) / np.maximum(rate, 1e-300)[:, None, None]
    return np.where(share < 1, share * m, -1.0).astype(np.int64)


def _greedy_profit(final: _State, profits: Floats, m: int) -> Floats:
    """Mean profit of a seller over `TAIL` greedy periods, `[sessions]`."""
    session = np.arange(len(final.state))
    state = final.state
    total = np.zeros(len(final.state))
    for _ in range(TAIL):
        state = final.greedy[session, 0, state] * m + final.greedy[session, 1, state]
        total += profits[state].mean(1)
    return total / TAIL


def _advance(running: _State, forced: Ints, profits: Floats, alpha: float, discount: float) -> None:
    """So many periods as `forced` has, all sessions at once, in place."""
    # What costs time is the number of numpy's calls, whatever the number of sessions.
    sessions, _, states, m = running.values.shape
    # views: `rows` has m values for each session, seller and state
    rows = running.values.reshape(-1, m)
    flat = running.values.reshape(-1)
    greedy = running.greedy.reshape(-1)
    best = rows.max(-1)
    first_row = (np.arange(2 * sessions) * states).reshape(sessions, 2)
    explores: NDArray[np.bool_] = forced >= 0
    some: NDArray[np.bool_] = np.any(explores, (1, 2))
    last_change = np.full(sessions, -1)
    digits = np.array([m, 1])
    # numpy takes these faster than Python's floats
    step = np.array([[alpha]])
    discounts = np.array([[discount]])
    state = running.state
    row = first_row + state[:, None]
    for t in range(len(forced)):
        before = greedy.take(row)
        action = np.where(explores[t], forced[t], before) if some[t] else before
        action.dot(digits, out=state)
        next_row = first_row + state[:, None]
        start = row * m
        cell = start + action
        reward = profits.take(state, 0)
        flat[cell] = _updated(flat.take(cell), reward, best.take(next_row), step, discounts)
        after = rows.take(row, 0).argmax(-1)
        start += after
        # a maximum over so short an axis takes numpy longer than all of this
        best[row] = flat.take(start)
        greedy[row] = after
        changed = after != before
        last_change[changed[:, 0] | changed[:, 1]] = t
        row = next_row
    since_change = len(forced) - 1 - last_change
    running.stable = np.where(last_change < 0, running.stable + len(forced), since_change)


def _updated(
    old: Floats, reward: Floats, next_value: Floats, step: Floats, discounts: Floats
) -> Floats:
    """A step from the old values towards reward + discount * next value, in that one's memory."""
    new = next_value
    new *= discounts
    new += reward
    new -= old
    new *= step
    new += old
    return new


@dataclass(frozen=True)
class Alarm:
    """The monitor's answer: the mean gain, its confidence interval, and whether the flag is up."""

    raised: bool
    mean: float
    low: float
    high: float


def monitor(gains: Any, *, threshold: float = 0.3, confidence: float = 0.95) -> Alarm:
    """Raises its flag on supra-competitive prices.

    They are told by the confidence interval of the mean Delta, which must lie above the threshold.

    Args:
        gains: Delta of each session, `[sessions]`, at least two.
        threshold: Delta is 0 at the one-shot equilibrium and 1 at monopoly; myopic learners on a
            grid reach about .2.
        confidence: of the two-sided Student interval.

    Raises:
        ValueError: for fewer than two sessions, or a confidence outside (0, 1).
    """
    sample = np.asarray(gains, float)
    if sample.ndim != 1 or len(sample) < 2 or not np.isfinite(sample).all():
        raise ValueError(f"gains of shape {sample.shape}: expected at least two finite numbers")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, expected a number in (0, 1)")
    mean = float(sample.mean())
    quantile = student.ppf((1 + confidence) / 2, len(sample) - 1)
    half = float(quantile * sample.std(ddof=1) / math.sqrt(len(sample)))
    return Alarm(mean - half > threshold, mean, mean - half, mean + half)
