"""Solvers of the household economy against published figures, each other, and wrong answers."""

from __future__ import annotations

import numpy as np
import pytest

from rl_markets.envs.households.solution import (
    CollocationSolution,
    Economy,
    closed_form,
    euler_errors,
    labour_errors,
    solve_collocation,
    solve_loglinear,
    steady_state,
    welfare,
)
from rl_markets.envs.households.solution.loglinear import solve_linear_expectations
from rl_markets.errors import BlanchardKahnError, ConvergenceError
from tests.support.oracles.time_iteration import solve_time_iteration
from tests.support.rbc import BASE, FULL_DEPRECIATION, constant, states

CALIBRATIONS = [
    BASE,
    FULL_DEPRECIATION,
    Economy(beta=0.99),
    Economy(delta=0.1, rho=0.95, sigma=0.02),
    Economy(alpha=0.2, beta=0.9, b=1.0),
    Economy(rho=0.0, sigma=0.0),
]


# -- the economy -----------------------------------------------------------------------------------


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
    rest = steady_state(BASE)
    assert {name: round(getattr(rest, name), 6) for name in known} == known
    full = steady_state(FULL_DEPRECIATION)
    known_full = [0.030458, 0.162850, 0.089059, 0.058601]
    assert [round(x, 6) for x in (full.k, full.l, full.y, full.c)] == known_full


@pytest.mark.parametrize("economy", CALIBRATIONS, ids=str)
def test_steady_state_is_a_rest_point(economy: Economy) -> None:
    s = steady_state(economy)
    assert s.c + s.i == pytest.approx(s.y, rel=1e-13)
    assert s.i == pytest.approx(economy.delta * s.k, rel=1e-10)
    gross_return = 1.0 - economy.delta + economy.alpha * s.y / s.k
    assert economy.beta * gross_return == pytest.approx(1.0, rel=1e-13)
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
    """The paper's labour under full depreciation has alpha and 1 - alpha swapped.

    It is 7% of the wage off.
    """
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


# -- three solvers ---------------------------------------------------------------------------------


def test_loglinear_figures() -> None:
    linear = solve_loglinear(BASE)
    slopes = [linear.c_k, linear.c_z, linear.l_k, linear.l_z, linear.k_k, linear.k_z]
    assert slopes == pytest.approx(
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
    solution = solve_collocation(economy)
    at = states(economy, 0.06, 2.9)
    assert np.abs(solution.euler_error(*at)).max() < 1e-9
    assert np.abs(labour_errors(economy, solution.actions, *at)).max() < 1e-12


def test_collocation_matches_the_closed_form() -> None:
    chat, labour = closed_form(FULL_DEPRECIATION)
    choice = solve_collocation(FULL_DEPRECIATION).policy(*states(FULL_DEPRECIATION))
    assert np.abs(choice.chat - chat).max() < 1e-12
    assert np.abs(choice.l - labour).max() < 1e-12


@pytest.mark.parametrize("economy", CALIBRATIONS, ids=str)
def test_two_independent_algorithms_agree(economy: Economy) -> None:
    at = states(economy)
    collocation = solve_collocation(economy).policy(*at)
    iteration = solve_time_iteration(economy).policy(*at)
    assert np.abs(iteration.c / collocation.c - 1.0).max() < 1e-7
    assert np.abs(iteration.l - collocation.l).max() < 1e-7


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
    choice = solution.policy(k, z)
    assert [choice.chat, choice.l, choice.k_next / k] == pytest.approx(
        [chat, labour, growth], abs=2e-6
    )


@pytest.mark.parametrize(
    ("k", "chat", "labour"), [(1.0, 0.175710, 0.142055), (0.1, 0.293689, 0.214211)]
)
def test_policy_at_the_authors_starts(
    solution: CollocationSolution, k: float, chat: float, labour: float
) -> None:
    choice = solution.policy(k, 0.0)
    assert [choice.chat, choice.l] == pytest.approx([chat, labour], abs=2e-6)


def test_policy_keeps_the_accounts_and_broadcasts(solution: CollocationSolution) -> None:
    choice = solution.policy(np.array([[1.0], [2.0]]), np.array([-0.05, 0.0, 0.05]))
    assert choice.c.shape == (2, 3)
    assert np.abs(choice.c + choice.k_next - choice.a).max() < 1e-15
    assert np.abs(choice.chat * choice.a - choice.c).max() < 1e-15


def test_solvers_say_when_they_fail() -> None:
    with pytest.raises(ConvergenceError, match="1 Newton steps"):
        solve_collocation(BASE, max_steps=1)
    with pytest.raises(ConvergenceError, match="after 2 iterations"):
        solve_time_iteration(BASE, max_iterations=2)
    with pytest.raises(ValueError, match="capital_range"):
        solve_collocation(BASE, capital_range=(2.0, 1.0))
