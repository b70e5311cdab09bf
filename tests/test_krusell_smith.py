"""The Krusell-Smith economy as a market: its accounts, its shocks, its gradients, and the certificate that must see through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from rl_markets.envs.answers import krusell_smith as known
from rl_markets.envs.krusell_smith import panel
from rl_markets.envs.krusell_smith.answer import CAPITAL_LIMIT, GAIN_LIMIT, LAW_LIMIT, POLICY_LIMIT, KrusellSmithAnswer
from rl_markets.envs.krusell_smith.market import KrusellSmith
from rl_markets.envs.krusell_smith.panel import Panel, SharePolicy
from rl_markets.envs.krusell_smith.parameters import KrusellSmithParameters
from rl_markets.envs.market import Metric, Policy, State
from rl_markets.experiment import load
from rl_markets.experiment_errors import ExperimentError

Array = NDArray[np.float64]

UNEMPLOYMENT = np.array([0.04, 0.10])
KAPPAS = (0.8, 1.0, 1.2)


def economy(worlds: int = 4, dtype: torch.dtype = torch.float32, **parameters: Any) -> KrusellSmith:
    return KrusellSmith(KrusellSmithParameters(**parameters), worlds=worlds, dtype=dtype)


def shares(market: KrusellSmith, seed: int = 0) -> dict[str, Tensor]:
    drawn = torch.rand((market.worlds, market.parameters.households, 1), generator=torch.Generator().manual_seed(seed))
    return {"households": 0.05 + 0.9 * drawn.to(market.dtype)}


def shocks(market: KrusellSmith, periods: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A path of z `[T, worlds]` and of who is unemployed `[T, worlds, households]`; no capital moves."""
    generator = torch.Generator().manual_seed(seed)
    state = market.employment.initial(market.worlds, generator)
    z, jobless = [], []
    for _ in range(periods):
        z.append(state["aggregate"][:, 0].numpy())
        jobless.append(state["unemployed"].numpy().astype(np.int64))
        state = market.employment.advance(state, market.draw_noise(generator))
    return np.stack(z), np.stack(jobless)


# -- accounts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 50, 400])
def test_income_exhausts_output_and_what_is_not_consumed_is_kept(n: int) -> None:
    """mean(r_i k_i + w h_i) = Y and c + k' = a, by the equations written out anew; random productivities of capital."""
    rng = np.random.default_rng(n)
    kappa = rng.uniform(0.5, 1.5, n)
    market = economy(250, torch.float64, households=n, capital_productivity=kappa.tolist(), initial_dispersion=1.5)
    generator = torch.Generator().manual_seed(n)
    state, p = market.initial_state(250, generator), market.parameters
    actions = shares(market)
    moved = market.transition(state, actions, market.draw_noise(generator))
    k, z, e = (state[name].numpy() for name in ("capital", "aggregate", "unemployed"))
    hours = 1.11 * (1 - e)
    K, L = (kappa * k).mean(1), hours.mean(1)
    producing = L > 0  # one household may be the only one and without a job
    assert producing.sum() > 200
    k, hours, K, L = (x[producing] for x in (k, hours, K, L))
    A = np.array([1.01, 0.99])[z[producing, 0]]
    Y = A * K**p.alpha * L ** (1 - p.alpha)
    r = p.alpha * (Y / K)[:, None] * kappa
    w = (1 - p.alpha) * (Y / L)[:, None]
    np.testing.assert_allclose((r * k + w * hours).mean(1), Y, rtol=1e-12)
    a = w * hours + (1 - p.delta + r) * k
    np.testing.assert_allclose(market.wealth(state).numpy()[producing], a, rtol=1e-12)
    c = actions["households"].numpy()[producing, :, 0] * a
    np.testing.assert_allclose(c + moved.state["capital"].numpy()[producing], a, rtol=1e-12)
    np.testing.assert_allclose(moved.rewards["households"].numpy()[producing], np.log(c), rtol=1e-11, atol=1e-11)
    effective_income = (market.wealth(state).numpy()[producing] - (1 - p.delta) * k).mean(1)
    np.testing.assert_allclose(effective_income, Y, rtol=1e-12)


