"""Known answers of the Krusell-Smith economy.

Figures, first-order conditions, accounts, and what must be flagged.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from time import process_time

import numpy as np
import pytest
from numpy.typing import NDArray

from rl_markets.envs.krusell_smith.solution import (
    EMPLOYED,
    GOOD,
    KS98,
    Economy,
    Grids,
    LawOfMotion,
    Solution,
    den_haan,
    draw_states,
    equal_start,
    gini,
    law_of_motion,
    lorenz,
    simulate,
    solve,
    solve_household,
    top_share,
)
from rl_markets.errors import ConvergenceError

FloatArray = NDArray[np.float64]

IMPATIENT = Economy()
PATIENT = Economy(beta=0.99)
THIRDS = (1 / 3, 1 / 3, 1 / 3)
MILD = Economy(kappa=(0.98, 1.0, 1.02), weights=THIRDS)
STRONG = Economy(kappa=(0.8, 1.0, 1.2), weights=THIRDS)
ECONOMIES = (IMPATIENT, PATIENT, MILD, STRONG)
NAMES = ("beta .95", "beta .99", "mild", "strong")
SMALL = Grids.build(IMPATIENT, own=80, effective=5, histogram=200)
CPU_SECONDS: dict[Economy, float] = {}


@cache
def solved(economy: Economy) -> Solution:
    start = process_time()
    solution = solve(economy)
    CPU_SECONDS[economy] = process_time() - start
    return solution


each_economy = pytest.mark.parametrize("economy", ECONOMIES, ids=NAMES)


# -- the equilibrium -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("economy", "capital", "slopes", "inequality"),
    [
        (IMPATIENT, (11.69, 0.05), (0.9250, 0.9251), (0.213, 0.005)),
        (PATIENT, (39.66, 0.2), (0.9628, 0.9650), (0.237, 0.006)),
    ],
    ids=NAMES[:2],
)
def test_krusell_smith(
    economy: Economy,
    capital: tuple[float, float],
    slopes: tuple[float, float],
    inequality: tuple[float, float],
) -> None:
    solution = solved(economy)
    assert solution.mean_capital == pytest.approx(capital[0], abs=capital[1])
    assert solution.mean_effective_capital == pytest.approx(solution.mean_capital, abs=1e-12)
    assert solution.law.slope == pytest.approx(slopes, abs=0.002)
    assert min(solution.law.r2) > 0.9999
    assert solution.gini == pytest.approx(inequality[0], abs=inequality[1])
    assert solution.den_haan_max < 0.5
    assert solution.den_haan_mean < 0.2


@pytest.mark.parametrize(
    ("economy", "inequality", "capital", "by_type"),
    [(MILD, 0.328, 11.90, (7.0, 9.2, 19.2)), (STRONG, 0.607, 15.24, (2.6, 3.9, 33.2))],
    ids=NAMES[2:],
)
def test_permanently_different_returns(
    economy: Economy, inequality: float, capital: float, by_type: tuple[float, ...]
) -> None:
    solution = solved(economy)
    assert solution.gini == pytest.approx(inequality, abs=0.01)
    assert solution.mean_effective_capital == pytest.approx(capital, rel=0.01)
    assert solution.mean_capital_by_type == pytest.approx(by_type, rel=0.03)
    assert solution.mean_capital == pytest.approx(
        np.dot(economy.weights, solution.mean_capital_by_type), rel=1e-12
    )
    assert min(solution.law.r2) > 0.9998
    assert solution.den_haan_max < 0.5


def test_all_four_take_less_than_a_minute() -> None:
    for economy in ECONOMIES:
        solved(economy)
    assert sum(CPU_SECONDS.values()) < 60.0, CPU_SECONDS


@each_economy
def test_euler_equation_holds_off_the_grid(economy: Economy) -> None:
    """At random states near the simulated ones, by the model's equations written out anew."""
    solution = solved(economy)
    rng = np.random.default_rng(0)
    n = 2000
    K = solution.mean_effective_capital * rng.uniform(0.95, 1.05, n)
    k = solution.mean_capital * rng.uniform(0.05, 3.0, n)
    z, e, kind = (rng.integers(0, top, n) for top in (2, 2, economy.types))
    productivity = np.array([1.01, 0.99])
    labour = 1.11 * np.array([0.96, 0.90])
    kappa = np.asarray(economy.kappa)[kind]

    def wealth(
        k: FloatArray, K: FloatArray, z: NDArray[np.int64], e: NDArray[np.int64]
    ) -> FloatArray:
        ratio = K / labour[z]
        wage = 0.64 * productivity[z] * ratio**0.36
        return np.asarray(
            wage * 1.11 * (e == 0) + (0.975 + kappa * 0.36 * productivity[z] * ratio**-0.64) * k
        )

    c = solution.consumption(k, K, z, e, kind)
    k_next = wealth(k, K, z, e) - c
    assert k_next.min() > 0.0
    K_next = np.exp(
        np.array(solution.law.intercept)[z] + np.array(solution.law.slope)[z] * np.log(K)
    )
    right = np.zeros(n)
    for z_next in range(2):
        for e_next in range(2):
            chance = np.where(z == z_next, 0.875, 0.125) * np.array(KS98)[z, z_next, e, e_next]
            there = np.full(n, z_next), np.full(n, e_next)
            gross = wealth(np.ones(n), K_next, there[0], np.ones(n, dtype=int))
            right += chance * gross / solution.consumption(k_next, K_next, *there, kind)
    residual = economy.beta * right * c - 1.0
    assert np.abs(residual).max() < 1e-3
    assert np.abs(residual).mean() < 1e-4
    assert np.abs(economy.beta * right * 1.01 * c - 1.0).mean() > 5e-3  # a mistake of 1% shows


