"""Two sellers that learn prices, and what tells collusion apart.

They collude where they care for tomorrow, and do not where they are myopic.
"""

from __future__ import annotations

import numpy as np
import pytest

from examples.exploration import collusion
from examples.exploration.collusion import Duopoly, Sessions, calvano, logit_duopoly, monitor

NASH_PRICE = 1.472927
MONOPOLY_PRICE = 1.924981


@pytest.fixture(scope="module")
def duopoly() -> Duopoly:
    return logit_duopoly(NASH_PRICE, MONOPOLY_PRICE)


def slow_advance(running, forced, profits, alpha, discount):  # type: ignore[no-untyped-def]
    """The learners one session, period and seller at a time."""
    values = running.values
    greedy = running.greedy
    state = running.state
    stable = running.stable
    m = values.shape[3]
    for b in range(len(state)):
        for t in range(len(forced)):
            s = state[b]
            prices = [
                int(f) if f >= 0 else int(greedy[b, i, s]) for i, f in enumerate(forced[t, b])
            ]
            then = prices[0] * m + prices[1]
            changed = False
            for i in range(2):
                old = values[b, i, s, prices[i]]
                target = values[b, i, then].max() * discount + profits[then, i]
                values[b, i, s, prices[i]] = (target - old) * alpha + old
                chosen = values[b, i, s].argmax()
                changed = changed or chosen != greedy[b, i, s]
                greedy[b, i, s] = chosen
            stable[b] = 0 if changed else stable[b] + 1
            state[b] = then


def test_sessions_side_by_side_are_sessions_one_by_one(
    duopoly: Duopoly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bits, from exploring much to hardly.

    With sessions that end early, converged or not.
    """
    arguments = {"sessions": 5, "beta": 1e-3, "patience": 3000, "limit": 24_500, "seed": 3}
    fast = calvano(duopoly, **arguments)
    monkeypatch.setattr(collusion, "_advance", slow_advance)
    slow = calvano(duopoly, **arguments)
    np.testing.assert_array_equal(fast.gains, slow.gains)
    np.testing.assert_array_equal(fast.periods, slow.periods)
    np.testing.assert_array_equal(fast.converged, slow.converged)
    assert len(set(fast.periods.tolist())) > 1


def report(name: str, sessions: Sessions) -> None:
    alarm = monitor(sessions.gains)
    print(
        f"{name}: Delta {alarm.mean:.3f} [{alarm.low:.3f}, {alarm.high:.3f}], sd "
        f"{sessions.gains.std():.3f}, "
        f"{sessions.converged.mean():.0%} of {len(sessions.gains)} converged after "
        f"{sessions.periods.mean():.0f} periods"
    )


@pytest.mark.slow
def test_patient_learners_collude_and_the_flag_goes_up(duopoly: Duopoly) -> None:
    sessions = calvano(duopoly, sessions=50, beta=4e-6)
    report("patient", sessions)
    assert sessions.converged.all()
    assert 0.78 <= sessions.gains.mean() <= 0.92
    assert monitor(sessions.gains).raised


@pytest.mark.slow
def test_myopic_learners_do_not_and_it_stays_down(duopoly: Duopoly) -> None:
    """The negative control.

    Its exploration dies out five times as fast, which hardly matters to it.
    """
    sessions = calvano(duopoly, sessions=30, beta=2e-5, discount=0.0)
    report("myopic", sessions)
    assert sessions.converged.all()
    assert sessions.gains.mean() <= 0.30
    assert not monitor(sessions.gains).raised


def test_the_duopoly_is_the_published_one(duopoly: Duopoly) -> None:
    assert duopoly.nash == pytest.approx(0.222927, abs=1e-6)
    assert duopoly.monopoly == pytest.approx(0.337490, abs=1e-6)
    beyond = 0.1 * (MONOPOLY_PRICE - NASH_PRICE)
    np.testing.assert_allclose(
        duopoly.prices[[0, -1]], [NASH_PRICE - beyond, MONOPOLY_PRICE + beyond]
    )
    assert duopoly.profits.shape == (15, 15)
    shares = np.exp((2 - np.array([1.6, 1.5])) / 0.25)
    one = logit_duopoly(1.5, 1.6, m=2, xi=0.0)
    assert one.profits[1, 0] == pytest.approx(0.6 * shares[0] / (1 + shares.sum()))


def test_nash_is_the_best_response_to_itself() -> None:
    fine = logit_duopoly(NASH_PRICE, MONOPOLY_PRICE, m=2001, xi=0.5)
    rival = int(np.abs(fine.prices - NASH_PRICE).argmin())
    assert fine.prices[fine.profits[:, rival].argmax()] == pytest.approx(NASH_PRICE, abs=5e-4)
    assert fine.prices[np.diag(fine.profits).argmax()] == pytest.approx(MONOPOLY_PRICE, abs=5e-4)


def test_a_session_that_reaches_its_limit_has_not_converged(duopoly: Duopoly) -> None:
    sessions = calvano(duopoly, sessions=3, limit=1500)
    assert not sessions.converged.any()
    assert sessions.periods.tolist() == [1500] * 3
    assert np.isfinite(sessions.gains).all()


def test_exploration_may_die_out_at_once(duopoly: Duopoly) -> None:
    sessions = calvano(duopoly, sessions=2, beta=10.0, patience=1000, limit=20_000)
    assert sessions.converged.all()


def test_sessions_repeat(duopoly: Duopoly) -> None:
    first, again, other = (
        calvano(duopoly, sessions=3, beta=2e-3, limit=9500, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.gains, again.gains)
    assert not np.array_equal(first.gains, other.gains)


def test_exploration_has_the_rate_and_every_price() -> None:
    forced = collusion._explored(np.random.default_rng(0), np.full(20_000, 0.25), 3, 5)
    assert np.mean(forced >= 0) == pytest.approx(0.25, abs=0.005)
    np.testing.assert_allclose(
        np.bincount(forced[forced >= 0], minlength=5) / (forced >= 0).sum(), 0.2, atol=0.01
    )


def test_the_monitor_has_its_interval() -> None:
    alarm = monitor([0.5, 0.6, 0.7, 0.8])
    assert alarm.mean == pytest.approx(0.65)
    assert alarm.high - alarm.mean == pytest.approx(3.182446 * 0.1290994 / 2, rel=1e-5)
    assert alarm.raised
    assert not monitor([0.5, 0.6, 0.7, 0.8], threshold=0.6).raised
    assert not monitor([-5.0, 6.0]).raised, "two sessions that say nothing"


def test_the_monitor_seldom_raises_a_false_alarm() -> None:
    """At a true mean on the threshold, one in forty."""
    rng = np.random.default_rng(0)
    raised = [monitor(rng.normal(0.3, 0.1, 30)).raised for _ in range(2000)]
    assert np.mean(raised) == pytest.approx(0.025, abs=0.01)


def test_errors(duopoly: Duopoly) -> None:
    with pytest.raises(ValueError, match="alpha is 0, expected a positive number"):
        calvano(duopoly, alpha=0)
    with pytest.raises(ValueError, match="expected at most 1 and a number in"):
        calvano(duopoly, discount=1.0)
    with pytest.raises(ValueError, match="expected more than nash_price"):
        logit_duopoly(1.9, 1.4)
    with pytest.raises(ValueError, match="at least two finite numbers"):
        monitor([0.5])
    with pytest.raises(ValueError, match="confidence is 1"):
        monitor([0.5, 0.6], confidence=1.0)
