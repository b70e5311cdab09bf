"""The perfect-foresight path after permanent growth.

Against its conditions, the closed form and the stochastic solution.
"""

from __future__ import annotations

import numpy as np
import pytest

from rl_markets.envs.households.solution import (
    Economy,
    PolicyFunction,
    closed_form,
    enact,
    perfect_foresight,
    solve_collocation,
    start_after_growth,
    steady_state,
)
from rl_markets.envs.numerics.checks import FloatArray

GROWTH = 0.1
ECONOMIES = [
    Economy(),
    Economy(beta=0.99),
    Economy(delta=1.0),
    Economy(alpha=0.3, b=2.0, delta=0.1),
]


def followed(economy: Economy, policy: PolicyFunction, k: float, periods: int) -> FloatArray:
    """Capital under a policy, without shocks."""
    path = np.array([k])
    for _ in range(periods - 1):
        path = np.append(path, enact(economy, policy, path[-1:], np.zeros(1)).k_next)
    return path


@pytest.mark.parametrize("economy", ECONOMIES)
def test_every_period_meets_its_conditions(economy: Economy) -> None:
    path = perfect_foresight(economy, start_after_growth(economy, GROWTH))
    k = path.k
    c = path.c
    labour = path.l
    y = path.y
    assert y == pytest.approx(k**economy.alpha * labour ** (1 - economy.alpha), rel=1e-12)
    assert k[1:] == pytest.approx((y + (1 - economy.delta) * k - c)[:-1], rel=1e-12)
    returns = 1 - economy.delta + economy.alpha * y / k
    assert c[1:] / c[:-1] == pytest.approx(economy.beta * returns[1:], rel=1e-7)
    assert economy.b * c / (1 - labour) == pytest.approx((1 - economy.alpha) * y / labour, rel=1e-7)
    assert k[-1] == pytest.approx(steady_state(economy).k, rel=1e-5)
    assert (np.diff(k) > -1e-9).all()  # growth leaves too little capital, and it only rises


@pytest.mark.parametrize("economy", [Economy(), Economy(beta=0.99)])
def test_it_is_the_stochastic_economys_path_but_for_precaution(economy: Economy) -> None:
    start = start_after_growth(economy, GROWTH)
    path = perfect_foresight(economy, start)
    solved = followed(economy, solve_collocation(economy).actions, start, 60)
    assert np.abs(solved / path.k[:60] - 1).max() < 2e-4


def test_at_full_depreciation_it_is_the_closed_form() -> None:
    economy = Economy(delta=1.0)
    share, labour = closed_form(economy)
    start = start_after_growth(economy, GROWTH)
    exact = followed(
        economy, lambda k, z: (np.full_like(k, share), np.full_like(k, labour)), start, 30
    )
    assert perfect_foresight(economy, start).k[:30] == pytest.approx(exact, rel=1e-9)


def test_who_always_does_the_same_is_off_the_path() -> None:
    economy = Economy()
    rest = steady_state(Economy())
    start = start_after_growth(economy, GROWTH)

    def constant(k: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.full_like(k, rest.chat), np.full_like(k, rest.l)

    rigid = followed(economy, constant, start, 60)
    path = perfect_foresight(economy, start).k[:60]
    # Fifty times what precaution makes.
    assert np.abs(rigid / path - 1).max() > 0.003


def test_without_growth_nothing_moves() -> None:
    economy = Economy()
    path = perfect_foresight(economy, start_after_growth(economy, 0.0))
    assert path.k == pytest.approx(np.full(200, steady_state(economy).k), rel=1e-9)


def test_growth_leaves_capital_behind() -> None:
    economy = Economy()
    assert start_after_growth(economy, GROWTH) == pytest.approx(
        steady_state(economy).k * np.exp(-GROWTH / 0.64)
    )
