"""The household economy as a market: its accounts, observations, gradients and deviators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.speed.by_hand import HandWrittenHouseholds
from rl_markets.envs.deviation import DEVIATOR, DeviationMarket
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.households.shocks import AutoregressiveProductivity
from rl_markets.envs.market import State
from tests.support.household_markets import HETEROGENEOUS, draw_actions, economy

# -- the economy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [{"households": 1}, {"households": 529}, HETEROGENEOUS, {"households": 7, "delta": 1.0}],
)
def test_income_exhausts_output_and_resources_balance(parameters: dict[str, Any]) -> None:
    """mean(r_i k_i + w_i l_i) = Y, and k' + c = a.

    The identities of MARL-BC in double precision.
    """
    market = economy(worlds=250, dtype=torch.float64, initial_dispersion=1.0, **parameters)
    generator = torch.Generator()
    state = market.initial_state(250, generator)
    p = market.parameters
    actions = draw_actions(market, generator)["households"].double()
    noise = market.draw_noise(generator)
    after = market.transition(state, {"households": actions}, noise).state["capital"]
    k = state["capital"]
    labour = actions[..., 1]
    K = (market.kappa * k).mean(-1)
    L = (market.lambda_ * labour).mean(-1)
    Y = torch.exp(state["log_productivity"][:, 0]) * K**p.alpha * L ** (1 - p.alpha)
    wealth = after / (1 - actions[..., 0])
    income = (wealth - (1 - p.delta) * k).mean(-1)
    torch.testing.assert_close(income, Y, rtol=1e-12, atol=0)


def test_moves_as_the_hand_written_economy_does() -> None:
    parameters = HouseholdsParameters(households=5)
    market = Households(parameters, worlds=1, dtype=torch.float64)
    by_hand = HandWrittenHouseholds(parameters)
    by_hand.reset()
    state = {
        "capital": torch.from_numpy(by_hand.k)[None],
        "labour": torch.from_numpy(by_hand.l)[None],
        "log_productivity": torch.tensor([[by_hand.z]], dtype=torch.float64),
    }
    rng = np.random.default_rng(0)
    for _ in range(500):
        actions = rng.uniform(0.05, 0.5, (5, 2))
        innovation = float(rng.normal())
        transition = market.transition(
            state,
            {"households": torch.from_numpy(actions)[None]},
            {"innovation": torch.tensor([[innovation]], dtype=torch.float64)},
        )
        np.testing.assert_allclose(
            transition.rewards["households"][0].numpy(),
            by_hand.advance(actions, innovation),
            rtol=1e-11,
        )
        state = transition.state
        obs = market.observe(state)["households"][0].numpy()
        theirs = np.stack(list(by_hand._observations().values()))
        np.testing.assert_allclose(obs, theirs, rtol=1e-6, atol=1e-6)


def test_productivity_has_the_moments_of_its_process() -> None:
    market = economy(worlds=2000, households=1)
    market.reset(0)
    path = []
    for _ in range(100):
        market.step({"households": torch.full((2000, 1, 2), 0.3)})
        path.append(market.state["log_productivity"][:, 0].clone())
    z = torch.stack(path)
    assert z.std().item() == pytest.approx(0.01 / (1 - 0.81) ** 0.5, rel=0.03)
    lagged = torch.corrcoef(torch.stack([z[:-1].flatten(), z[1:].flatten()]))[0, 1]
    assert lagged.item() == pytest.approx(0.9, abs=0.01)


class _HalfHours(AutoregressiveProductivity):
    """Every second household's hour counts half."""

    def hours(self, state: State, labour: torch.Tensor) -> torch.Tensor:
        return labour * (1 - 0.5 * (torch.arange(labour.shape[-1]) % 2))


def half_hours(market: Households) -> Households:
    p = market.parameters
    market.shocks = _HalfHours(p.rho, p.sigma, device=market.device, dtype=market.dtype)
    return market


