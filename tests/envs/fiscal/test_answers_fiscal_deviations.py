"""The fiscal economy's solution against brute force: nobody gains by a deviation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rl_markets.envs.fiscal.solution import (
    FiscalEconomy,
    FiscalSolution,
    TaxPolicy,
    government_gain,
    play,
    rest_at,
    solve,
)
from tests.support.fiscal_economies import DEFAULT, MILD, STILL, FloatArray, Market

# -- brute force -----------------------------------------------------------------------------------


def welfare(
    economy: FiscalEconomy,
    solution: FiscalSolution,
    k0: FloatArray,
    shocks: FloatArray,
    first: FloatArray,
) -> FloatArray:
    """The government's discounted utility from `k0` [paths] and z = 0, by simulation.

    In each period the households see the state and do what the rules say; they learn of a deviation
    from the capital it leaves.

    Args:
        shocks: [periods, paths].
        first: [some periods, paths] factors by which its tax differs from the rules in the first
            periods.
    """
    core = economy.economy
    k = k0.astype(float)
    z = np.zeros(shocks.shape[1])
    total = np.zeros_like(z)
    for t, shock in enumerate(shocks):
        chat, labour, tau = solution.actions(k, z)
        tau = tau * first[t] if t < len(first) else tau
        Y = np.exp(z) * k**core.alpha * labour ** (1.0 - core.alpha)
        wealth = (1.0 - tau) * Y + (1.0 - core.delta) * k
        household = np.log(chat * wealth) + core.b * np.log(1.0 - labour)
        total += core.beta**t * (household + economy.theta * np.log(tau * Y))
        k = (1.0 - chat) * wealth
        z = core.rho * z + core.sigma * shock
    return total


def test_the_government_gains_by_no_deviation(still: FiscalSolution) -> None:
    """One wrong tax, or five, and the rules for ever after, is worse.

    The loss is as the square of the error.
    """
    rng = np.random.default_rng(1)
    factors = np.array([1.0, 0.3, 0.7, 0.9, 0.99, 0.999, 1.001, 1.01, 1.1, 1.5, 2.5])
    once = np.vstack([factors, np.ones((4, len(factors)))])
    first = np.hstack([once, np.exp(rng.normal(0.0, 0.1, (5, 40)))])
    for multiple in (0.5, 1.0, 1.8):
        k0 = np.full(first.shape[1], multiple * still.rest.k)
        utility = welfare(STILL, still, k0, np.zeros((700, first.shape[1])), first)
        gains = utility[1:] - utility[0]
        assert gains.max() < -1e-8
        # A tenth of the error, a hundredth of the loss.
        assert gains[4:6] == pytest.approx(gains[3:7:3] / 100.0, rel=0.05)
        assert utility[0] == pytest.approx(still.value(multiple * still.rest.k, 0.0), abs=1e-4)


def test_the_value_is_what_simulations_with_shocks_give(default: FiscalSolution) -> None:
    half = np.random.default_rng(2).standard_normal((350, 1000))
    shocks = np.hstack([half, -half])
    for multiple in (0.7, 1.1):
        k0 = np.full(2000, multiple * default.rest.k)
        utility = welfare(DEFAULT, default, k0, shocks, np.empty((0, 2000)))
        pairs = 0.5 * (utility[:1000] + utility[1000:])
        error = pairs.std() / np.sqrt(1000)
        assert error < 2e-3
        value = default.value(multiple * default.rest.k, 0.0)
        assert abs(pairs.mean() - value) < 4.0 * error + 1e-5


def lifetime(
    market: Market, solution: FiscalSolution, k0: float, dk: FloatArray, dl: FloatArray
) -> FloatArray:
    """Utility [...] of one household with k_t + dk_t and l_t + dl_t over T periods without shocks.

    The others' capital and work and the tax are those of the rules.

    Args:
        dk: [..., T-1] of capital after the first period; it ends with everybody else's.
        dl: [..., T].
    """
    core = market.economy.economy
    periods = dl.shape[-1]
    K = np.full(periods + 1, k0)
    zero = np.zeros(1)
    L = np.empty(periods)
    tau = np.empty(periods)
    for t in range(periods):
        chat, L[t], tau[t] = (float(x[0]) for x in solution.actions(K[t : t + 1], zero))
        Y = K[t] ** core.alpha * L[t] ** (1.0 - core.alpha)
        K[t + 1] = (1.0 - chat) * ((1.0 - tau[t]) * Y + (1.0 - core.delta) * K[t])
    fixed = np.zeros((*dk.shape[:-1], 1))  # capital at the start and in the end
    k = K + np.concatenate([fixed, dk, fixed], axis=-1)
    labour = L + dl
    income = market.net_income(K[:-1], L, np.zeros(periods), tau, k[..., :-1], labour)
    c = income + (1.0 - core.delta) * k[..., :-1] - k[..., 1:]
    return np.asarray((np.log(c) + core.b * np.log(1.0 - labour)) @ core.beta ** np.arange(periods))


def slopes(market: Market, solution: FiscalSolution, k0: float, periods: int = 12) -> FloatArray:
    """Marginal utility of capital [T-1] and labour [T] in each period, by central differences."""
    steps = 1e-5 * np.eye(2 * periods - 1)
    up, down = (
        lifetime(market, solution, k0, s * steps[:, : periods - 1], s * steps[:, periods - 1 :])
        for s in (1, -1)
    )
    return np.asarray((up - down) / 2e-5)


@pytest.mark.parametrize("price_taking", [True, False])
def test_no_household_gains_by_any_deviation(price_taking: bool) -> None:
    economy = replace(STILL, households=4, conduct="price-taking" if price_taking else "strategic")
    solution = solve(economy)
    market = Market(economy, 4, price_taking)
    rng = np.random.default_rng(3)
    k0 = 0.6 * rest_at(economy, 0.1).k
    assert np.abs(slopes(market, solution, k0)).max() < 2e-5
    stay = lifetime(market, solution, k0, np.zeros(11), np.zeros(12))
    for size in (0.003, 0.03):
        dk = size * k0 * rng.normal(size=(300, 11))
        dl = 0.3 * size * rng.normal(size=(300, 12))
        assert (lifetime(market, solution, k0, dk, dl) - stay).max() < 0.0
    # Who knows its weight would do more than a price taker does, and a price taker less than who
    # knows its weight.
    stranger = slopes(Market(economy, 4, not price_taking), solution, k0)
    assert np.all(stranger > 1e-3 if price_taking else stranger < -1e-3)


def test_no_household_gains_on_average_over_shocks(mild: FiscalSolution) -> None:
    """Two periods: save and work differently, whatever the shock, then back among the others."""
    core = MILD.economy
    market = Market(MILD, 1, True)
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    weights = weights / weights.sum()

    def utility(k0: float, z0: float, dk: float, dl: float, dl_later: float) -> float:
        state = np.array([k0]), np.array([z0])
        chat, labour, tau = mild.actions(*state)
        now = play(MILD, *state, chat, labour, tau)
        K = np.full(15, now.k_next[0])
        z = core.rho * z0 + core.sigma * nodes
        chat, L, rate = mild.actions(K, z)
        K_end = play(MILD, K, z, chat, L, rate).k_next
        income = market.net_income(state[0], labour, state[1], tau, state[0], labour + dl)
        c = income + (1.0 - core.delta) * state[0] - K[0] - dk
        income_later = market.net_income(K, L, z, rate, K + dk, L + dl_later)
        c_later = income_later + (1.0 - core.delta) * (K + dk) - K_end
        first = np.log(c[0]) + core.b * np.log(1.0 - labour[0] - dl)
        later = np.log(c_later) + core.b * np.log(1.0 - L - dl_later)
        return float(first + core.beta * weights @ later)

    for multiple in (0.4, 1.0, 2.5):
        for z0, step in ((-0.05, 1e-5), (0.05, 1e-5)):
            at = multiple * mild.rest.k, z0
            for move in np.eye(3) * step:
                assert abs(utility(*at, *move) - utility(*at, *-move)) / (2.0 * step) < 2e-6
                stay = utility(*at, 0.0, 0.0, 0.0)
                assert max(utility(*at, *(100.0 * s * move)) for s in (1, -1)) < stay


# -- what the government could gain ----------------------------------------------------------------


def scaled(solution: FiscalSolution, factor: float) -> TaxPolicy:
    return lambda k, z: factor * solution.tax(k, z)


def test_the_governments_gain_is_none_at_the_solution_and_some_at_a_wrong_tax(
    default: FiscalSolution,
) -> None:
    k = default.rest.k * np.array([0.4, 0.8, 1.0, 1.2])
    z = np.array([-0.05, 0.0, 0.03, 0.05])
    none = government_gain(DEFAULT, default.household, default.tax, k, z, capital_range=(0.3, 1.25))
    assert np.abs(none).max() < 1e-6
    for factor in (0.9, 1.1):
        some = government_gain(DEFAULT, default.household, scaled(default, factor), k, z)
        assert np.all((some > 0.02) & (some < 0.05))


def test_the_governments_gain_is_that_of_the_best_simulated_tax(still: FiscalSolution) -> None:
    """Against a tax that is 20% too high, returning to the rules gains as much.

    For the rules are the best response.
    """
    periods = 700
    k0 = np.array([0.6, 1.0]) * still.rest.k
    wrong = welfare(STILL, still, k0, np.zeros((periods, 2)), np.full((periods, 2), 1.2))
    right = welfare(STILL, still, k0, np.zeros((periods, 2)), np.empty((0, 2)))
    gain = government_gain(STILL, still.household, scaled(still, 1.2), k0, 0.0)
    assert gain == pytest.approx(right - wrong, abs=1e-4)
