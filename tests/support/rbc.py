"""Calibrations of the household economy, random states, and simple policies."""

from __future__ import annotations

import numpy as np

from rl_markets.envs.households.solution import Economy, PolicyFunction, steady_state
from rl_markets.envs.numerics.checks import FloatArray

BASE = Economy()
FULL_DEPRECIATION = Economy(delta=1.0)


def constant(chat: float, labour: float) -> PolicyFunction:
    return lambda k, z: (np.full_like(k, chat), np.full_like(k, labour))


def states(
    economy: Economy, low: float = 0.35, high: float = 2.6, n: int = 2000
) -> tuple[FloatArray, FloatArray]:
    """Random states off every grid.

    Capital from low to high times its steady state, z within +-.1.
    """
    rng = np.random.default_rng(0)
    k = steady_state(economy).k * np.exp(rng.uniform(np.log(low), np.log(high), n))
    return k, rng.uniform(-0.1, 0.1, n)


# -- best response ---------------------------------------------------------------------------------


def symmetric(policy: PolicyFunction):  # type: ignore[no-untyped-def]
    """A policy of own capital alone, as a household's: mean capital ignored."""
    return lambda k_own, k_mean, z: policy(k_own, z)
