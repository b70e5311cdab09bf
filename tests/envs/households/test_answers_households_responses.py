"""Diagnostics of the household economy: moments, impulse responses, welfare, best responses."""

from __future__ import annotations

import numpy as np
import pytest

from rl_markets.envs.households.solution import (
    ALONE,
    BestResponse,
    CollocationSolution,
    Grid,
    best_response,
    closed_form,
    consumption_equivalent,
    euler_errors,
    generalised_responses,
    impulse_response,
    labour_errors,
    moments,
    simulate,
    solve_collocation,
    steady_state,
    welfare,
)
from rl_markets.envs.numerics.box import maximise
from rl_markets.envs.numerics.checks import FloatArray
from rl_markets.errors import ConvergenceError
from tests.support.rbc import BASE, FULL_DEPRECIATION, constant, states, symmetric


def test_errors_see_a_one_percent_mistake(solution: CollocationSolution) -> None:
    def greedy(k: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        chat, labour = solution.actions(k, z)
        return 1.01 * chat, labour

    at = states(BASE)
    assert np.all(euler_errors(BASE, greedy, *at) > 1e-4)
    assert labour_errors(BASE, greedy, *at) == pytest.approx(np.full(2000, 0.01), abs=1e-9)
    s = steady_state(BASE)
    assert np.abs(euler_errors(BASE, constant(s.chat, s.l), *at)).max() > 0.05


def test_moments(solution: CollocationSolution) -> None:
    simulation = simulate(
        BASE, solution.actions, periods=1000, paths=100, rng=np.random.default_rng(3)
    )
    assert simulation.y.shape == (1000, 100)
    table = moments(simulation)
    known = {"y": 4.147, "c": 3.168, "l": 1.696, "i": 18.51, "k": 4.075}
    assert {name: table[name].sd for name in known} == pytest.approx(known, rel=0.03)
    correlations = {"y": 1.0, "c": 0.893, "l": 0.679, "i": 0.785}
    measured = {name: table[name].correlation for name in correlations}
    assert measured == pytest.approx(correlations, abs=0.01)
    assert table["k"].mean == pytest.approx(1.3915, rel=0.005)
    assert np.std(simulation.z) == pytest.approx(BASE.tfp_sd, rel=0.03)
    assert simulation.c + simulation.i == pytest.approx(simulation.y, rel=1e-13)


def test_simulation_is_reproducible_and_bounded(solution: CollocationSolution) -> None:
    first, second = (
        simulate(BASE, solution.actions, 50, 3, np.random.default_rng(0), 10) for _ in range(2)
    )
    assert np.array_equal(first.k, second.k)
    with pytest.raises(ValueError, match="periods = 0"):
        simulate(BASE, solution.actions, 0, 3, np.random.default_rng(0))


def test_moments_of_negative_investment_are_nan() -> None:
    s = steady_state(BASE)
    starving = simulate(BASE, constant(0.9, s.l), 20, 2, np.random.default_rng(0), burn_in=0)
    assert np.isnan(moments(starving)["i"].sd)
    assert np.isfinite(moments(starving)["c"].sd)


AT = [0, 1, 5, 10, 20, 39]
RESPONSES = {
    0.01: {
        "y": [1.643, 1.508, 1.065, 0.683, 0.274, 0.046],
        "c": [0.504, 0.596, 0.760, 0.712, 0.424, 0.098],
        "i": [10.329, 8.464, 3.398, 0.459, -0.866, -0.357],
        "l": [0.989, 0.791, 0.265, -0.025, -0.130, -0.046],
        "k": [0.0, 0.258, 0.837, 0.972, 0.657, 0.163],
    },
    0.1: {
        "y": [17.438, 16.021, 11.208, 7.060, 2.777, 0.459],
        "c": [5.266, 6.268, 7.981, 7.429, 4.372, 1.004],
        "i": [110.255, 90.392, 35.814, 4.250, -9.383, -3.695],
        "l": [9.955, 7.925, 2.601, -0.300, -1.337, -0.471],
        "k": [0.0, 2.756, 8.917, 10.295, 6.851, 1.670],
    },
}


@pytest.mark.parametrize("shock", RESPONSES)
def test_impulse_responses(solution: CollocationSolution, shock: float) -> None:
    responses = impulse_response(BASE, solution.actions, shock, periods=40)
    tolerance = 0.002 if shock < 0.05 else 0.01
    for name, known in RESPONSES[shock].items():
        assert responses[name][AT] == pytest.approx(known, abs=tolerance), name


def test_impulse_response_without_a_rest_point_is_nan() -> None:
    def cycle(k: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.where(k > 1.0, 0.9, 0.05), np.full_like(k, 0.2)

    responses = impulse_response(BASE, cycle, periods=10)
    assert all(response.shape == (10,) for response in responses.values())
    assert all(np.isnan(response).all() for response in responses.values())


def test_impulse_response_starts_at_the_policys_own_rest_point() -> None:
    responses = impulse_response(BASE, constant(0.3, 0.2), shock=0.0, periods=5)
    assert all(np.abs(response).max() < 1e-3 for response in responses.values())


def test_welfare_of_constant_actions(solution: CollocationSolution) -> None:
    """Returns barely see a wrong policy: steady-state actions for ever cost .16% of consumption."""
    s = steady_state(BASE)
    shocks = np.random.default_rng(1).standard_normal((500, 200))
    optimal = welfare(BASE, solution.actions, 1.0, shocks)
    fixed = welfare(BASE, constant(s.chat, s.l), 1.0, shocks)
    assert (round(optimal.mean(), 4), round(fixed.mean(), 4)) == (-41.8051, -41.8378)
    loss = consumption_equivalent(BASE, float((optimal - fixed).mean()))
    assert loss == pytest.approx(0.00163, abs=5e-5)


def test_welfare_with_a_terminal_value_needs_no_long_horizon(solution: CollocationSolution) -> None:
    key = best_response(BASE, symmetric(solution.actions), n=1, price_taking=False)
    shocks = np.random.default_rng(1).standard_normal((500, 50))
    short = welfare(
        BASE, solution.actions, 1.0, shocks[:20], terminal_value=lambda k, z: key.value(k, k, z)
    )
    error = short.std() / np.sqrt(short.size)
    assert abs(short.mean() - key.value(1.0, 1.0, 0.0)) < 4.0 * error
    assert welfare(BASE, solution.actions, 1.0, shocks[:20]).mean() > short.mean() + 10.0
    with pytest.raises(ValueError, match=r"\[periods, paths\]"):
        welfare(BASE, solution.actions, 1.0, shocks[0])


def test_planner_cannot_improve_on_the_reference() -> None:
    # The reference must hold on all of the best response's domain, or its own error there is a gain
    # to be had.
    wide = solve_collocation(BASE, capital_range=(0.05, 5.0), capital_order=21)
    best = best_response(BASE, symmetric(wide.actions), n=1, price_taking=False)
    k, z = states(BASE, 0.25, 3.5)
    z = 0.9 * z  # the best response's own domain is +-.092
    assert np.abs(best.gain(k, k, z)).max() < 1e-8
    chat, labour = best.policy(k, k, z)
    exact = wide.policy(k, z)
    assert np.abs(chat - exact.chat).max() < 2e-5
    assert np.abs(labour - exact.l).max() < 2e-5
    assert best.bellman_error < 1e-5
    assert best.leaving == 0.0


def test_planner_recovers_the_closed_form() -> None:
    best = best_response(FULL_DEPRECIATION, symmetric(constant(0.3, 0.4)), n=1, price_taking=False)
    k, z = states(FULL_DEPRECIATION, n=200)
    chat, labour = best.policy(k, k, z)
    exact = closed_form(FULL_DEPRECIATION)
    assert np.abs(chat - exact[0]).max() < 1e-5
    assert np.abs(labour - exact[1]).max() < 1e-5
    assert best.gain(k, k, z).min() > 0.1


def test_gain_from_leaving_constant_actions_equals_the_welfare_loss(
    solution: CollocationSolution,
) -> None:
    s = steady_state(BASE)
    fixed = constant(s.chat, s.l)
    best = best_response(BASE, symmetric(fixed), n=1, price_taking=False)
    assert best.gain_percent(1.0, 1.0, 0.0) == pytest.approx(0.165032, abs=2e-5)
    shocks = np.random.default_rng(2).standard_normal((500, 400))
    simulated = welfare(BASE, solution.actions, 1.0, shocks) - welfare(BASE, fixed, 1.0, shocks)
    error = simulated.std() / np.sqrt(simulated.size)
    assert abs(best.gain(1.0, 1.0, 0.0) - simulated.mean()) < 4.0 * error + 1e-4
    finer = best_response(
        BASE,
        symmetric(fixed),
        n=1,
        price_taking=False,
        grid=Grid(crowd_range=(0.2, 4.0), crowd_order=21, tfp_order=7),
    )
    assert finer.gain_percent(1.0, 1.0, 0.0) == pytest.approx(
        best.gain_percent(1.0, 1.0, 0.0), abs=1e-5
    )


@pytest.fixture(scope="module")
def duopoly(solution: CollocationSolution) -> BestResponse:
    return best_response(BASE, symmetric(solution.actions), n=2, price_taking=False, grid=SMALL)


SMALL = Grid(own_order=24, crowd_order=6, tfp_order=3)


def test_no_household_gains_by_leaving_the_symmetric_equilibrium(duopoly: BestResponse) -> None:
    """The planner's policy is a Nash equilibrium for n = 2 as well.

    A household's own price impact vanishes at symmetry.
    """
    k = steady_state(BASE).k * np.array([0.6, 0.8, 1.0, 1.3, 1.7])
    assert np.abs(duopoly.gain_percent(k, k, 0.0)).max() < 1e-3


def test_off_symmetry_the_planners_policy_is_not_a_best_response(duopoly: BestResponse) -> None:
    k = steady_state(BASE).k
    assert np.all(duopoly.gain_percent(np.array([0.5, 2.0]) * k, k, 0.0) > 0.02)


def test_among_others_constant_actions_leave_a_gain() -> None:
    s = steady_state(BASE)
    best = best_response(
        BASE, symmetric(constant(s.chat, s.l)), n=2, price_taking=False, grid=SMALL
    )
    assert best.gain_percent(1.0, 1.0, 0.0) == pytest.approx(0.178, abs=0.003)


def test_best_response_refuses_nonsense(solution: CollocationSolution) -> None:
    with pytest.raises(ValueError, match="n = 0"):
        best_response(BASE, symmetric(solution.actions), n=0, price_taking=False)
    with pytest.raises(ValueError, match=r"policy's chat in \[1.2"):
        best_response(BASE, symmetric(constant(1.2, 0.2)), n=1, price_taking=False)
    with pytest.raises(ValueError, match="crowd_range"):
        Grid(crowd_range=(2.0, 1.0))
    with pytest.raises(ConvergenceError, match="after 1 steps"):
        best_response(BASE, symmetric(constant(0.3, 0.3)), 1, False, grid=ALONE, max_iterations=1)


def test_maximise_finds_interior_corner_and_the_higher_of_two_hills() -> None:
    def hills(x: FloatArray, y: FloatArray) -> FloatArray:
        interior = -((x[0] - 0.3) ** 2) - (y[0] - 0.7) ** 2
        corner = 2.0 * x[1] - y[1]
        two = (
            np.exp(-200.0 * (x[2] - 0.2) ** 2)
            + 1.2 * np.exp(-200.0 * (x[2] - 0.8) ** 2)
            - (y[2] - 0.5) ** 2
        )
        return np.stack([interior, corner, two])

    x, y, best = maximise(hills, 3, (0.01, 0.99))
    assert x == pytest.approx([0.3, 0.99, 0.8], abs=2e-5)
    assert y == pytest.approx([0.7, 0.01, 0.5], abs=2e-5)
    assert best == pytest.approx([0.0, 1.97, 1.2], abs=1e-4)


def test_generalised_responses_are_the_plain_one_where_the_economy_is_nearly_linear(
    solution: CollocationSolution,
) -> None:
    """Their mean is the response at rest to 2 % of its peak.

    They differ from state to state, and no shock moves nothing.
    """
    plain = impulse_response(BASE, solution.actions, 0.01, periods=20)
    generalised = generalised_responses(
        BASE, solution.actions, np.random.default_rng(1), periods=20, paths=200
    )
    for name in ("y", "c", "i", "k"):
        assert generalised[name].shape == (20, 200)
        peak = np.abs(plain[name]).max()
        assert np.abs(generalised[name].mean(1) - plain[name]).max() < 0.02 * peak
        assert generalised[name].std(1).max() > 1e-3 * peak
    nothing = generalised_responses(
        BASE, solution.actions, np.random.default_rng(1), shock=0.0, periods=5, paths=9
    )
    assert all(not response.any() for response in nothing.values())
