"""The Krusell-Smith economy as a market: its accounts, its shocks, its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rl_markets.envs.krusell_smith.market import KrusellSmith
from rl_markets.envs.krusell_smith.parameters import KrusellSmithParameters
from rl_markets.envs.market import State

Array = NDArray[np.float64]
UNEMPLOYMENT = np.array([0.04, 0.10])
KAPPAS = (0.8, 1.0, 1.2)


def economy(worlds: int = 4, dtype: torch.dtype = torch.float32, **parameters: Any) -> KrusellSmith:
    return KrusellSmith(KrusellSmithParameters(**parameters), worlds=worlds, dtype=dtype)


def shares(market: KrusellSmith, seed: int = 0) -> dict[str, Tensor]:
    drawn = torch.rand(
        (market.worlds, market.parameters.households, 1),
        generator=torch.Generator().manual_seed(seed),
    )
    return {"households": 0.05 + 0.9 * drawn.to(market.dtype)}


def shocks(
    market: KrusellSmith, periods: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A path of z `[T, worlds]` and of who is unemployed `[T, worlds, households]`.

    No capital moves.
    """
    generator = torch.Generator().manual_seed(seed)
    state = market.employment.initial(market.worlds, generator)
    z = []
    jobless = []
    for _ in range(periods):
        z.append(state["aggregate"][:, 0].numpy())
        jobless.append(state["unemployed"].numpy().astype(np.int64))
        state = market.employment.advance(state, market.draw_noise(generator))
    return np.stack(z), np.stack(jobless)


# -- accounts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 50, 400])
def test_income_exhausts_output_and_what_is_not_consumed_is_kept(n: int) -> None:
    """mean(r_i k_i + w h_i) = Y and c + k' = a, by the equations written out anew.

    Productivities of capital are random.
    """
    rng = np.random.default_rng(n)
    kappa = rng.uniform(0.5, 1.5, n)
    market = economy(
        250,
        torch.float64,
        households=n,
        capital_productivity=kappa.tolist(),
        initial_dispersion=1.5,
    )
    generator = torch.Generator().manual_seed(n)
    state = market.initial_state(250, generator)
    p = market.parameters
    actions = shares(market)
    transition = market.transition(state, actions, market.draw_noise(generator))
    k, z, e = (state[name].numpy() for name in ("capital", "aggregate", "unemployed"))
    hours = 1.11 * (1 - e)
    K = (kappa * k).mean(1)
    L = hours.mean(1)
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
    np.testing.assert_allclose(c + transition.state["capital"].numpy()[producing], a, rtol=1e-12)
    np.testing.assert_allclose(
        transition.rewards["households"].numpy()[producing], np.log(c), rtol=1e-11, atol=1e-11
    )
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
    market = economy(
        2000, torch.float64, households=n, initial_capital=[3.0, 30.0], initial_dispersion=1.0
    )
    k = market.initial_state(2000, generator)["capital"]
    mean = k.mean(-1).numpy()
    assert 3.0 * (1 - 1e-12) <= mean.min() < 3.1
    assert 29.0 < mean.max() <= 30.0 * (1 + 1e-12)
    assert np.log(mean).mean() == pytest.approx(
        np.log(90.0) / 2, abs=5 * np.log(10) / np.sqrt(12 * 2000)
    )
    assert bool((k.std(-1) > 0).all())
    equal = economy(50, torch.float64, households=n, initial_dispersion=0.0)
    k = equal.initial_state(50, generator)["capital"]
    assert torch.equal(k, k[:, :1].expand_as(k))
    assert len(k[:, 0].unique()) == 50


# -- shocks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 20, 2000])
def test_the_aggregate_state_is_drawn_once_for_all_households(n: int) -> None:
    """It switches as often whatever the number of households.

    No majority of their draws decides.
    """
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


