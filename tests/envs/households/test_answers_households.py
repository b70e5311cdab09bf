"""The answer keys of the household economy, against the known figures, each other, and wrong
answers."""

from __future__ import annotations

import numpy as np
import pytest

from rl_markets.envs.households.solution import (
    ALONE,
    BestResponse,
    CollocationSolution,
    Economy,
    Grid,
    PolicyFunction,
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
    solve_loglinear,
    solve_time_iteration,
    steady_state,
    welfare,
)
from rl_markets.envs.households.solution.economy import FloatArray
from rl_markets.envs.households.solution.loglinear import solve_linear_expectations
from rl_markets.envs.numerics.box import maximise
from rl_markets.errors import BlanchardKahnError, ConvergenceError

BASE = Economy()
FULL_DEPRECIATION = Economy(delta=1.0)
CALIBRATIONS = [
    BASE,
    FULL_DEPRECIATION,
    Economy(beta=0.99),
    Economy(delta=0.1, rho=0.95, sigma=0.02),
    Economy(alpha=0.2, beta=0.9, b=1.0),
    Economy(rho=0.0, sigma=0.0),
]


def constant(chat: float, labour: float) -> PolicyFunction:
    return lambda k, z: (np.full_like(k, chat), np.full_like(k, labour))


def states(
    economy: Economy, low: float = 0.35, high: float = 2.6, n: int = 2000
) -> tuple[FloatArray, FloatArray]:
    """Random states off every grid: capital from low to high times its steady state, z within
    +-.1."""
    rng = np.random.default_rng(0)
    return steady_state(economy).k * np.exp(rng.uniform(np.log(low), np.log(high), n)), rng.uniform(
        -0.1, 0.1, n
    )


@pytest.fixture(scope="module")
def solution() -> CollocationSolution:
    return solve_collocation(BASE)


# --- the economy
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("alpha", 0.0, "(0, 1)"),
        ("alpha", 1.0, "(0, 1)"),
        ("beta", 1.0, "(0, 1)"),
        ("delta", 0.0, "(0, 1]"),
        ("delta", 1.1, "(0, 1]"),
        ("b", -1.0, "(0, inf)"),
        ("b", float("inf"), "(0, inf)"),
        ("rho", 1.0, "[0, 1)"),
        ("sigma", -0.1, "[0, inf)"),
        ("sigma", float("nan"), "[0, inf)"),
        ("beta", "0.95", "(0, 1)"),
        ("delta", True, "(0, 1]"),
    ],
)
def test_economy_names_the_bad_parameter(field: str, value: object, expected: str) -> None:
    with pytest.raises(ValueError, match="expected a number in") as error:
        Economy(**{field: value})  # type: ignore[arg-type]
    assert str(error.value) == f"{field} = {value!r}: expected a number in {expected}"


def test_steady_state_figures() -> None:
    known = {
        "k": 1.390074,
        "l": 0.126474,
        "y": 0.299760,
        "c": 0.265008,
        "i": 0.034752,
        "a": 1.655083,
        "chat": 0.160118,
        "r": 0.077632,
        "w": 1.516888,
    }
    found = steady_state(BASE)
    assert {name: round(getattr(found, name), 6) for name in known} == known
    full = steady_state(FULL_DEPRECIATION)
    assert [round(x, 6) for x in (full.k, full.l, full.y, full.c)] == [
        0.030458,
        0.162850,
        0.089059,
        0.058601,
    ]


@pytest.mark.parametrize("economy", CALIBRATIONS, ids=str)
def test_steady_state_is_a_rest_point(economy: Economy) -> None:
    s = steady_state(economy)
    assert s.c + s.i == pytest.approx(s.y, rel=1e-13)
    assert s.i == pytest.approx(economy.delta * s.k, rel=1e-10)
    assert economy.beta * (1.0 - economy.delta + economy.alpha * s.y / s.k) == pytest.approx(
        1.0, rel=1e-13
    )
    assert economy.b * s.c / (1.0 - s.l) == pytest.approx(s.w, rel=1e-12)


def test_closed_form_figures() -> None:
    chat, labour = closed_form(FULL_DEPRECIATION)
    assert (round(chat, 6), round(labour, 6)) == (0.658000, 0.162850)
    with pytest.raises(ValueError, match=r"delta = 0\.025"):
        closed_form(BASE)