def test_without_a_single_worker_rewards_are_finite() -> None:
    """One household may be the whole economy, and lose its job."""
    market = economy(64, households=1)
    market.reset(0)
    jobless = 0.0
    for t in range(50):
        step = market.step(shares(market, t))
        jobless += float(market.state["unemployed"].sum())
        assert bool(torch.isfinite(step.rewards["households"]).all())
        assert bool(torch.isfinite(step.observations["households"]).all())
    assert jobless > 0


@pytest.mark.parametrize("n", [3, 60])
def test_initial_capital_is_where_it_is_said_to_be(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    market = economy(2000, torch.float64, households=n, initial_capital=[3.0, 30.0], initial_dispersion=1.0)
    k = market.initial_state(2000, generator)["capital"]
    mean = k.mean(-1).numpy()
    assert 3.0 * (1 - 1e-12) <= mean.min() < 3.1
    assert 29.0 < mean.max() <= 30.0 * (1 + 1e-12)
    assert np.log(mean).mean() == pytest.approx(np.log(90.0) / 2, abs=5 * np.log(10) / np.sqrt(12 * 2000))
    assert bool((k.std(-1) > 0).all())
    equal = economy(50, torch.float64, households=n, initial_dispersion=0.0)
    k = equal.initial_state(50, generator)["capital"]
    assert torch.equal(k, k[:, :1].expand_as(k))
    assert len(k[:, 0].unique()) == 50


# -- shocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 20, 2000])
def test_the_aggregate_state_is_drawn_once_for_all_households(n: int) -> None:
    """It switches as often whatever the number of households: no majority of their draws decides."""
    worlds, periods = (2000, 40) if n <= 20 else (150, 60)
    market = economy(worlds, households=n)
    generator = torch.Generator().manual_seed(n)
    state = market.employment.initial(worlds, generator)
    z = [state["aggregate"][:, 0].numpy()]
    for _ in range(periods):
        state = market.employment.advance(state, market.draw_noise(generator))
        z.append(state["aggregate"][:, 0].numpy())
    path = np.stack(z)
    switches = path[1:] != path[:-1]
    assert switches.mean() == pytest.approx(0.125, abs=0.01)
    for now in range(2):
        assert (~switches)[path[:-1] == now].mean() == pytest.approx(0.875, abs=0.015)
    assert path.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("n", "worlds", "periods"), [(50, 200, 60), (100, 50, 40), (10_000, 4, 20)])
def test_the_head_count_is_exact_in_every_period(n: int, worlds: int, periods: int) -> None:
    z, jobless = shocks(economy(worlds, households=n), periods, seed=1)
    expected = np.array([n // 25, n // 10])
    assert np.array_equal(jobless.sum(-1), expected[z])
    assert {*jobless.ravel()} == {0, 1}
    assert 0.2 < z.mean() < 0.8, "both states were seen"


@pytest.mark.parametrize("n", [1, 7, 20])
def test_where_the_rate_is_no_whole_number_of_heads_it_is_right_on_average(n: int) -> None:
    """.04 and .10, from the first period on; state by state, within 5 standard errors and within .002 for n = 20."""
    worlds, periods = 6000, 30
    z, jobless = shocks(economy(worlds, households=n), periods, seed=2)
    rate = jobless.mean(-1)
    for state in range(2):
        # Paths are independent, periods are not: the error is that of the worlds' means.
        by_world = np.array([(rate[:, w][z[:, w] == state]).sum() for w in range(worlds)])
        counts = (z == state).sum(0)
        gap = by_world - UNEMPLOYMENT[state] * counts
        error = gap.std() / np.sqrt(worlds)
        assert abs(gap.mean()) < 5 * error
        found = by_world.sum() / counts.sum()
        assert found == pytest.approx(UNEMPLOYMENT[state], abs=0.002 if n == 20 else 0.004)
        assert rate[0][z[0] == state].mean() == pytest.approx(UNEMPLOYMENT[state], abs=0.015)


@pytest.mark.parametrize("n", [50, 20])
def test_households_change_jobs_with_the_chances_of_the_chain(n: int) -> None:
    """P(unemployed' | e, z, z') for all eight pasts, within 5 standard errors of independent draws."""
    z, jobless = shocks(economy(1500, households=n), 40, seed=3)
    chain = np.asarray(KrusellSmithParameters().employment)
    for now in range(2):
        for then in range(2):
            worlds = (z[:-1] == now) & (z[1:] == then)
            before, after = jobless[:-1][worlds], jobless[1:][worlds]
            for e in range(2):
                moved = after[before == e]
                p = chain[now, then, e, 1]
                assert len(moved) > 1000
                assert moved.mean() == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / len(moved))), (now, then, e)


