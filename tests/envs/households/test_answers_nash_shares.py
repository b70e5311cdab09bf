"""Known answers of finitely many different households: open-loop Nash equilibrium."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rl_markets.envs.households.solution import Economy, steady_state
from rl_markets.envs.households.solution.nash_shares import (
    NashEquilibrium,
    nash_equilibrium,
    nash_shares,
)

FloatArray = NDArray[np.float64]
BASE = Economy()
KAPPA = np.tile([0.98, 1.0, 1.02], 3)
LAMBDA = np.repeat([0.98, 1.0, 1.02], 3)


@pytest.fixture(scope="module")
def equilibrium() -> NashEquilibrium:
    return nash_equilibrium(BASE, KAPPA, LAMBDA)


def wealth(
    economy: Economy, kappa: FloatArray, lam: FloatArray, k: FloatArray, labour: FloatArray
) -> FloatArray:
    """w_i l_i + (1 - delta + r_i) k_i of means over households, all [n], as the market has it."""
    capital = np.mean(kappa * k)
    work = np.mean(lam * labour)
    y = capital**economy.alpha * work ** (1.0 - economy.alpha)
    w = (1.0 - economy.alpha) * y / work * lam
    r = economy.alpha * y / capital * kappa
    return np.asarray(w * labour + (1.0 - economy.delta + r) * k)


def gains(
    economy: Economy, kappa: FloatArray, lam: FloatArray, k: FloatArray, labour: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Marginal utility of one household's saving more today for tomorrow, and of its working more:
    each [n].

    By differences of utility, with the market's own equations and everybody else's paths held: no
    formula shared.
    """
    here = np.arange(len(kappa))

    def utility(step: float, move_capital: bool) -> FloatArray:
        gain = np.empty(len(kappa))
        for i in here:
            moved = step * (here == i)
            later = wealth(economy, kappa, lam, k + moved * move_capital, labour)[i]
            now = wealth(economy, kappa, lam, k, labour + moved * (not move_capital))[i]
            c_now = now - k[i] - step * move_capital
            c_later = later - k[i]
            leisure = economy.b * np.log(1.0 - labour[i] - step * (not move_capital))
            gain[i] = np.log(c_now) + leisure + economy.beta * np.log(c_later)
        return gain

    saving, work = ((utility(1e-5, move) - utility(-1e-5, move)) / 2e-5 for move in (True, False))
    return saving, work


def test_nobody_gains_by_saving_or_working_differently(equilibrium: NashEquilibrium) -> None:
    saving, work = gains(BASE, KAPPA, LAMBDA, equilibrium.k, equilibrium.l)
    assert np.abs(saving).max() < 1e-7
    assert np.abs(work).max() < 1e-7


def test_with_more_capital_the_productive_would_rather_save_less(
    equilibrium: NashEquilibrium,
) -> None:
    k = equilibrium.k * np.where(KAPPA == 1.02, 1.05, 1.0)
    assert gains(BASE, KAPPA, LAMBDA, k, equilibrium.l)[0][KAPPA == 1.02].max() < -1e-4


def test_the_accounts_add_up(equilibrium: NashEquilibrium) -> None:
    e = equilibrium
    assert [e.capital_shares.sum(), e.labour_shares.sum()] == pytest.approx([1.0, 1.0], abs=1e-14)
    assert e.capital_shares == pytest.approx(KAPPA * e.k / np.sum(KAPPA * e.k), abs=1e-14)
    assert e.labour_shares == pytest.approx(LAMBDA * e.l / np.sum(LAMBDA * e.l), abs=1e-14)
    assert e.a == pytest.approx(wealth(BASE, KAPPA, LAMBDA, e.k, e.l), abs=1e-14)
    assert e.a - e.c == pytest.approx(e.k, abs=1e-14)
    assert e.capital_shares == pytest.approx(
        nash_shares(KAPPA, e.labour_shares, BASE.alpha), abs=1e-14
    )


def test_shares_of_nine_learned_households(equilibrium: NashEquilibrium) -> None:
    """Shares which a structural learner reached, to four digits, are near the answer.

    They are nearer with labour solved too.
    """
    m = np.array([0.1152, 0.1084, 0.1024, 0.1179, 0.1124, 0.1049, 0.1193, 0.1127, 0.1068])
    s = np.array([0.0864, 0.1106, 0.1334, 0.0846, 0.1069, 0.1335, 0.0913, 0.1154, 0.1379])
    fixed = nash_shares(KAPPA, m / m.sum())
    assert np.abs(fixed - s).max() == pytest.approx(0.0059, abs=1e-4)
    assert np.abs(fixed - s).mean() == pytest.approx(0.0023, abs=1e-4)
    assert np.abs(equilibrium.capital_shares - s).max() < 0.005
    assert np.abs(equilibrium.labour_shares - m).max() < 0.002


@pytest.mark.parametrize("n", [1, 2, 20, 529])
def test_households_alike_share_the_planners_rest_point(n: int) -> None:
    s = steady_state(BASE)
    nash = nash_equilibrium(BASE, np.ones(n), np.ones(n))
    for name, known in (("k", s.k), ("l", s.l), ("c", s.c), ("a", s.a), ("chat", s.chat)):
        assert getattr(nash, name) == pytest.approx(np.full(n, known), abs=1e-13), name


def test_productivity_of_all_capital_is_a_unit_of_measurement() -> None:
    assert nash_shares(3.0 * KAPPA) == pytest.approx(nash_shares(KAPPA), abs=1e-14)


@pytest.mark.parametrize("n", [33, 99, 528])
def test_many_households_that_work_alike_have_no_such_equilibrium(n: int) -> None:
    with pytest.raises(ValueError, match=r"household 0 with kappa = 0.98 .* all capital"):
        nash_shares(np.resize([0.98, 1.0, 1.02], n))


def test_choice_of_labour_keeps_more_households_in_the_market() -> None:
    """Poorer households work more and so hold on to their capital.

    33 have an equilibrium, 528 have none.
    """
    kappa = np.resize([0.98, 1.0, 1.02], 33)
    alike = np.ones(33)
    nash = nash_equilibrium(BASE, kappa, alike)
    assert nash.capital_shares.min() > 0.0
    assert np.abs(gains(BASE, kappa, alike, nash.k, nash.l)).max() < 1e-6
    with pytest.raises(ValueError, match=r"household 2 with kappa = 1.02 .* all labour"):
        nash_equilibrium(BASE, np.resize(kappa, 528), np.ones(528))


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="kappa"):
        nash_shares([1.0, -1.0])
    with pytest.raises(ValueError, match="labour_shares"):
        nash_shares([1.0, 1.0], [0.5, 0.6])
    with pytest.raises(ValueError, match="alpha"):
        nash_shares([1.0, 1.0], alpha=1.0)
    with pytest.raises(ValueError, match="lambda_"):
        nash_equilibrium(BASE, [1.0], [])