def test_closed_form_solves_both_first_order_conditions() -> None:
    policy = constant(*closed_form(FULL_DEPRECIATION))
    at = states(FULL_DEPRECIATION)
    assert np.abs(euler_errors(FULL_DEPRECIATION, policy, *at)).max() < 1e-12
    assert np.abs(labour_errors(FULL_DEPRECIATION, policy, *at)).max() < 1e-12


def test_paper_equation_13_fails() -> None:
    """The paper's labour under full depreciation has alpha and 1 - alpha swapped: 7% of the wage
    off."""
    alpha = FULL_DEPRECIATION.alpha
    beta = FULL_DEPRECIATION.beta
    b = FULL_DEPRECIATION.b
    wrong = alpha / (b * (1.0 - (1.0 - alpha) * beta) + alpha)
    assert wrong == pytest.approx(0.155172, abs=1e-6)
    chat, labour = closed_form(FULL_DEPRECIATION)
    errors = labour_errors(FULL_DEPRECIATION, constant(chat, wrong), *states(FULL_DEPRECIATION))
    assert np.all(errors < -0.05)
    shocks = np.random.default_rng(1).standard_normal((500, 200))
    right_welfare = welfare(FULL_DEPRECIATION, constant(chat, labour), 1.0, shocks).mean()
    wrong_welfare = welfare(FULL_DEPRECIATION, constant(chat, wrong), 1.0, shocks).mean()
    assert (round(right_welfare, 3), round(wrong_welfare, 3)) == (-72.629, -72.655)


# --- three solvers
# ------------------------------------------------------------------------------------------


def test_loglinear_figures() -> None:
    linear = solve_loglinear(BASE)
    found = [linear.c_k, linear.c_z, linear.l_k, linear.l_z, linear.k_k, linear.k_z]
    assert found == pytest.approx(
        [0.552946, 0.501445, -0.382234, 0.987658, 0.894463, 0.256355], abs=1e-6
    )


def test_loglinear_is_tangent_to_the_global_solution() -> None:
    # Without shocks: precautionary saving moves the global policy's level and, a little, its slope.
    still = Economy(sigma=0.0)
    linear = solve_loglinear(still)
    policy = solve_collocation(still).policy
    s = steady_state(still)
    h = 1e-4
    zero = np.zeros(2)
    k = s.k * np.exp(np.array([h, -h]))
    c = np.log(policy(k, zero).c)
    labour = np.log(policy(k, zero).l)
    assert (c[0] - c[1]) / (2 * h) == pytest.approx(linear.c_k, abs=1e-6)
    assert (labour[0] - labour[1]) / (2 * h) == pytest.approx(linear.l_k, abs=1e-6)
    by_z = np.log(policy(s.k, np.array([h, -h])).c)
    assert (by_z[0] - by_z[1]) / (2 * h) == pytest.approx(linear.c_z, abs=1e-6)


@pytest.mark.parametrize(("root", "verdict"), [(1.5, "no stable path"), (0.5, "many stable paths")])
def test_blanchard_kahn_conditions_are_checked(root: float, verdict: str) -> None:
    predetermined = 1
    lag = np.diag([root, root])
    with pytest.raises(BlanchardKahnError, match=verdict):
        solve_linear_expectations(np.eye(2), lag, predetermined)


def test_blanchard_kahn_rank_condition_is_checked() -> None:
    with pytest.raises(BlanchardKahnError, match="rank condition"):
        solve_linear_expectations(np.eye(2), np.diag([1.5, 0.5]), predetermined=1)


@pytest.mark.parametrize("economy", CALIBRATIONS, ids=str)
def test_collocation_is_accurate_off_its_nodes(economy: Economy) -> None:
    found = solve_collocation(economy)
    assert np.abs(found.euler_error(*states(economy, 0.06, 2.9))).max() < 1e-9
    assert np.abs(labour_errors(economy, found.actions, *states(economy, 0.06, 2.9))).max() < 1e-12


def test_collocation_matches_the_closed_form() -> None:
    chat, labour = closed_form(FULL_DEPRECIATION)
    found = solve_collocation(FULL_DEPRECIATION).policy(*states(FULL_DEPRECIATION))
    assert np.abs(found.chat - chat).max() < 1e-12
    assert np.abs(found.l - labour).max() < 1e-12


@pytest.mark.parametrize("economy", CALIBRATIONS, ids=str)
def test_two_independent_algorithms_agree(economy: Economy) -> None:
    at = states(economy)
    left = solve_collocation(economy).policy(*at)
    right = solve_time_iteration(economy).policy(*at)
    assert np.abs(right.c / left.c - 1.0).max() < 1e-7
    assert np.abs(right.l - left.l).max() < 1e-7