def test_every_household_loses_its_job_as_often() -> None:
    """Who is unemployed is drawn: chi-square over seats, each of which is as likely."""
    z, jobless = shocks(economy(400, households=50), 60, seed=4)
    started = (jobless[1:] > jobless[:-1]).sum((0, 1)).astype(float)
    expected = started.mean()
    chi_square = ((started - expected) ** 2 / expected).sum()
    assert chi_square < 49 + 5 * np.sqrt(2 * 49)
    assert expected > 100
    assert z.shape == (60, 400)


def trace(market: KrusellSmith, periods: int, seed: int) -> list[Tensor]:
    seen = [market.reset(seed)["households"]]
    for t in range(periods):
        step = market.step(shares(market, t))
        seen += [step.observations["households"], step.rewards["households"], market.state["aggregate"]]
    return seen


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others() -> None:
    options: dict[str, Any] = {"households": 20, "episode_length": 15, "capital_productivity": [0.9, 1.1]}
    one, two, other = (trace(economy(5, **options), 40, seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[-2], other[-2])


def test_permanent_types_stay_with_their_seats() -> None:
    market = economy(3, households=6, capital_productivity=list(KAPPAS), episode_length=7)
    market.reset(0)
    for t in range(20):
        seen = market.step(shares(market, t)).observations["households"]
        torch.testing.assert_close(seen[..., 4], torch.tensor([-1.0, 0.0, 1.0] * 2).expand(3, 6))
    assert market.kappa.tolist() == pytest.approx(list(KAPPAS) * 2)


def test_observes_what_it_says() -> None:
    market = economy(5, torch.float64, households=6, capital_productivity=list(KAPPAS))
    state = market.initial_state(5, torch.Generator().manual_seed(0))
    k, z, e = (state[name].numpy() for name in ("capital", "aggregate", "unemployed"))
    kappa = np.tile(KAPPAS, 2)
    K = (kappa * k).mean(1, keepdims=True)
    columns = [np.log(k / K + 0.02), np.log(K) / 2, 1.0 - 2.0 * z, 1 - e, (kappa - 1) / 0.2]
    expected = np.stack(np.broadcast_arrays(*columns), -1)
    np.testing.assert_allclose(market.observe(state)["households"].numpy(), expected, rtol=1e-12, atol=1e-12)
    everything = [np.log(K), 1.0 - 2.0 * z, columns[0].std(1, keepdims=True)]
    found = market.observe_globally(state).numpy()
    np.testing.assert_allclose(found, np.concatenate(everything, 1), rtol=1e-12, atol=1e-12)


# -- parameters --------------------------------------------------------------------------------------------------------

CHAIN = KrusellSmithParameters().employment


def _chain(z: int, following: int, rows: Any) -> Any:
    changed = [[[list(row) for row in block] for block in blocks] for blocks in CHAIN]
    changed[z][following] = rows
    return changed


REFUSED = {
    "rows": (
        {"employment": _chain(1, 0, [[0.9, 0.2], [0.5, 0.5]])},
        r"employment\[1\]\[0\]: expected rows that add up to 1",
    ),
    "another rate": (
        {"employment": _chain(0, 1, [[0.95, 0.05], [0.25, 0.75]])},
        r"employment\[0\]\[1\]: leads to unemployment 0.078, expected 0.1",
    ),
    "rates": ({"unemployment": [0.05, 0.10]}, r"employment\[0\]\[0\]: leads to unemployment .*, expected 0.05"),
    "all unemployed": ({"unemployment": [0.04, 1.0]}, "unemployment: expected rates below 1"),
    "probability": ({"persistence": 1.5}, "persistence"),
    "types": ({"capital_productivity": [0.9, 1.0, 1.1]}, "capital_productivity: 3 types do not divide 50 households"),
    "interval": ({"initial_capital": [5.0, 4.0]}, "initial_capital: expected low <= high"),
    "conduct": ({"conduct": "strategic"}, "conduct"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_parameters_are_refused_by_name(case: str) -> None:
    change, message = REFUSED[case]
    with pytest.raises(ValidationError, match=message):
        KrusellSmithParameters(**change)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("market.parameters.capital_productivity=[0.9, 1.0, 1.1]", "capital_productivity: 3 types do not divide 50"),
        ("market.parameters.unemployment=[0.05, 0.1]", "employment[0][0]: leads to unemployment"),
        ("market.parameters.employment=[[1, 0], [0, 1]]", "market.parameters.employment"),
        ("market.parameters.persistence=2", "market.parameters.persistence"),
    ],
)
def test_an_experiment_with_bad_parameters_is_one_line(override: str, message: str) -> None:
    from experiment_files import FILES

    path = next(file for file in FILES if file.stem == "krusell-smith")
    with pytest.raises(ExperimentError) as caught:
        load(path, [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# -- gradients ---------------------------------------------------------------------------------------------------------


def _gradients(conduct: str, reward_of: int = 0) -> tuple[Tensor, Tensor, State]:
    """Of a household's second-period reward in everybody's capital `[households]`; that reward; the state."""
    market = economy(2, torch.float64, households=4, conduct=conduct, capital_productivity=[0.9, 1.1])
    generator = torch.Generator().manual_seed(5)
    state = market.initial_state(2, generator)
    noise = [market.draw_noise(generator) for _ in range(2)]
    k = state["capital"].clone().requires_grad_()
    now = {**state, "capital": k}
    total = torch.zeros((), dtype=torch.float64)
    for t in range(2):
        seen = market.observe(now)["households"]
        share = 0.3 + 0.1 * torch.tanh(seen[..., :2].sum(-1, keepdim=True))
        moved = market.transition(now, {"households": share}, noise[t])
        total = total + 0.95**t * moved.rewards["households"][0, reward_of]
        now = moved.state
    (gradient,) = torch.autograd.grad(total, k)
    return gradient, total.detach(), now


def test_price_takers_do_not_see_that_others_capital_moves_prices() -> None:
    taking, value, state = _gradients("price-taking")
    cooperative, same, other = _gradients("cooperative")
    assert taking[0, 0] != 0
    assert torch.equal(taking[0, 1:], torch.zeros(3, dtype=torch.float64)), "exactly, not nearly"
    assert bool((cooperative[0, 1:].abs() > 1e-6).all())
    assert not cooperative[1].any(), "other worlds never move it"
    assert torch.equal(value, same), "what happens is the same"
    assert all(torch.equal(state[name], other[name]) for name in state)
    with torch.no_grad():
        one, two = (trace(economy(4, households=6, conduct=c), 20, 1) for c in ("price-taking", "cooperative"))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_gradients_of_price_takers_are_differences_at_given_prices() -> None:
    """Central differences in which K is that of the economy as it is; of cooperative ones, in which K moves too."""
    for conduct in ("price-taking", "cooperative"):
        market = economy(1, torch.float64, households=3, conduct=conduct, capital_productivity=list(KAPPAS))
        state = market.initial_state(1, torch.Generator().manual_seed(1))
        p, kappa, k0 = market.parameters, np.array(KAPPAS), state["capital"].numpy()[0]
        hours = 1.11 * (1 - state["unemployed"].numpy()[0])
        A = [1.01, 0.99][int(state["aggregate"])]

        def reward(own: Array, K: float, hours: Array = hours, A: float = A, p: Any = p, kappa: Array = kappa) -> float:
            y = A * (K / hours.mean()) ** p.alpha
            r = p.alpha * kappa[0] * y / (K / hours.mean())
            return float(np.log(0.3 * ((1 - p.alpha) * y * hours[0] + (1 - p.delta + r) * own[0])))

        k = state["capital"].clone().requires_grad_()
        actions = {"households": torch.full((1, 3, 1), 0.3, dtype=torch.float64)}
        noise = market.draw_noise(torch.Generator())
        moved = market.transition({**state, "capital": k}, actions, noise)
        found = torch.autograd.grad(moved.rewards["households"][0, 0], k)[0][0].numpy()
        K, step = float((kappa * k0).mean()), 1e-5
        for i in range(3):
            nudge = step * (np.arange(3) == i)
            K_up, K_down = (
                (K, K) if conduct == "price-taking" else (float((kappa * (k0 + x)).mean()) for x in (nudge, -nudge))
            )
            slope = (reward(k0 + nudge, K_up) - reward(k0 - nudge, K_down)) / (2 * step)
            assert found[i] == pytest.approx(slope, rel=1e-6, abs=1e-10), (conduct, i)


# -- the answer key ----------------------------------------------------------------------------------------------------


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
    answer.__dict__["solution"] = known.solve(answer.economy, grids=grids, periods=400, final_periods=800)
    return answer


@pytest.fixture
def short_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HOUSEHOLDS", 500), ("BURN_IN", 300), ("PERIODS", 400)):
        monkeypatch.setattr(panel, name, value)


def as_policy(key: KrusellSmithAnswer, share: SharePolicy) -> Policy:
    """A rule of states as a policy of observations, which are turned back by the docstring's formulas."""
    kappa = np.asarray(key.parameters.capital_productivity)
    deviation = kappa - kappa.mean()
    kinds = deviation / max(np.abs(deviation).max(), 1e-6)

    def policy(seen: Tensor) -> Tensor:
        x = seen.double().numpy()
        K = np.exp(2 * x[..., 1])
        k = np.maximum((np.exp(x[..., 0]) - 0.02) * K, 0.0)
        z, e = (x[..., 2] < 0).astype(np.int64), (x[..., 3] < 0.5).astype(np.int64)
        kind = np.abs(x[..., 4, None] - kinds).argmin(-1)
        return torch.from_numpy(share(k, K, z, e, kind)).float()[..., None]

    return policy


def judged(key: KrusellSmithAnswer, rule: SharePolicy, seed: int = 0) -> tuple[Panel, float, dict[str, Metric]]:
    """A rule's panel, its exact best-response gain in %, and its metrics of the panel."""
    found = panel.simulate(key.parameters, rule, key.solution.mean_effective_capital, [seed, seed + 1])
    metrics = [
        *key._policy_errors(rule, {}), *key._capital(found, {}), *key._law(found, {}), *key._inequality(found, {}),
    ]  # fmt: skip
    return found, float(key._gains(rule, found, [seed])[0]), {m.name: m for m in metrics}


@pytest.mark.usefixtures("short_panel")
def test_the_exact_policy_is_certified(key: KrusellSmithAnswer) -> None:
    assert key.errors(key.exact).max() == 0.0
    found, gain, metrics = judged(key, key.exact)
    assert abs(gain) < 1e-3
    assert all(m.passed is not False for m in metrics.values()), {n: m.value for n, m in metrics.items()}
    assert found.K.mean() == pytest.approx(key.solution.mean_effective_capital, rel=0.015)
    assert found.gini.mean() == pytest.approx(key.solution.gini, abs=0.02)
    assert found.K.shape == found.z.shape == (400, 2)
    assert found.capital.shape == (8, 2, 500)


def test_an_exact_policy_of_observations_is_at_no_distance(key: KrusellSmithAnswer) -> None:
    """What the answer key shows a policy is what the market does, to single precision."""
    policy = as_policy(key, key.exact)
    assert key.distance({"households": policy}) < 1e-3
    assert key.errors(key.share_policy(policy)).max() < 0.02
    share = key.share_policy(policy)
    market = economy(3, households=50)
    seen = market.reset(8)["households"]
    k, e = (market.state[name].double().numpy() for name in ("capital", "unemployed"))
    K, z = market.effective_capital(market.state).double().numpy(), market.state["aggregate"].numpy()
    np.testing.assert_allclose(share(k, K, z, e, 0), policy(seen)[..., 0].numpy(), rtol=1e-5)


@pytest.mark.usefixtures("short_panel")
def test_a_constant_share_is_flagged(key: KrusellSmithAnswer) -> None:
    """It keeps the answer's capital, so that only policy errors, inequality and best response see it."""
    found, gain, metrics = judged(key, key._constant_share())
    error = metrics["policy_error/consumption_share"]
    assert error.value > POLICY_LIMIT
    assert error.passed is False
    assert gain > GAIN_LIMIT
    assert metrics["capital_error"].passed is True
    assert found.K.mean() == pytest.approx(key.solution.mean_effective_capital, rel=0.02)


@pytest.mark.usefixtures("short_panel")
def test_a_high_r2_does_not_clear_an_economy_with_too_much_capital(key: KrusellSmithAnswer) -> None:
    """Everybody consumes 15 % too little: the law of motion fits as well as it can, and the economy is wrong."""

    def oversaves(k: Any, K: Any, z: Any, e: Any, kind: Any) -> Array:
        return 0.85 * key.exact(k, K, z, e, kind)

    found, gain, metrics = judged(key, oversaves)
    law = known.law_of_motion(found.K, found.z)
    assert min(law.r2) > 0.995
    assert metrics["law/unexplained"].value < LAW_LIMIT
    assert metrics["law/unexplained"].passed is True, "this line alone would pass it"
    assert found.K.mean() > 1.5 * key.solution.mean_effective_capital
    assert metrics["capital_error"].value > CAPITAL_LIMIT
    assert metrics["capital_error"].passed is False
    assert gain > GAIN_LIMIT


@pytest.mark.usefixtures("short_panel")
def test_small_errors_of_saving_are_flagged_too(key: KrusellSmithAnswer) -> None:
    """2 % too little consumed, below the policy's own limit, adds up in capital and is worth a deviation."""

    def thrifty(*state: Any) -> Array:
        return 0.98 * key.exact(*state)

    _, gain, metrics = judged(key, thrifty)
    assert metrics["policy_error/consumption_share"].value == pytest.approx(2.0, abs=1e-9)
    assert metrics["capital_error"].passed is False
    assert gain > GAIN_LIMIT


def test_the_poor_and_the_jobless_consume_more_of_a_windfall(key: KrusellSmithAnswer) -> None:
    """The exact propensities fall in wealth; those of a constant share do not, and are not the answer's."""
    k = key.solution.mean_capital * np.array([0.01, 0.1, 0.5, 1.0, 3.0])
    for e in range(2):
        exact = key.propensities(key.exact, k, e)
        assert np.all(np.diff(exact) < 0)
        assert exact[0] > 3 * exact[3]
        flat = key.propensities(key._constant_share(), k, e)
        assert np.ptp(flat) < 1e-9


# -- who plays which policy --------------------------------------------------------------------------------------------


def test_types_in_any_order_meet_their_own_answer(unsorted: KrusellSmithAnswer) -> None:
    """kappa = 1.02 is the first type of the experiment, and the last of the answer."""
    assert unsorted.kinds == [0.98, 1.0, 1.02]
    assert unsorted.economy.kappa == (0.98, 1.0, 1.02)
    assert unsorted._sorted(np.arange(3)).tolist() == [2, 0, 1]
    K = unsorted.solution.mean_effective_capital
    for kind, place in enumerate((2, 0, 1)):
        mine = unsorted.exact(K, K, 0, 0, np.asarray(kind))
        assert mine == unsorted.solution.share(K, K, np.asarray(0), np.asarray(0), np.asarray(place))
    capital = unsorted.solution.mean_capital_by_type
    assert capital[0] < capital[1] < capital[2], "the more productive hold more"
    policy = as_policy(unsorted, unsorted.exact)
    assert unsorted.distance({"households": policy}) < 1e-3

    def mistaken(k: Any, K: Any, z: Any, e: Any, kind: Any) -> Array:
        return unsorted.exact(k, K, z, e, (np.asarray(kind) + 1) % 3)

    assert unsorted.distance({"households": as_policy(unsorted, mistaken)}) > 0.5


def test_held_out_states_are_those_of_each_type_in_the_long_run(unsorted: KrusellSmithAnswer) -> None:
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
    found = panel.simulate(unsorted.parameters, unsorted.exact, unsorted.solution.mean_effective_capital, [0, 1])
    assert found.capital.shape[2] == 300
    metrics = {m.name: m for m in unsorted._inequality(found, {})}
    exact = dict(zip((0.98, 1.0, 1.02), unsorted.solution.mean_capital_by_type, strict=True))
    for kappa, place in ((1.02, 0), (0.98, 1), (1.0, 2)):
        line = metrics[f"capital/kappa={kappa:g}"]
        assert line.answer == exact[kappa]
        assert line.value == pytest.approx(found.capital[..., place::3].mean())
    assert metrics["capital/kappa=1.02"].value > metrics["capital/kappa=0.98"].value


def _seated(market: KrusellSmithAnswer) -> Policy:
    """Household i consumes .1 + i / 1000, whatever it sees."""

    def policy(seen: Tensor) -> Tensor:
        assert seen.shape[-2] == market.parameters.households, "separate policies need every seat"
        return (0.1 + 0.001 * torch.arange(seen.shape[-2])).expand(seen.shape[:-1])[..., None]

    return policy


@pytest.mark.parametrize("types", [[1.0], [1.02, 0.98, 1.0]])
def test_separate_policies_are_met_seat_by_seat(types: list[float]) -> None:
    answer = KrusellSmithAnswer(KrusellSmithParameters(households=12, capital_productivity=types))
    policy = _seated(answer)
    assert answer.separate(policy)
    share = answer.share_policy(policy)
    rows, kinds = 10 * 12 * len(types), len(types)
    kind = np.repeat(np.arange(kinds), rows // kinds)  # as held-out states lie
    found = share(np.full(rows, 10.0), 10.0, 0, 0, kind)
    seats = np.rint((found - 0.1) * 1000).astype(int)
    assert np.array_equal(seats % kinds, kind), "a type's states are met by households of that type"
    assert np.bincount(seats, minlength=12).tolist() == [10 * kinds] * 12, "each of them as often"


def test_a_shared_policy_is_not_separate() -> None:
    answer = KrusellSmithAnswer(KrusellSmithParameters(households=12))
    network = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1), torch.nn.Sigmoid())
    policy = torch.no_grad()(network)
    assert not answer.separate(policy)
    k = np.array([[1.0, 5.0], [10.0, 20.0]])
    found = answer.share_policy(policy)(k, np.array([[8.0], [12.0]]), 0, np.array([0, 1]), 0)
    assert found.shape == (2, 2)
    seen = answer._observer.features(
        torch.tensor(20.0), torch.tensor(12.0), torch.tensor(0.0), torch.tensor(1.0), torch.tensor(0)
    )
    assert found[1, 1] == pytest.approx(float(policy(seen)), rel=1e-5)
