"""The Krusell-Smith answer against sequence-jacobian, a published package.

Runs where it can be imported: pip install sequence-jacobian. Measured with sequence-jacobian 1.0.0
and numba 0.68.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq

from rl_markets.envs.krusell_smith.solution import KS98, Economy, gini, solve

hetblocks = pytest.importorskip("sequence_jacobian.hetblocks", exc_type=ImportError)

BAD_TIMES = KS98[1][1]
STILL = Economy(
    productivity=(1.0005, 0.9995), unemployment=(0.1, 0.1), employment=((BAD_TIMES,) * 2,) * 2
)
LEAST = 1e-3  # capital allowed there: at 0, without a wage, its marginal utility would be infinite


def published(economy: Economy, K: float) -> tuple[Any, np.ndarray]:
    """Households' long-run behaviour at constant capital `K`.

    Gives (steady state, grid of own capital).
    """
    per_hour = K / (economy.hours * (1.0 - economy.unemployment[0]))
    r = economy.alpha * per_hour ** (economy.alpha - 1.0) - economy.delta
    earnings = (1.0 - economy.alpha) * per_hour**economy.alpha * economy.hours
    grid = LEAST + 0.05 * np.expm1(np.linspace(0.0, np.log1p(5000.0), 1000))
    inputs = {"Pi": np.array(BAD_TIMES), "a_grid": grid, "y": np.array([earnings, 1e-9]), "r": r}
    return hetblocks.hh_sim.hh.steady_state(inputs | {"beta": economy.beta, "eis": 1.0}), grid


def test_stationary_economy() -> None:
    """Without aggregate risk: capital (.04% apart when measured), consumption and inequality.

    The key's productivity moves by .05%, too little to matter, that there be a law of motion to
    find.
    """
    riskless = STILL.capital_scale
    K = brentq(
        lambda K: published(STILL, K)[0]["A"] - K, 1.01 * riskless, 1.2 * riskless, xtol=1e-5
    )
    rest, grid = published(STILL, K)
    mass = next(iter(rest.internals.values()))["D"].sum(axis=0)
    solution = solve(STILL)
    assert solution.mean_capital == pytest.approx(K, rel=1e-3)
    assert solution.simulation.consumption.mean() == pytest.approx(rest["C"], rel=5e-4)
    assert solution.gini == pytest.approx(gini(grid, mass), abs=0.002)
    # What precaution adds is far beyond the tolerance.
    assert riskless / K == pytest.approx(0.953, abs=0.002)