@pytest.mark.parametrize(
    ("multiple", "z", "chat", "labour", "growth"),
    [
        (0.50, 0.00, 0.193849, 0.158162, 1.098575),
        (0.75, 0.00, 0.173688, 0.140128, 1.034392),
        (1.00, -0.05, 0.158463, 0.120264, 0.987647),
        (1.00, 0.00, 0.160115, 0.126477, 1.000007),
        (1.00, 0.05, 0.161757, 0.132750, 1.013299),
        (1.50, 0.00, 0.142308, 0.106592, 0.964138),
        (2.00, 0.00, 0.130749, 0.092446, 0.945946),
    ],
)
def test_policy_table(
    solution: CollocationSolution,
    multiple: float,
    z: float,
    chat: float,
    labour: float,
    growth: float,
) -> None:
    k = multiple * steady_state(BASE).k
    found = solution.policy(k, z)
    assert [found.chat, found.l, found.k_next / k] == pytest.approx(
        [chat, labour, growth], abs=2e-6
    )


@pytest.mark.parametrize(
    ("k", "chat", "labour"), [(1.0, 0.175710, 0.142055), (0.1, 0.293689, 0.214211)]
)
def test_policy_at_the_authors_starts(
    solution: CollocationSolution, k: float, chat: float, labour: float
) -> None:
    found = solution.policy(k, 0.0)
    assert [found.chat, found.l] == pytest.approx([chat, labour], abs=2e-6)


def test_policy_keeps_the_accounts_and_broadcasts(solution: CollocationSolution) -> None:
    found = solution.policy(np.array([[1.0], [2.0]]), np.array([-0.05, 0.0, 0.05]))
    assert found.c.shape == (2, 3)
    assert np.abs(found.c + found.k_next - found.a).max() < 1e-15
    assert np.abs(found.chat * found.a - found.c).max() < 1e-15


def test_solvers_say_when_they_fail() -> None:
    with pytest.raises(ConvergenceError, match="1 Newton steps"):
        solve_collocation(BASE, max_steps=1)
    with pytest.raises(ConvergenceError, match="after 2 iterations"):
        solve_time_iteration(BASE, max_iterations=2)
    with pytest.raises(ValueError, match="capital_range"):
        solve_collocation(BASE, capital_range=(2.0, 1.0))


# --- diagnostics
# --------------------------------------------------------------------------------------------


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
    assert {name: table[name].correlation for name in correlations} == pytest.approx(
        correlations, abs=0.01
    )
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
    found = impulse_response(BASE, solution.actions, shock, periods=40)
    for name, known in RESPONSES[shock].items():
        assert found[name][AT] == pytest.approx(known, abs=0.002 if shock < 0.05 else 0.01), name


