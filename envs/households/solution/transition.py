"""The perfect-foresight path after a permanent change, solved for all periods at once.

With log utility and Cobb-Douglas production, a permanent rise of productivity by the factor exp(g)
scales capital, output and consumption by exp(g / (1 - alpha)) in the long run and leaves labour as
it was. In units of the new balanced level the economy is the old one with less capital than at
rest, k_0 = k* exp(-g / (1 - alpha)), and converges to it:

    c_{t+1} / c_t = beta (1 - delta + r_{t+1}),   b c_t / (1 - l_t) = w_t,   k_{T+1} = k*

This uses neither the policy functions nor the solvers of the stochastic economy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import root
from scipy.special import expit, logit

from rl_markets.envs.households.solution.economy import Economy, output, steady_state
from rl_markets.envs.numerics.checks import FloatArray
from rl_markets.errors import ConvergenceError

TOLERANCE = 1e-8  # of the conditions, which are free of units


@dataclass(frozen=True)
class Transition:
    """A path to rest; every array is [periods]."""

    k: FloatArray
    c: FloatArray
    l: FloatArray  # noqa: E741 (the paper's symbol)
    y: FloatArray


def start_after_growth(economy: Economy, growth: float) -> float:
    """Capital when log productivity has just risen by `growth` for good.

    It is in units of the new balanced level.
    """
    return float(steady_state(economy).k * np.exp(-growth / (1.0 - economy.alpha)))


def perfect_foresight(economy: Economy, k0: float, periods: int = 200) -> Transition:
    """The path from capital `k0` to rest within `periods`.

    Raises ConvergenceError where none is found.
    """
    rest = steady_state(economy)

    # The unknowns x: log capital of all periods but the first, then log-odds of labour.
    def path(x: FloatArray) -> Transition:
        k = np.exp(np.concatenate([[np.log(k0)], x[: periods - 1], [np.log(rest.k)]]))
        labour = expit(x[periods - 1 :])
        y = output(economy, k[:-1], labour, np.zeros(periods))
        return Transition(k[:-1], y + (1.0 - economy.delta) * k[:-1] - k[1:], labour, y)

    def conditions(x: FloatArray) -> FloatArray:
        trial = path(x)
        c = np.maximum(trial.c, 1e-8)  # a trial that eats more than there is stays computable
        gross_return = 1.0 - economy.delta + economy.alpha * trial.y / trial.k
        euler = np.log(economy.beta * gross_return[1:] * c[:-1] / c[1:])
        wage = (1.0 - economy.alpha) * trial.y / trial.l
        labour = np.log(economy.b * c / ((1.0 - trial.l) * wage))
        return np.concatenate([euler, labour])

    # The guess: the gap of log capital to rest closes by a factor each period.
    factor = economy.beta * economy.alpha if economy.delta == 1.0 else 0.9
    gap = np.log(k0) - np.log(rest.k)
    log_k = np.log(rest.k) + gap * factor ** np.arange(1, periods)
    guess = np.concatenate([log_k, np.full(periods, logit(rest.l))])
    solution = root(conditions, guess, tol=1e-12).x
    largest = float(np.abs(conditions(solution)).max())
    if not largest < TOLERANCE:
        raise ConvergenceError(
            f"perfect foresight from k = {k0:.4g}: conditions are still {largest:.1e} off"
        )
    return path(solution)