@pytest.mark.parametrize(
    ("n", "worlds", "periods"), [(50, 200, 60), (100, 50, 40), (10_000, 4, 20)]
)
def test_the_head_count_is_exact_in_every_period(n: int, worlds: int, periods: int) -> None:
    z, jobless = shocks(economy(worlds, households=n), periods, seed=1)
    expected = np.array([n // 25, n // 10])
    assert np.array_equal(jobless.sum(-1), expected[z])
    assert {*jobless.ravel()} == {0, 1}
    assert 0.2 < z.mean() < 0.8, "both states were seen"


@pytest.mark.parametrize("n", [1, 7, 20])
def test_where_the_rate_is_no_whole_number_of_heads_it_is_right_on_average(n: int) -> None:
    """The rates are .04 and .10, from the first period on.

    State by state, within 5 standard errors and within .002 for n = 20.
    """
    worlds = 6000
    periods = 30
    z, jobless = shocks(economy(worlds, households=n), periods, seed=2)
    rate = jobless.mean(-1)
    for state in range(2):
        # Paths are independent, periods are not: the error is that of the worlds' means.
        by_world = np.array([(rate[:, w][z[:, w] == state]).sum() for w in range(worlds)])
        counts = (z == state).sum(0)
        gap = by_world - UNEMPLOYMENT[state] * counts
        error = gap.std() / np.sqrt(worlds)
        assert abs(gap.mean()) < 5 * error
        average = by_world.sum() / counts.sum()
        assert average == pytest.approx(UNEMPLOYMENT[state], abs=0.002 if n == 20 else 0.004)
        assert rate[0][z[0] == state].mean() == pytest.approx(UNEMPLOYMENT[state], abs=0.015)


@pytest.mark.parametrize("n", [50, 20])
def test_households_change_jobs_with_the_chances_of_the_chain(n: int) -> None:
    """P(unemployed' | e, z, z') for all eight pasts.

    Within 5 standard errors of independent draws.
    """
    z, jobless = shocks(economy(1500, households=n), 40, seed=3)
    chain = np.asarray(KrusellSmithParameters().employment)
    for now in range(2):
        for then in range(2):
            worlds = (z[:-1] == now) & (z[1:] == then)
            before = jobless[:-1][worlds]
            after = jobless[1:][worlds]
            for e in range(2):
                moved = after[before == e]
                p = chain[now, then, e, 1]
                assert len(moved) > 1000
                error = np.sqrt(p * (1 - p) / len(moved))
                assert moved.mean() == pytest.approx(p, abs=5 * error), (now, then, e)


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
    tensors = [market.reset(seed)["households"]]
    for t in range(periods):
        step = market.step(shares(market, t))
        tensors += [
            step.observations["households"],
            step.rewards["households"],
            market.state["aggregate"],
        ]
    return tensors


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others() -> None:
    options: dict[str, Any] = {
        "households": 20,
        "episode_length": 15,
        "capital_productivity": [0.9, 1.1],
    }
    one, two, other = (trace(economy(5, **options), 40, seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one[-2], other[-2])


def test_permanent_types_stay_with_their_seats() -> None:
    market = economy(3, households=6, capital_productivity=list(KAPPAS), episode_length=7)
    market.reset(0)
    for t in range(20):
        obs = market.step(shares(market, t)).observations["households"]
        torch.testing.assert_close(obs[..., 4], torch.tensor([-1.0, 0.0, 1.0] * 2).expand(3, 6))
    assert market.kappa.tolist() == pytest.approx(list(KAPPAS) * 2)


def test_observes_what_it_says() -> None:
    market = economy(5, torch.float64, households=6, capital_productivity=list(KAPPAS))
    state = market.initial_state(5, torch.Generator().manual_seed(0))
    k, z, e = (state[name].numpy() for name in ("capital", "aggregate", "unemployed"))
    kappa = np.tile(KAPPAS, 2)
    K = (kappa * k).mean(1, keepdims=True)
    columns = [np.log(k / K + 0.02), np.log(K) / 2, 1.0 - 2.0 * z, 1 - e, (kappa - 1) / 0.2]
    expected = np.stack(np.broadcast_arrays(*columns), -1)
    np.testing.assert_allclose(
        market.observe(state)["households"].numpy(), expected, rtol=1e-12, atol=1e-12
    )
    global_columns = [np.log(K), 1.0 - 2.0 * z, columns[0].std(1, keepdims=True)]
    global_state = market.observe_globally(state).numpy()
    np.testing.assert_allclose(
        global_state, np.concatenate(global_columns, 1), rtol=1e-12, atol=1e-12
    )


# -- gradients -------------------------------------------------------------------------------------


def _gradients(conduct: str, reward_of: int = 0) -> tuple[Tensor, Tensor, State]:
    """A household's second-period reward: (its gradient, itself, the state).

    The gradient is in everybody's capital `[worlds, households]`.
    """
    market = economy(
        2, torch.float64, households=4, conduct=conduct, capital_productivity=[0.9, 1.1]
    )
    generator = torch.Generator().manual_seed(5)
    state = market.initial_state(2, generator)
    noise = [market.draw_noise(generator) for _ in range(2)]
    k = state["capital"].clone().requires_grad_()
    now = {**state, "capital": k}
    total = torch.zeros((), dtype=torch.float64)
    for t in range(2):
        obs = market.observe(now)["households"]
        share = 0.3 + 0.1 * torch.tanh(obs[..., :2].sum(-1, keepdim=True))
        transition = market.transition(now, {"households": share}, noise[t])
        total = total + 0.95**t * transition.rewards["households"][0, reward_of]
        now = transition.state
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
        one = trace(economy(4, households=6, conduct="price-taking"), 20, 1)
        two = trace(economy(4, households=6, conduct="cooperative"), 20, 1)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def first_reward(p: KrusellSmithParameters, k: Array, K: float, hours: Array, A: float) -> float:
    """The first household's reward where it consumes .3 of its wealth and K sets prices."""
    y = A * (K / hours.mean()) ** p.alpha
    r = p.alpha * KAPPAS[0] * y / (K / hours.mean())
    return float(np.log(0.3 * ((1 - p.alpha) * y * hours[0] + (1 - p.delta + r) * k[0])))


def test_gradients_of_price_takers_are_differences_at_given_prices() -> None:
    """Central differences in which K is that of the economy as it is.

    Of cooperative ones, in which K moves too.
    """
    for conduct in ("price-taking", "cooperative"):
        market = economy(
            1, torch.float64, households=3, conduct=conduct, capital_productivity=list(KAPPAS)
        )
        state = market.initial_state(1, torch.Generator().manual_seed(1))
        p = market.parameters
        kappa = np.array(KAPPAS)
        k0 = state["capital"].numpy()[0]
        hours = 1.11 * (1 - state["unemployed"].numpy()[0])
        A = [1.01, 0.99][int(state["aggregate"])]

        k = state["capital"].clone().requires_grad_()
        actions = {"households": torch.full((1, 3, 1), 0.3, dtype=torch.float64)}
        noise = market.draw_noise(torch.Generator())
        transition = market.transition({**state, "capital": k}, actions, noise)
        gradient = torch.autograd.grad(transition.rewards["households"][0, 0], k)[0][0].numpy()
        K = float((kappa * k0).mean())
        step = 1e-5
        for i in range(3):
            nudge = step * (np.arange(3) == i)
            K_up = K_down = K
            if conduct == "cooperative":
                K_up, K_down = (float((kappa * (k0 + x)).mean()) for x in (nudge, -nudge))
            up = first_reward(p, k0 + nudge, K_up, hours, A)
            down = first_reward(p, k0 - nudge, K_down, hours, A)
            slope = (up - down) / (2 * step)
            assert gradient[i] == pytest.approx(slope, rel=1e-6, abs=1e-10), (conduct, i)
