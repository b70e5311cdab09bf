"""The certificate of the Krusell-Smith economy.

What it clears, what it must see through, and who plays which policy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.answer_key import Metric
from rl_markets.envs.krusell_smith import solution as known
from rl_markets.envs.krusell_smith.answer import panel
from rl_markets.envs.krusell_smith.answer.key import (
    CAPITAL_LIMIT,
    GAIN_LIMIT,
    LAW_LIMIT,
    POLICY_LIMIT,
    KrusellSmithAnswer,
)
from rl_markets.envs.krusell_smith.answer.panel import Panel, SharePolicy
from rl_markets.envs.krusell_smith.market import KrusellSmith
from rl_markets.envs.krusell_smith.parameters import KrusellSmithParameters
from rl_markets.envs.market import PolicyFunction

Array = NDArray[np.float64]


# -- the answer key --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key() -> KrusellSmithAnswer:
    answer = KrusellSmithAnswer(KrusellSmithParameters())
    assert answer.solution.den_haan_max < 0.5
    return answer


@pytest.fixture(scope="module")
def unsorted() -> KrusellSmithAnswer:
    """Types in an order of their own, solved on coarse grids."""
    p = KrusellSmithParameters(households=60, capital_productivity=[1.02, 0.98, 1.0])
    answer = KrusellSmithAnswer(p)
    grids = known.Grids.build(answer.economy, own=80, effective=7, histogram=300)
    answer.__dict__["solution"] = known.solve(
        answer.economy, grids=grids, periods=400, final_periods=800
    )
    return answer


@pytest.fixture
def short_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HOUSEHOLDS", 500), ("BURN_IN", 300), ("PERIODS", 400)):
        monkeypatch.setattr(panel, name, value)


def as_policy(key: KrusellSmithAnswer, share: SharePolicy) -> PolicyFunction:
    """A rule of states as a policy of observations.

    These are turned back by the docstring's formulas.
    """
    kappa = np.asarray(key.parameters.capital_productivity)
    deviation = kappa - kappa.mean()
    kinds = deviation / max(np.abs(deviation).max(), 1e-6)

    def policy(obs: Tensor) -> Tensor:
        x = obs.double().numpy()
        K = np.exp(2 * x[..., 1])
        k = np.maximum((np.exp(x[..., 0]) - 0.02) * K, 0.0)
        z = (x[..., 2] < 0).astype(np.int64)
        e = (x[..., 3] < 0.5).astype(np.int64)
        kind = np.abs(x[..., 4, None] - kinds).argmin(-1)
        return torch.from_numpy(share(k, K, z, e, kind)).float()[..., None]

    return policy


def judged(
    key: KrusellSmithAnswer, rule: SharePolicy, seed: int = 0
) -> tuple[Panel, float, dict[str, Metric]]:
    """A rule's panel, its exact best-response gain in %, and its metrics of the panel."""
    path = panel.simulate(
        key.parameters, rule, key.solution.mean_effective_capital, [seed, seed + 1]
    )
    metrics = [
        *key._policy_errors(rule, {}),
        *key._capital(path, {}),
        *key._law(path, {}),
        *key._inequality(path, {}),
    ]
    return path, float(key._gains(rule, path, [seed])[0, 0]), {m.name: m for m in metrics}


@pytest.mark.usefixtures("short_panel")
def test_the_exact_policy_is_certified(key: KrusellSmithAnswer) -> None:
    assert key.errors(key.exact).max() == 0.0
    path, gain, metrics = judged(key, key.exact)
    assert abs(gain) < 1e-3
    failed = {name: metric.value for name, metric in metrics.items() if metric.passed is False}
    assert not failed
    assert path.K.mean() == pytest.approx(key.solution.mean_effective_capital, rel=0.015)
    assert path.gini.mean() == pytest.approx(key.solution.gini, abs=0.02)
    assert path.K.shape == path.z.shape == (400, 2)
    assert path.capital.shape == (8, 2, 500)


def test_an_exact_policy_of_observations_is_at_no_distance(key: KrusellSmithAnswer) -> None:
    """What the answer key shows a policy is what the market does, to single precision."""
    policy = as_policy(key, key.exact)
    assert key.distance({"households": policy}) < 1e-3
    assert key.errors(key.share_policy(policy)).max() < 0.02
    share = key.share_policy(policy)
    market = KrusellSmith(KrusellSmithParameters(households=50), worlds=3)
    obs = market.reset(8)["households"]
    k, e = (market.state[name].double().numpy() for name in ("capital", "unemployed"))
    K = market.effective_capital(market.state).double().numpy()
    z = market.state["aggregate"].numpy()
    np.testing.assert_allclose(share(k, K, z, e, 0), policy(obs)[..., 0].numpy(), rtol=1e-5)