@each_economy
def test_consumption_share_and_wealth_agree(economy: Economy) -> None:
    solution = solved(economy)
    k = np.array([0.0, 0.3, 5.0, 40.0, 2000.0])[:, None]
    K = np.array([11.0, 13.0])
    for z, e, kind in np.ndindex(2, 2, economy.types):
        c = solution.consumption(k, K, z, e, kind)
        share = solution.share(k, K, z, e, kind)
        assert c.shape == share.shape == (5, 2)
        assert np.all((share > 0.0) & (share < 1.0))
        assert c[1:] == pytest.approx((share * economy.wealth(k, K, z, e, kind))[1:], rel=1e-12)
        assert np.all(np.diff(c, axis=0) > 0.0)
        assert np.all(np.diff(share, axis=0) < 0.0)


@pytest.mark.parametrize(
    ("e", "mpcs"),
    [(0, (0.258, 0.146, 0.055, 0.050)), (1, (0.587, 0.405, 0.061, 0.050))],
    ids=["job", "no job"],
)
def test_marginal_propensity_to_consume(e: int, mpcs: tuple[float, ...]) -> None:
    solution = solved(IMPATIENT)
    K = solution.mean_capital
    assert solution.mpc(np.array([0.01, 0.1, 1.0, 3.0]) * K, e) == pytest.approx(mpcs, rel=0.1)
    curve = solution.mpc(np.geomspace(0.01, 3.0, 12) * K, e)
    assert np.all(np.diff(curve) < 0.0)
    assert curve[0] > 3.0 * solution.mpc(K, e)


def test_solver_says_when_it_fails() -> None:
    with pytest.raises(ConvergenceError, match="after 2 iterations"):
        solve(IMPATIENT, max_iterations=2, periods=100)
    with pytest.raises(ConvergenceError, match="consumption still changed"):
        solve_household(
            IMPATIENT, SMALL, LawOfMotion((0.2, 0.2), (0.92, 0.92), (1.0, 1.0)), max_iterations=3
        )
    with pytest.raises(ConvergenceError, match="left its grid"):
        solve(
            IMPATIENT,
            grids=replace(SMALL, K=np.linspace(11.0, 11.8, 5)),
            periods=200,
            den_haan_limit=50.0,
        )
    with pytest.raises(ValueError, match="damping"):
        solve(IMPATIENT, damping=0.0)


def test_law_that_cycles_is_not_reported() -> None:
    """Full steps at beta = .99 go round in circles, and whoever stops there has a wrong law."""
    grids = Grids.build(PATIENT, own=100, effective=9, histogram=300)
    with pytest.raises(ConvergenceError, match=r"still moved .* after 12 iterations"):
        solve(PATIENT, grids=grids, damping=1.0, periods=300, max_iterations=12)
    with pytest.raises(ConvergenceError, match=r"dynamic forecast is .*% off"):
        solve(PATIENT, grids=grids, damping=1.0, periods=300, tolerance=0.09, final_periods=400)


# -- the simulated distribution --------------------------------------------------------------------