def test_impulse_response_without_a_rest_point_is_nan() -> None:
    def cycle(k: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
        return np.where(k > 1.0, 0.9, 0.05), np.full_like(k, 0.2)

    found = impulse_response(BASE, cycle, periods=10)
    assert all(np.isnan(response).all() and response.shape == (10,) for response in found.values())


def test_impulse_response_starts_at_the_policys_own_rest_point() -> None:
    found = impulse_response(BASE, constant(0.3, 0.2), shock=0.0, periods=5)
    assert all(np.abs(response).max() < 1e-3 for response in found.values())


def test_welfare_of_constant_actions(solution: CollocationSolution) -> None:
    """Returns barely see a wrong policy: steady-state actions for ever cost .16% of consumption."""
    s = steady_state(BASE)
    shocks = np.random.default_rng(1).standard_normal((500, 200))
    optimal = welfare(BASE, solution.actions, 1.0, shocks)
    fixed = welfare(BASE, constant(s.chat, s.l), 1.0, shocks)
    assert (round(optimal.mean(), 4), round(fixed.mean(), 4)) == (-41.8051, -41.8378)
    assert consumption_equivalent(BASE, float((optimal - fixed).mean())) == pytest.approx(
        0.00163, abs=5e-5
    )


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


# --- best response
# ------------------------------------------------------------------------------------------


def symmetric(policy: PolicyFunction):  # type: ignore[no-untyped-def]
    """A policy of own capital alone, as a household's: mean capital ignored."""
    return lambda k_own, k_mean, z: policy(k_own, z)


def test_planner_cannot_improve_on_the_reference() -> None:
    # The reference must hold on all of the best response's domain, or its own error there is a gain
    # to be had.
    wide = solve_collocation(BASE, capital_range=(0.05, 5.0), capital_order=21)
    found = best_response(BASE, symmetric(wide.actions), n=1, price_taking=False)
    k, z = states(BASE, 0.25, 3.5)
    z = 0.9 * z  # the best response's own domain is +-.092
    assert np.abs(found.gain(k, k, z)).max() < 1e-8
    chat, labour = found.policy(k, k, z)
    exact = wide.policy(k, z)
    assert np.abs(chat - exact.chat).max() < 2e-5
    assert np.abs(labour - exact.l).max() < 2e-5
    assert found.bellman_error < 1e-5
    assert found.leaving == 0.0


def test_planner_recovers_the_closed_form() -> None:
    found = best_response(FULL_DEPRECIATION, symmetric(constant(0.3, 0.4)), n=1, price_taking=False)
    k, z = states(FULL_DEPRECIATION, n=200)
    chat, labour = found.policy(k, k, z)
    exact = closed_form(FULL_DEPRECIATION)
    assert np.abs(chat - exact[0]).max() < 1e-5
    assert np.abs(labour - exact[1]).max() < 1e-5
    assert found.gain(k, k, z).min() > 0.1


def test_gain_from_leaving_constant_actions_equals_the_welfare_loss(
    solution: CollocationSolution,
) -> None:
    s = steady_state(BASE)
    fixed = constant(s.chat, s.l)
    found = best_response(BASE, symmetric(fixed), n=1, price_taking=False)
    assert found.gain_percent(1.0, 1.0, 0.0) == pytest.approx(0.165032, abs=2e-5)
    shocks = np.random.default_rng(2).standard_normal((500, 400))
    simulated = welfare(BASE, solution.actions, 1.0, shocks) - welfare(BASE, fixed, 1.0, shocks)
    error = simulated.std() / np.sqrt(simulated.size)
    assert abs(found.gain(1.0, 1.0, 0.0) - simulated.mean()) < 4.0 * error + 1e-4
    finer = best_response(
        BASE,
        symmetric(fixed),
        n=1,
        price_taking=False,
        grid=Grid(crowd_range=(0.2, 4.0), crowd_order=21, tfp_order=7),
    )
    assert finer.gain_percent(1.0, 1.0, 0.0) == pytest.approx(
        found.gain_percent(1.0, 1.0, 0.0), abs=1e-5
    )


@pytest.fixture(scope="module")
def duopoly(solution: CollocationSolution) -> BestResponse:
    return best_response(BASE, symmetric(solution.actions), n=2, price_taking=False, grid=SMALL)


SMALL = Grid(own_order=24, crowd_order=6, tfp_order=3)


def test_no_household_gains_by_leaving_the_symmetric_equilibrium(duopoly: BestResponse) -> None:
    """Own price impact vanishes at symmetry: the planner's policy is a Nash equilibrium for n = 2
    as well."""
    k = steady_state(BASE).k * np.array([0.6, 0.8, 1.0, 1.3, 1.7])
    assert np.abs(duopoly.gain_percent(k, k, 0.0)).max() < 1e-3


def test_off_symmetry_the_planners_policy_is_not_a_best_response(duopoly: BestResponse) -> None:
    k = steady_state(BASE).k
    assert np.all(duopoly.gain_percent(np.array([0.5, 2.0]) * k, k, 0.0) > 0.02)


def test_among_others_constant_actions_leave_a_gain() -> None:
    s = steady_state(BASE)
    found = best_response(
        BASE, symmetric(constant(s.chat, s.l)), n=2, price_taking=False, grid=SMALL
    )
    assert found.gain_percent(1.0, 1.0, 0.0) == pytest.approx(0.178, abs=0.003)


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
    """Their mean is the response at rest to 2 % of its peak, they differ from state to state, and
    no shock moves nothing."""
    plain = impulse_response(BASE, solution.actions, 0.01, periods=20)
    found = generalised_responses(
        BASE, solution.actions, np.random.default_rng(1), periods=20, paths=200
    )
    for name in ("y", "c", "i", "k"):
        assert found[name].shape == (20, 200)
        peak = np.abs(plain[name]).max()
        assert np.abs(found[name].mean(1) - plain[name]).max() < 0.02 * peak
        assert found[name].std(1).max() > 1e-3 * peak
    nothing = generalised_responses(
        BASE, solution.actions, np.random.default_rng(1), shock=0.0, periods=5, paths=9
    )
    assert all(not response.any() for response in nothing.values())