@pytest.mark.usefixtures("short_panel")
def test_a_constant_share_is_flagged(key: KrusellSmithAnswer) -> None:
    """It keeps the answer's capital.

    So only policy errors, inequality and best response see it.
    """
    path, gain, metrics = judged(key, key._constant_share())
    error = metrics["policy_error/consumption_share"]
    assert error.value > POLICY_LIMIT
    assert error.passed is False
    assert gain > GAIN_LIMIT
    assert metrics["capital_error"].passed is True
    assert path.K.mean() == pytest.approx(key.solution.mean_effective_capital, rel=0.02)


@pytest.mark.usefixtures("short_panel")
def test_a_high_r2_does_not_clear_an_economy_with_too_much_capital(key: KrusellSmithAnswer) -> None:
    """Everybody consumes 15 % too little.

    The law of motion fits as well as it can, and the economy is wrong.
    """

    def oversaves(k: Any, K: Any, z: Any, e: Any, kind: Any) -> Array:
        return 0.85 * key.exact(k, K, z, e, kind)

    path, gain, metrics = judged(key, oversaves)
    law = known.law_of_motion(path.K, path.z)
    assert min(law.r2) > 0.995
    assert metrics["law/unexplained"].value < LAW_LIMIT
    assert metrics["law/unexplained"].passed is True, "this line alone would pass it"
    assert path.K.mean() > 1.5 * key.solution.mean_effective_capital
    assert metrics["capital_error"].value > CAPITAL_LIMIT
    assert metrics["capital_error"].passed is False
    assert gain > GAIN_LIMIT


@pytest.mark.usefixtures("short_panel")
def test_small_errors_of_saving_are_flagged_too(key: KrusellSmithAnswer) -> None:
    """2 % too little consumed adds up in capital and is worth a deviation.

    It is below the policy's own limit.
    """

    def thrifty(*state: Any) -> Array:
        return 0.98 * key.exact(*state)

    _, gain, metrics = judged(key, thrifty)
    assert metrics["policy_error/consumption_share"].value == pytest.approx(2.0, abs=1e-9)
    assert metrics["capital_error"].passed is False
    assert gain > GAIN_LIMIT


def test_the_poor_and_the_jobless_consume_more_of_a_windfall(key: KrusellSmithAnswer) -> None:
    """The exact propensities fall in wealth.

    Those of a constant share do not, and are not the answer's.
    """
    k = key.solution.mean_capital * np.array([0.01, 0.1, 0.5, 1.0, 3.0])
    for e in range(2):
        exact = key.propensities(key.exact, k, e)
        assert np.all(np.diff(exact) < 0)
        assert exact[0] > 3 * exact[3]
        flat = key.propensities(key._constant_share(), k, e)
        assert np.ptp(flat) < 1e-9


# -- who plays which policy ------------------------------------------------------------------------


def test_types_in_any_order_meet_their_own_answer(unsorted: KrusellSmithAnswer) -> None:
    """kappa = 1.02 is the first type of the experiment, and the last of the answer."""
    assert unsorted.kinds == [0.98, 1.0, 1.02]
    assert unsorted.economy.kappa == (0.98, 1.0, 1.02)
    assert unsorted._sorted(np.arange(3)).tolist() == [2, 0, 1]
    K = unsorted.solution.mean_effective_capital
    for kind, place in enumerate((2, 0, 1)):
        mine = unsorted.exact(K, K, 0, 0, np.asarray(kind))
        assert mine == unsorted.solution.share(
            K, K, np.asarray(0), np.asarray(0), np.asarray(place)
        )
    capital = unsorted.solution.mean_capital_by_type
    assert capital[0] < capital[1] < capital[2], "the more productive hold more"
    policy = as_policy(unsorted, unsorted.exact)
    assert unsorted.distance({"households": policy}) < 1e-3

    def mistaken(k: Any, K: Any, z: Any, e: Any, kind: Any) -> Array:
        return unsorted.exact(k, K, z, e, (np.asarray(kind) + 1) % 3)

    assert unsorted.distance({"households": as_policy(unsorted, mistaken)}) > 0.5


def test_held_out_states_are_those_of_each_type_in_the_long_run(
    unsorted: KrusellSmithAnswer,
) -> None:
    (k, _, _, e, kinds), weights = unsorted.held_out
    assert weights.sum() == pytest.approx(1.0)
    medians = [np.median(k[kinds == kind]) for kind in range(3)]
    assert medians[1] < medians[2] < medians[0]
    assert weights[e == 1].sum() == pytest.approx(0.07, abs=1e-6)