@each_economy
def test_head_count_is_exact_and_output_is_consumed_or_invested(economy: Economy) -> None:
    solution = solved(economy)
    z = draw_states(economy, 301, 1, seed=3)
    path = simulate(
        economy, solution.grids, solution.policy, z, equal_start(economy, solution.grids, 2)
    )
    u = np.array([0.04, 0.10])[z[-1]]
    heads = np.asarray(economy.weights)[:, None] * np.stack([1.0 - u, u], axis=-1)[:, None]
    assert path.last.sum(axis=-1) == pytest.approx(heads, abs=1e-13)
    labour = 1.11 * np.array([0.96, 0.90])[path.z]
    output = np.array([1.01, 0.99])[path.z] * path.K**0.36 * labour**0.64
    resources = output + 0.975 * path.capital - path.consumption
    assert path.capital[1:] == pytest.approx(resources[:-1], rel=1e-12)
    assert path.last.sum(axis=(1, 2)) @ solution.grids.histogram == pytest.approx(
        resources[-1], rel=1e-12
    )


def test_distribution_agrees_with_a_crowd_of_sampled_households() -> None:
    """The histogram's mean and Gini are those of 20,000 households drawn one by one.

    They start from equal capital.
    """
    solution = solved(IMPATIENT)
    periods = 80
    n = 20_000
    rng = np.random.default_rng(1)
    z = draw_states(IMPATIENT, periods + 1, 1, seed=4)[:, :1]
    mass = equal_start(IMPATIENT, solution.grids, 1)
    k = np.full(n, solution.grids.histogram[mass[0, 0, 0].argmax()])
    path = simulate(IMPATIENT, solution.grids, solution.policy, z, mass)
    e = (rng.random(n) < np.array([0.04, 0.10])[z[0, 0]]).astype(np.int64)
    for now, then, K in zip(z[:-1, 0], z[1:, 0], path.K[:, 0], strict=True):
        assert k.mean() == pytest.approx(K, rel=4.0 * k.std() / k.mean() / np.sqrt(n) + 1e-3)
        k = IMPATIENT.wealth(k, K, now, e) - solution.consumption(k, K, now, e)
        e = (rng.random(n) < np.array(KS98)[now, then, e, 1]).astype(np.int64)
    assert gini(k) == pytest.approx(
        gini(solution.grids.histogram, path.last.sum(axis=(0, 1, 2))), abs=0.003
    )


def test_states_persist_and_come_in_mirrored_pairs() -> None:
    z = draw_states(IMPATIENT, 20_000, 3, seed=0)
    assert np.array_equal(z[:, :3], 1 - z[:, 3:])
    assert np.mean(z[1:] == z[:-1]) == pytest.approx(0.875, abs=0.01)


# -- what must be flagged --------------------------------------------------------------------------


def test_law_of_a_naive_rule_has_a_high_r2_and_is_flagged() -> None:
    """Always to save a quarter of output gives a law with a high R2.

    It fails on its own path, and on the exact.
    """
    solution = solved(IMPATIENT)
    z = solution.simulation.z
    K = np.empty(z.shape)
    K[0] = solution.mean_capital
    for t in range(len(z) - 1):
        K[t + 1] = 0.975 * K[t] + 0.25 * IMPATIENT.output(K[t], z[t])
    naive = law_of_motion(K, z)
    assert min(naive.r2) > 0.999
    assert den_haan(K, z, naive)[0] > 2.0
    assert den_haan(solution.simulation.K, z, naive)[0] > 5.0


def test_small_errors_that_add_up_are_flagged_though_r2_is_high() -> None:
    solution = solved(PATIENT)
    K = solution.simulation.K
    z = solution.simulation.z
    law = solution.law
    wrong = LawOfMotion(tuple(b + 0.001 for b in law.intercept), law.slope, law.r2)
    moved = np.log(K[1:])
    assert 1.0 - np.var(moved - np.log(wrong(K[:-1], z[:-1]))) / np.var(moved) > 0.999
    assert np.abs(np.log(wrong(K[:-1], z[:-1])) - moved).max() < 0.002  # one step ahead
    assert solution.den_haan_max < 0.5
    assert den_haan(K, z, wrong)[0] > 2.0


def test_households_with_a_wrong_belief_bring_about_another_law() -> None:
    """Who expects capital to grow and interest to fall saves less, and capital falls."""
    solution = solved(IMPATIENT)
    law = solution.law
    hopeful = LawOfMotion(tuple(b + 0.01 for b in law.intercept), law.slope, law.r2)
    policy = solve_household(IMPATIENT, solution.grids, hopeful, solution.policy)
    z = draw_states(IMPATIENT, 401, 1, seed=1)
    path = simulate(IMPATIENT, solution.grids, policy, z, solution.simulation.last, burn_in=100)
    assert den_haan(path.K, path.z, hopeful)[0] > 5.0
    assert law_of_motion(path.K, path.z).distance(hopeful) > 1e-3
    assert path.K.mean() < 0.9 * solution.mean_capital


# -- statistics ------------------------------------------------------------------------------------