@pytest.mark.parametrize("parameters", [{"households": 4}, HETEROGENEOUS])
@pytest.mark.parametrize("features", ["log", "raw"])
@pytest.mark.parametrize("halved", [False, True])
def test_observes_what_it_says(parameters: dict[str, Any], features: str, halved: bool) -> None:
    market = economy(
        worlds=5, dtype=torch.float64, initial_dispersion=0.5, features=features, **parameters
    )
    market = half_hours(market) if halved else market
    state = market.initial_state(5, torch.Generator().manual_seed(0))
    obs = market.observe(state)["households"]
    p = market.parameters
    types = [p.capital_productivity, p.labour_productivity]
    kappa, lambda_ = (
        torch.tensor(t, dtype=torch.float64).repeat(p.households // len(t)) for t in types
    )
    k = state["capital"]
    labour = state["labour"]
    z = state["log_productivity"]
    hours = market.shocks.hours(state, labour)
    K, L = ((weight * own).mean(-1, keepdim=True) for weight, own in ((kappa, k), (lambda_, hours)))
    log = [torch.log(k / K), torch.log(K) / 2, torch.log(labour / L), torch.log(L), 10 * z]
    for own in (kappa, lambda_):
        deviation = own - own.mean()
        if len(set(own.tolist())) > 1:
            deviation = deviation / deviation.abs().max()
        else:
            deviation = torch.zeros_like(own)  # of equal households exactly
        log.append(deviation)
    columns = log if features == "log" else [k, K, labour, L, torch.exp(z), kappa, lambda_]
    expected = torch.stack(torch.broadcast_tensors(*columns), -1)
    torch.testing.assert_close(obs, expected, rtol=1e-12, atol=1e-14)
    assert obs.is_contiguous()
    asked = market.features(k, K, labour, L, torch.exp(z))
    torch.testing.assert_close(asked, obs, rtol=1e-12, atol=1e-14)


def test_efficient_hours_earn_what_they_produce() -> None:
    market = half_hours(economy(worlds=9, households=6, dtype=torch.float64, delta=1.0))
    state = market.initial_state(9, torch.Generator().manual_seed(0))
    p = market.parameters
    actions = torch.full((9, 6, 2), 0.3, dtype=torch.float64)
    transition = market.transition(
        state, {"households": actions}, market.draw_noise(market.generator)
    )
    A = torch.exp(state["log_productivity"][:, 0])
    Y = A * state["capital"].mean(-1) ** p.alpha * 0.225 ** (1 - p.alpha)
    torch.testing.assert_close(transition.state["capital"].mean(-1) / 0.7, Y, rtol=1e-12, atol=0)
    remembered = transition.state["labour"]
    assert torch.equal(remembered, actions[..., 1]), "what is remembered is labour itself"


@pytest.mark.parametrize("parameters", [{"households": 3}, HETEROGENEOUS])
@pytest.mark.parametrize("features", ["log", "raw"])
def test_gradients_are_those_of_finite_differences(
    parameters: dict[str, Any], features: str
) -> None:
    market = economy(
        worlds=2, dtype=torch.float64, conduct="cooperative", features=features, **parameters
    )
    generator = torch.Generator().manual_seed(0)
    state = market.initial_state(2, generator)
    noise = market.draw_noise(generator)
    actions = draw_actions(market, generator)["households"].double()

    def two_steps(
        k: torch.Tensor, z: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        start = {"capital": k, "labour": state["labour"], "log_productivity": z}
        first = market.transition(start, {"households": actions}, noise)
        then = market.transition(first.state, {"households": actions}, noise)
        return (
            first.rewards["households"],
            then.rewards["households"],
            market.observe(then.state)["households"],
        )

    inputs = (state["capital"], state["log_productivity"], actions)
    assert torch.autograd.gradcheck(two_steps, [x.clone().requires_grad_() for x in inputs])


@pytest.mark.parametrize(
    ("conduct", "moves"), [("price-taking", False), ("strategic", False), ("cooperative", True)]
)
def test_others_choices_have_gradients_only_in_cooperation(conduct: str, moves: bool) -> None:
    market = economy(worlds=2, households=3, conduct=conduct)
    generator = torch.Generator()
    state = market.initial_state(2, generator)
    actions = draw_actions(market, generator)["households"].requires_grad_()
    noise = market.draw_noise(generator)
    rewards = market.transition(state, {"households": actions}, noise).rewards["households"]
    (gradient,) = torch.autograd.grad(rewards[0, 0], actions)
    assert gradient[0, 0, 1] != 0, "its own labour moves its own reward"
    others = gradient[0, 1:, 1]
    assert bool((others != 0).any()) is moves, "others' labour moves it through the wage"
    assert not gradient[1].any(), "other worlds never do"


def test_aggregates_are_observed_without_gradient_by_price_takers() -> None:
    market = economy(worlds=1, households=3)
    state = market.initial_state(1, torch.Generator())
    state["capital"].requires_grad_()
    obs = market.observe(state)["households"]
    (through_aggregate,) = torch.autograd.grad(
        obs[0, 0, 1], state["capital"], retain_graph=True, allow_unused=True
    )
    (through_own,) = torch.autograd.grad(obs[0, 0, 0], state["capital"])
    assert through_aggregate is None or not through_aggregate.any()
    assert through_own[0, 0] != 0


# -- deviation -------------------------------------------------------------------------------------


def test_a_deviator_that_does_not_deviate_changes_nothing() -> None:
    market = economy(worlds=3, households=4, episode_length=50)
    inner = economy(worlds=3, households=4, episode_length=50)

    def policy(obs: torch.Tensor) -> torch.Tensor:
        share = torch.full_like(obs[..., 0], 0.2)
        return torch.stack([share, 0.1 + 0.01 * torch.tanh(obs[..., 0])], -1)

    deviation = DeviationMarket(inner, {"households": policy}, "households")
    everybody = market.reset(4)["households"]
    alone = deviation.reset(4)[DEVIATOR]
    for _ in range(60):
        assert torch.equal(everybody[:, :1], alone)
        step = market.step({"households": policy(everybody)})
        mine = deviation.step({DEVIATOR: policy(alone)})
        assert torch.equal(step.rewards["households"][:, :1], mine.rewards[DEVIATOR])
        everybody = step.observations["households"]
        alone = mine.observations[DEVIATOR]