@pytest.mark.usefixtures("short_panel")
def test_a_panel_of_types_reports_each_types_capital(
    unsorted: KrusellSmithAnswer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panel, "HOUSEHOLDS", 302)
    path = panel.simulate(
        unsorted.parameters, unsorted.exact, unsorted.solution.mean_effective_capital, [0, 1]
    )
    assert path.capital.shape[2] == 300
    metrics = {m.name: m for m in unsorted._inequality(path, {})}
    exact = dict(zip((0.98, 1.0, 1.02), unsorted.solution.mean_capital_by_type, strict=True))
    for kappa, place in ((1.02, 0), (0.98, 1), (1.0, 2)):
        line = metrics[f"capital/kappa={kappa:g}"]
        assert line.answer == exact[kappa]
        assert line.value == pytest.approx(path.capital[..., place::3].mean())
    assert metrics["capital/kappa=1.02"].value > metrics["capital/kappa=0.98"].value


def _seated(market: KrusellSmithAnswer) -> PolicyFunction:
    """Household i consumes .1 + i / 1000, whatever it sees."""

    def policy(obs: Tensor) -> Tensor:
        assert obs.shape[-2] == market.parameters.households, "separate policies need every seat"
        return (0.1 + 0.001 * torch.arange(obs.shape[-2])).expand(obs.shape[:-1])[..., None]

    return policy


@pytest.mark.parametrize("types", [[1.0], [1.02, 0.98, 1.0]])
def test_separate_policies_are_met_seat_by_seat(types: list[float]) -> None:
    answer = KrusellSmithAnswer(KrusellSmithParameters(households=12, capital_productivity=types))
    policy = _seated(answer)
    assert answer.separate(policy)
    share = answer.share_policy(policy)
    rows = 10 * 12 * len(types)
    kinds = len(types)
    kind = np.repeat(np.arange(kinds), rows // kinds)  # as held-out states lie
    consumed = share(np.full(rows, 10.0), 10.0, 0, 0, kind)
    seats = np.rint((consumed - 0.1) * 1000).astype(int)
    assert np.array_equal(seats % kinds, kind), "a type's states are met by households of that type"
    assert np.bincount(seats, minlength=12).tolist() == [10 * kinds] * 12, "each of them as often"


def test_a_shared_policy_is_not_separate() -> None:
    answer = KrusellSmithAnswer(KrusellSmithParameters(households=12))
    network = torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1), torch.nn.Sigmoid()
    )
    policy = torch.no_grad()(network)
    assert not answer.separate(policy)
    k = np.array([[1.0, 5.0], [10.0, 20.0]])
    consumed = answer.share_policy(policy)(k, np.array([[8.0], [12.0]]), 0, np.array([0, 1]), 0)
    assert consumed.shape == (2, 2)
    obs = answer._observer.features(
        torch.tensor(20.0),
        torch.tensor(12.0),
        torch.tensor(0.0),
        torch.tensor(1.0),
        torch.tensor(0),
    )
    assert consumed[1, 1] == pytest.approx(float(policy(obs)), rel=1e-5)


@pytest.mark.usefixtures("short_panel")
def test_gains_are_each_types_own_in_any_order_of_the_list(unsorted: KrusellSmithAnswer) -> None:
    """The exact policy leaves nothing to any type.

    One type's mistake is that type's gain, though it is listed first.
    """
    start = unsorted.solution.mean_effective_capital
    path = panel.simulate(unsorted.parameters, unsorted.exact, start, [0])
    assert np.abs(unsorted._gains(unsorted.exact, path, [0, 1])).max() < 0.02

    def mistaken(k: Any, K: Any, z: Any, e: Any, kind: Any) -> Array:
        return unsorted.exact(k, K, z, e, kind) * np.where(np.asarray(kind) == 0, 1.3, 1.0)

    gains = unsorted._gains(mistaken, path, [0, 1]).mean(0)
    assert gains[2] > 0.2, "kappa = 1.02, the first of the list, is the answer's last"
    assert np.abs(gains[:2]).max() < 0.02


def test_repeated_and_many_types_are_told_apart_or_taken_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = KrusellSmithAnswer(
        KrusellSmithParameters(households=150, capital_productivity=[1.0, 1.0, 1.02])
    )
    monkeypatch.setattr(panel, "BURN_IN", 50)
    monkeypatch.setattr(panel, "PERIODS", 320)
    path = panel.simulate(
        answer.parameters, answer.exact, answer.solution.mean_effective_capital, [0]
    )
    assert answer._gains(answer.exact, path, [0]).shape == (1, 2)
    monkeypatch.setattr("rl_markets.envs.krusell_smith.answer.key.KINDS_APART", 1)
    assert answer._gains(answer.exact, path, [0]).shape == (1, 1)