def test_gini_of_known_distributions() -> None:
    assert gini(np.full(7, 3.0)) == pytest.approx(0.0, abs=1e-15)
    assert gini([0.0, 1.0]) == pytest.approx(0.5, abs=1e-15)
    # Three quarters hold a half.
    assert gini([1.0, 3.0], [0.75, 0.25]) == pytest.approx(0.25, abs=1e-15)
    assert gini([1.0, 3.0], [3, 1]) == pytest.approx(gini([3.0, 1.0, 1.0, 1.0]), abs=1e-15)
    exponential = -np.log1p(-(np.arange(100_000) + 0.5) / 100_000)
    assert gini(exponential) == pytest.approx(0.5, abs=1e-4)
    assert gini(10.0 * exponential) == pytest.approx(gini(exponential), abs=1e-12)


def test_lorenz_curve_and_top_shares() -> None:
    people, held = lorenz([3.0, 1.0], [1.0, 3.0])
    assert people == pytest.approx([0.0, 0.75, 1.0])
    assert held == pytest.approx([0.0, 0.5, 1.0])
    assert top_share([3.0, 1.0], [0.25, 0.125, 1.0], [1.0, 3.0]) == pytest.approx([0.5, 0.25, 1.0])
    solution = solved(IMPATIENT)
    assert solution.top_share([0.01, 0.05, 0.1, 0.2]) == pytest.approx(
        [0.0217, 0.0934, 0.1721, 0.3116], rel=0.05
    )
    assert np.all(np.diff(solution.lorenz()[1]) >= 0.0)


@pytest.mark.parametrize("shape", [(400,), (400, 3)])
def test_regression_recovers_a_known_law(shape: tuple[int, ...]) -> None:
    law = LawOfMotion((0.2, 0.1), (0.9, 0.95), (1.0, 1.0))
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, shape)
    K = np.full(shape, 5.0)
    for t in range(len(K) - 1):
        K[t + 1] = law(K[t], z[t])
    regressed = law_of_motion(K, z)
    assert regressed.distance(law) < 1e-10
    assert regressed.r2 == pytest.approx((1.0, 1.0), abs=1e-12)
    assert den_haan(K, z, law)[0] < 1e-10
    off = den_haan(K * np.exp(0.001 * rng.standard_normal(shape)), z, law)
    assert 0.1 < off[0] < 1.0
    assert off[1] < off[0]


def test_statistics_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="moved by 0"):
        law_of_motion(np.ones(50), np.zeros(50, dtype=int))
    with pytest.raises(ValueError, match="seen 1 times"):
        law_of_motion(np.arange(1.0, 6.0), np.array([0, 0, 0, 1, 0]))
    with pytest.raises(ValueError, match=r"expected \[T\]"):
        den_haan(np.ones(5), np.zeros(4, dtype=int), LawOfMotion((0.0,), (1.0,), (1.0,)))
    with pytest.raises(ValueError, match="positive capital"):
        law_of_motion(np.array([1.0, -1.0]), np.zeros(2, dtype=int))
    with pytest.raises(ValueError, match="positive total"):
        gini([1.0, -1.0])


# -- parameters ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 1.0}, "beta = 1.0"),
        ({"hours": 0.0}, "hours"),
        ({"kappa": (1.0, 1.1)}, "weights"),
        ({"weights": (0.9,)}, "weights"),
        ({"unemployment": (0.05, 0.10)}, "employment .* lead to unemployment"),
        ({"employment": (((((1.0, 0.1), (0.5, 0.5)),) * 2),) * 2}, "add up to 1"),
    ],
)
def test_economy_refuses_nonsense(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Economy(**change)  # type: ignore[arg-type]


def test_durations_of_unemployment_are_krusell_and_smiths() -> None:
    """1.5 quarters in good times, 2.5 in bad ones; labour and transitions follow."""
    chain = np.array(KS98)
    assert 1.0 / (1.0 - chain[[0, 1], [0, 1], 1, 1]) == pytest.approx([1.5, 2.5])
    assert IMPATIENT.transitions.sum(axis=(2, 3)) == pytest.approx(np.ones((2, 2)))
    assert IMPATIENT.labour == pytest.approx([1.0656, 0.999])
    r, w = IMPATIENT.prices(10.0, GOOD)
    assert r * 10.0 + w * IMPATIENT.labour[GOOD] == pytest.approx(
        IMPATIENT.output(10.0, GOOD), rel=1e-14
    )
    assert IMPATIENT.wealth(0.0, 10.0, GOOD, EMPLOYED) == pytest.approx(1.11 * w)
    assert Grids.build(IMPATIENT).k[0] == 0.0
