"""The fiscal economy's solution against closed forms, its own conditions and wrong answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rl_markets.envs.fiscal.solution import (
    FiscalEconomy,
    FiscalSolution,
    closed_form,
    disposable,
    euler_errors,
    government_gain,
    labour_errors,
    play,
    rest_at,
    rest_point,
    solve,
)
from rl_markets.envs.households.solution import Economy, solve_collocation, steady_state
from rl_markets.errors import ConvergenceError
from tests.support.fiscal_economies import (
    DEFAULT,
    FULL,
    MILD,
    STILL,
    FloatArray,
    Market,
    constant,
    states,
)

# -- the economy -----------------------------------------------------------------------------------

OUT_OF_RANGE: dict[str, tuple[list[object], str]] = {
    "theta": ([0.0, float("inf"), float("nan"), "0.3", True], "a number in (0, inf)"),
    "progressivity": ([-0.1, 1.0], "a number in [0, 1)"),
    "households": ([0, 2.5], "a whole number in [1, inf)"),
    "conduct": (["cooperative"], "one of ('price-taking', 'strategic')"),
    "economy": ([3], "an Economy"),
}


@pytest.mark.parametrize("field", OUT_OF_RANGE)
def test_the_economy_names_the_bad_parameter(field: str) -> None:
    values, expected = OUT_OF_RANGE[field]
    for value in values:
        with pytest.raises(ValueError, match="expected") as error:
            FiscalEconomy(**{field: value})  # type: ignore[arg-type]
        assert str(error.value) == f"{field} = {value!r}: expected {expected}"


def test_nonsense_is_refused(mild: FiscalSolution) -> None:
    with pytest.raises(ValueError, match=r"delta = 0\.025"):
        closed_form(DEFAULT)
    with pytest.raises(ValueError, match="capital_range"):
        solve(MILD, capital_range=(1.5, 3.0))
    with pytest.raises(ValueError, match=r"tau = 1\.0"):
        rest_at(MILD, 1.0)
    with pytest.raises(ValueError, match="capital_range"):
        government_gain(MILD, mild.household, mild.tax, 1.0, 0.0, capital_range=(2.0, 1.0))
    with pytest.raises(ValueError, match=r"k = -1\.0"):
        government_gain(MILD, mild.household, mild.tax, -1.0, 0.0)
    with pytest.raises(ValueError, match=r"policy's tau .* within \(0, 1\)"):
        government_gain(MILD, mild.household, lambda k, z: -mild.tax(k, z), 1.0, 0.0)
    with pytest.raises(ConvergenceError, match="no rest point"):
        rest_point(MILD, lambda k, z: (0.5 - 1e3 * (k - 1.0), np.full_like(k, 0.1)), mild.tax)


def test_the_schedule_raises_its_share_of_output_and_a_progressive_one_evens_out() -> None:
    income = np.array([[0.1, 0.2, 0.3, 0.4, 1.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    flat, progressive = (disposable(income, income.mean(1), [0.3, 0.2], p) for p in (0.0, 0.5))
    assert flat == pytest.approx(np.array([[0.7], [0.8]]) * income, abs=1e-15)
    assert progressive.mean(1) == pytest.approx([0.7 * 0.4, 0.8], abs=1e-15)
    assert np.all(np.diff(progressive[0] / income[0]) < 0.0)


@pytest.mark.parametrize(("price_taking", "p_e"), [(True, 0.3), (False, 0.3 * 0.8)])
def test_what_a_household_keeps_of_its_income(price_taking: bool, p_e: float) -> None:
    """p_e by finite differences, for five households.

    Of both labour and capital, and the formula's own value.
    """
    economy = FiscalEconomy(
        progressivity=0.3, households=5, conduct="price-taking" if price_taking else "strategic"
    )
    assert economy.effective_p == pytest.approx(p_e, abs=1e-15)
    market = Market(economy, 5, price_taking)
    alpha = economy.economy.alpha
    tau = 0.25
    step = 1e-5
    K = np.array(1.3)
    L = np.array(0.12)
    z = np.array(0.02)
    Y = np.exp(z) * K**alpha * L ** (1.0 - alpha)
    for price, dk, dl in ((alpha * Y / K, step, 0.0), ((1.0 - alpha) * Y / L, 0.0, step)):
        up, down = (
            market.net_income(K, L, z, np.array(tau), K + s * dk, L + s * dl) for s in (1.0, -1.0)
        )
        assert (up - down) / (2.0 * step) == pytest.approx(
            (1.0 - p_e) * (1.0 - tau) * price, rel=1e-8
        )


def test_the_market_of_the_tests_is_that_of_the_answer() -> None:
    """The one deviator's net income is `disposable`'s.

    Prices and means are over all five households.
    """
    economy = FiscalEconomy(progressivity=0.3, households=5, conduct="strategic")
    k = np.array([1.5, 1.0, 1.0, 1.0, 1.0])
    labour = np.array([0.2, 0.1, 0.1, 0.1, 0.1])
    alpha = 0.36
    tau = 0.25
    Y = k.mean() ** alpha * labour.mean() ** (1.0 - alpha)
    income = (1.0 - alpha) * Y / labour.mean() * labour + alpha * Y / k.mean() * k
    assert income.mean() == pytest.approx(Y, abs=1e-15)
    one = (np.array(x) for x in (1.0, 0.1, 0.0, tau, 1.5, 0.2))
    net_income = Market(economy, 5, False).net_income(*one)
    assert net_income == pytest.approx(disposable(income, Y, tau, 0.3)[0], abs=1e-15)


# -- full depreciation -----------------------------------------------------------------------------


def test_closed_form_figures() -> None:
    assert closed_form(FULL) == pytest.approx(
        (0.7264, 0.12355212355212355, 0.15184615384615385), abs=1e-15
    )
    strategic = replace(FULL, households=1, conduct="strategic")
    flat = closed_form(replace(FULL, progressivity=0.0))
    assert closed_form(strategic) == flat  # alone, it gets back all that the schedule takes
    assert flat[:2] == pytest.approx((0.658, 0.16285), abs=1e-6)  # the economy without taxes


@pytest.mark.parametrize(
    "economy", [FULL, replace(FULL, theta=3.0, households=4, conduct="strategic")], ids=str
)
def test_the_numerical_solution_finds_the_closed_form(economy: FiscalEconomy) -> None:
    solution = solve(economy)
    for action, known in zip(
        solution.actions(*states(solution)), closed_form(economy), strict=True
    ):
        assert action == pytest.approx(known, abs=1e-10)
    assert solution.accuracy < 1e-10


def closed_form_errors(
    economy: FiscalEconomy, chat: float, labour: float, tau: float
) -> tuple[float, float, float]:
    """Errors of the Euler, labour and government conditions; V is B log K + ...."""
    household, tax = constant(chat, labour, tau)
    at = np.array([0.01, 0.03]), np.array([-0.1, 0.1])
    alpha = economy.economy.alpha
    beta = economy.economy.beta
    B = alpha * (1.0 + economy.theta) / (1.0 - alpha * beta)
    government = (1.0 + beta * B) * tau / ((1.0 - tau) * economy.theta) - 1.0
    errors = (f(economy, household, tax, *at) for f in (euler_errors, labour_errors))
    euler, work = (float(np.abs(e).max()) for e in errors)
    return euler, work, abs(government)


@pytest.mark.parametrize(
    "economy", [FULL, replace(FULL, households=3, conduct="strategic")], ids=str
)
def test_the_closed_form_solves_all_three_conditions_and_wrong_ones_do_not(
    economy: FiscalEconomy,
) -> None:
    chat, labour, tau = closed_form(economy)
    assert max(closed_form_errors(economy, chat, labour, tau)) < 1e-12
    alpha = economy.economy.alpha
    beta = economy.economy.beta
    kept = economy.retention
    swapped_chat = 1.0 - (1.0 - alpha) * beta * kept
    swapped_work = kept * alpha / (kept * alpha + economy.economy.b * chat)
    assert closed_form_errors(economy, swapped_chat, labour, tau)[0] > 0.05
    assert closed_form_errors(economy, chat, swapped_work, tau)[1] > 0.05
    swapped_tau = economy.theta * (1.0 - (1.0 - alpha) * beta) / (1.0 + economy.theta)
    myopic = economy.theta / (1.0 + economy.theta)
    for wrong in (swapped_tau, myopic):
        assert closed_form_errors(economy, chat, labour, wrong)[2] > 0.05
    # As if the schedule's slope did not count.
    flat = closed_form(replace(economy, progressivity=0.0))
    assert min(closed_form_errors(economy, flat[0], flat[1], tau)[:2]) > 0.05


@pytest.mark.parametrize("wrong", [0.05, 0.15, 0.23076923, 0.6])
def test_the_governments_gain_is_exact_at_full_depreciation(wrong: float) -> None:
    """The government's gain is that of the formula for constant actions.

    With these, welfare depends on tau by (theta log tau + (1 + beta B) log(1-tau)) / (1 - beta).
    """
    beta = FULL.economy.beta
    chat, labour, tau = closed_form(FULL)
    B = FULL.economy.alpha * (1.0 + FULL.theta) / (1.0 - FULL.economy.alpha * beta)
    best, frozen = (
        FULL.theta * np.log(x) + (1.0 + beta * B) * np.log(1.0 - x) for x in (tau, wrong)
    )
    household, tax = constant(chat, labour, wrong)
    at = np.array([[0.004], [0.02]]), np.array([-0.05, 0.0, 0.05])
    gain = government_gain(FULL, household, tax, *at)
    assert gain == pytest.approx(np.full((2, 3), (best - frozen) / (1.0 - beta)), abs=1e-9)


# -- any depreciation ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "economy",
    [
        MILD,
        DEFAULT,
        FiscalEconomy(Economy(delta=0.1), theta=0.1),
        FiscalEconomy(
            Economy(delta=0.1), theta=0.3, progressivity=0.2, households=4, conduct="strategic"
        ),
        FiscalEconomy(Economy(beta=0.99), theta=0.1),
        STILL,
    ],
    ids=str,
)
def test_conditions_hold_off_the_nodes(economy: FiscalEconomy) -> None:
    solution = solve(economy)
    at = states(solution)
    assert np.abs(solution.euler_error(*at)).max() < 1e-5
    assert np.abs(solution.government_error(*at)).max() < 1e-5
    assert np.abs(solution.value_error(*at)).max() < 1e-5
    assert np.abs(solution.labour_error(*at)).max() < 1e-10
    chat, labour, tau = solution.actions(*at)
    for action in (chat, labour, tau):
        assert np.all((action > 0.0) & (action < 1.0))


def test_errors_show_wrong_rules(mild: FiscalSolution) -> None:
    """Each error sees the rule that is wrong.

    Taxes too high by 1% of their odds, consumption by 1%, the value by a constant and a slope.
    """
    at = states(mild)
    wrong = np.zeros_like(mild.log_c)
    wrong[0, 0] = 0.01
    taxed = replace(mild, tax_odds=mild.tax_odds + wrong).government_error(*at)
    assert np.all((taxed > 0.005) & (taxed < 0.02))
    eaten = replace(mild, log_c=mild.log_c + wrong).euler_error(*at)
    assert np.all((eaten > 1e-4) & (eaten < 0.01))
    valued = replace(mild, value_coefficients=mild.value_coefficients + wrong)
    assert valued.value_error(*at) == pytest.approx(-0.01 * (1.0 - MILD.economy.beta), abs=1e-5)
    sloped = replace(mild, value_coefficients=mild.value_coefficients + np.roll(wrong, 1, axis=0))
    assert np.abs(sloped.government_error(*at)).max() > 1e-3


def test_the_rules_do_not_depend_on_the_domain(default: FiscalSolution) -> None:
    narrow = solve(DEFAULT, capital_range=(0.5, 1.25), capital_order=15)
    for action, known in zip(
        narrow.actions(*states(narrow)), default.actions(*states(narrow)), strict=True
    ):
        assert action == pytest.approx(known, rel=1e-5)


def test_figures_at_rest(default: FiscalSolution) -> None:
    rest = default.rest
    assert [rest.tau, rest.chat, rest.l, rest.k] == pytest.approx(
        [0.208708, 0.160091, 0.126476, 0.964535], abs=1e-6
    )
    progressive = solve(replace(DEFAULT, progressivity=0.2)).rest
    known = [0.206555, 0.196457, 0.101423, 0.548167]
    assert [progressive.tau, progressive.chat, progressive.l, progressive.k] == pytest.approx(
        known, abs=1e-6
    )


def test_rest_points_agree(still: FiscalSolution) -> None:
    """Root of the rules, a long simulation of them, and the formula at the same constant tax."""
    simulated = rest_point(STILL, still.household, still.tax)
    formula = rest_at(STILL, still.rest.tau)
    for name in ("k", "l", "y", "c", "g", "a", "chat", "tau"):
        value = getattr(still.rest, name)
        assert value == pytest.approx(getattr(simulated, name), rel=1e-9), name
        assert value == pytest.approx(getattr(formula, name), rel=1e-6), name


def test_a_flat_tax_at_rest_changes_neither_work_nor_the_consumed_share() -> None:
    """It lowers capital until what is kept of output, per unit of capital, is what it was."""
    rest = rest_at(DEFAULT, 0.4)
    untaxed = steady_state(Economy())
    assert (rest.l, rest.chat) == pytest.approx((untaxed.l, untaxed.chat), rel=1e-12)


def test_without_a_public_good_it_is_the_economy_without_taxes() -> None:
    solution = solve(FiscalEconomy(theta=1e-8))
    untaxed = solve_collocation(Economy(), capital_range=(0.1, 4.0))
    at = states(solution)
    chat, labour, tau = solution.actions(*at)
    assert tau.max() < 5e-8
    for action, known in zip((chat, labour), untaxed.actions(*at), strict=True):
        assert action == pytest.approx(known, rel=1e-6)


def test_comparative_statics(mild: FiscalSolution) -> None:
    more = solve(replace(MILD, theta=0.15))
    flat = solve(replace(MILD, progressivity=0.0))
    k = mild.rest.k * np.geomspace(0.4, 2.0, 9)
    z = np.zeros(9)
    assert np.all(more.tax(k, z) > 1.2 * mild.tax(k, z))
    # The more capital to each unit of output, the higher the tax on it.
    assert np.all(np.diff(mild.tax(k, z)) > 0.0)
    chat, labour = mild.household(k, z)
    flat_chat, flat_labour = flat.household(k, z)
    assert np.all(chat > flat_chat)
    assert np.all(labour < flat_labour)
    assert mild.rest.k < 0.7 * flat.rest.k
    assert np.all(mild.tax(k, z + 0.05) < mild.tax(k, z))
    alone, few, many = (
        solve(replace(MILD, households=n, conduct="strategic")).rest for n in (1, 3, 10**9)
    )
    assert alone.k == pytest.approx(flat.rest.k, rel=1e-9)
    assert mild.rest.k < few.k < alone.k
    assert many.k == pytest.approx(mild.rest.k, rel=1e-6)


# -- where there is no interior equilibrium --------------------------------------------------------

LABOUR = np.linspace(1e-5, 0.4, 40_000)


def labour_excess(solution: FiscalSolution, k: float) -> FloatArray:
    """f on LABOUR, all else as the solution has it.

    That is the public good's share of all there is, and consumption.
    """
    economy = solution.economy
    core = solution.economy.economy
    state = np.array([k]), np.zeros(1)
    now = play(economy, *state, *solution.actions(*state))
    share = now.g / (now.y + (1.0 - core.delta) * k)
    Y = k**core.alpha * LABOUR ** (1.0 - core.alpha)
    kept = (1.0 - share) * Y - share * (1.0 - core.delta) * k
    return np.asarray(
        core.b * now.c * LABOUR / (1.0 - LABOUR) - economy.retention * (1.0 - core.alpha) * kept
    )


def test_the_solution_is_the_better_of_two_equilibria_of_the_period(
    default: FiscalSolution,
) -> None:
    f = labour_excess(default, default.rest.k)
    roots = LABOUR[:-1][np.diff(np.sign(f)) != 0.0]
    assert len(roots) == 2
    assert roots[1] == pytest.approx(default.rest.l, abs=2e-5)
    assert roots[0] < 0.2 * roots[1]


def test_rich_states_and_costly_public_goods_have_no_interior_equilibrium(
    default: FiscalSolution, mild: FiscalSolution
) -> None:
    assert mild.capital_range[1] / mild.rest.k > 3.0
    assert 1.2 < default.capital_range[1] / default.rest.k < 1.6
    assert default.capital_range[0] < 0.3 * default.rest.k
    at = states(default)
    # What lies beyond is unreached.
    k_next = play(DEFAULT, *at, *default.actions(*at)).k_next
    assert k_next.max() < default.capital_range[1]
    low = [labour_excess(default, multiple * default.rest.k).min() for multiple in (0.5, 1.0, 1.3)]
    assert low[0] < low[1] < low[2] < 0.0  # on the way to where there is no root
    with pytest.raises(ConvergenceError):
        solve(FiscalEconomy(theta=1.0))
