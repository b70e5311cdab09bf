"""The contract of a market, on the household economy."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.speed.by_hand import HandWrittenHouseholds
from rl_markets.envs.deviation import DEVIATOR, DeviationMarket
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.households.shocks import AutoregressiveProductivity
from rl_markets.envs.market import AgentGroup, Market, State, TensorMarket, Transition

HETEROGENEOUS = {
    "households": 6,
    "capital_productivity": [0.8, 1.0, 1.2],
    "labour_productivity": [1.0, 0.5],
}


def economy(worlds: int = 4, dtype: torch.dtype = torch.float32, **parameters: Any) -> Households:
    return Households(HouseholdsParameters(**parameters), worlds=worlds, dtype=dtype)


def draw_actions(market: Market, generator: torch.Generator) -> dict[str, torch.Tensor]:
    group = market.groups["households"]
    return {
        "households": 0.05 + 0.9 * torch.rand((market.worlds, group.count, 2), generator=generator)
    }


def trace(market: Households, steps: int, seed: int) -> list[torch.Tensor]:
    """Every tensor that `steps` steps show."""
    seen = [market.reset(seed)["households"]]
    generator = torch.Generator().manual_seed(7)
    for _ in range(steps):
        step = market.step(draw_actions(market, generator))
        seen += [step.observations["households"], step.rewards["households"]]
        if step.ended is not None:
            seen += [
                step.ended.worlds,
                step.ended.terminated,
                step.ended.observations["households"],
            ]
    return seen


@pytest.mark.parametrize("seed", [0, 1])
def test_same_seed_same_bytes_over_whole_episodes(seed: int) -> None:
    first, second = (trace(economy(episode_length=20), 70, seed) for _ in range(2))
    assert len(first) == len(second)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_other_seeds_give_other_episodes() -> None:
    assert not torch.equal(trace(economy(), 3, 0)[-1], trace(economy(), 3, 1)[-1])


def test_reset_starts_the_same_episode_again_on_the_same_object() -> None:
    market = economy(episode_length=9)
    assert all(
        torch.equal(a, b) for a, b in zip(trace(market, 30, 5), trace(market, 30, 5), strict=True)
    )


def test_nothing_touches_global_randomness() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    trace(economy(initial_dispersion=0.3, episode_length=4), 12, 0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]


def test_goes_on_with_the_same_bytes_from_a_saved_state() -> None:
    market = economy(episode_length=6)
    other = economy(episode_length=6)
    generator = torch.Generator()
    market.reset(1)
    for _ in range(4):
        market.step(draw_actions(market, generator))
    seen = other.load_state_dict(copy.deepcopy(market.state_dict()))
    assert torch.equal(seen["households"], market.observe(market.state)["households"])
    for _ in range(15):
        actions = draw_actions(market, generator)
        a = market.step(actions)
        b = other.step(actions)
        assert torch.equal(a.observations["households"], b.observations["households"])
        assert torch.equal(a.rewards["households"], b.rewards["households"])


def test_worlds_do_not_touch_each_other() -> None:
    p = economy(worlds=5, households=3).parameters
    many = Households(p, worlds=5)
    generator = torch.Generator().manual_seed(0)
    state = many.initial_state(5, generator)
    noise = many.draw_noise(generator)
    actions = draw_actions(many, generator)
    order = torch.tensor([3, 0, 4, 1, 2])
    straight = many.transition(state, actions, noise)
    shuffled = many.transition(
        _rows(state, order), {"households": actions["households"][order]}, _rows(noise, order)
    )
    assert torch.equal(straight.rewards["households"][order], shuffled.rewards["households"])
    assert torch.equal(straight.state["capital"][order], shuffled.state["capital"])


def _rows(state: State, order: torch.Tensor) -> State:
    return {name: value[order] for name, value in state.items()}


def test_permuting_identical_households_permutes_what_they_get() -> None:
    market = economy(households=5, initial_dispersion=0.5, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    state = market.initial_state(4, generator)
    noise = market.draw_noise(generator)
    actions = draw_actions(market, generator)["households"].double()
    order = torch.tensor([4, 2, 0, 1, 3])
    moved = {n: (v[:, order] if v.shape[1] == 5 else v) for n, v in state.items()}
    straight = market.transition(state, {"households": actions}, noise).rewards["households"]
    permuted = market.transition(moved, {"households": actions[:, order]}, noise).rewards[
        "households"
    ]
    torch.testing.assert_close(straight[:, order], permuted, rtol=0, atol=1e-12)


# -- episodes --------------------------------------------------------------------------------------


def test_clocks_are_staggered_and_final_observations_are_the_true_ones() -> None:
    market = economy(worlds=64, episode_length=10, households=2)
    market.reset(0)
    generator = torch.Generator().manual_seed(1)
    ends = []
    for _ in range(10):
        state = market.state
        noise_generator = market.generator.get_state()
        actions = draw_actions(market, generator)
        step = market.step(actions)
        if step.ended is None:
            continue
        ends.append(len(step.ended.worlds))
        market.generator.set_state(noise_generator)
        true = market.observe(
            market.transition(state, actions, market.draw_noise(market.generator)).state
        )
        market.generator.set_state(noise_generator)
        market.initial_state(0, market.generator)
        assert torch.equal(
            step.ended.observations["households"], true["households"][step.ended.worlds]
        )
        assert not step.ended.terminated.any()
        assert not torch.equal(
            step.ended.observations["households"],
            step.observations["households"][step.ended.worlds],
        )
    assert sum(ends) == 64, "each world ends once in the length of an episode"
    assert len(ends) > 5, "they do not end together"


def test_episodes_end_when_their_clocks_say_so() -> None:
    market = economy(worlds=7, households=2, episode_length=6)
    length = 6
    market.reset(3)
    clock = market.clock.clone()
    actions = {"households": torch.full((7, 2, 2), 0.3)}
    for t in range(40):
        if t == 20:
            market.load_state_dict(market.state_dict())
        if t == 30:
            market.episode_length = length = 4
        clock += 1
        ended = market.step(actions).ended
        due = (clock >= length).nonzero()[:, 0]
        assert ([] if ended is None else ended.worlds.tolist()) == due.tolist()
        clock[due] = 0
        assert torch.equal(market.clock, clock)


def test_an_episode_without_a_length_never_ends() -> None:
    market = economy(worlds=3, households=2, episode_length=4)
    market.reset(0)
    market.episode_length = None
    market.reset(1)
    assert all(
        market.step({"households": torch.full((3, 2, 2), 0.3)}).ended is None for _ in range(10)
    )
    market.episode_length = 4
    ended = market.step({"households": torch.full((3, 2, 2), 0.3)}).ended
    assert ended is not None
    assert ended.worlds.tolist() == [0, 1, 2]


class _Dying(TensorMarket):
    """Terminates world 0 at once; groups of one agent with one number."""

    def __init__(self) -> None:
        import gymnasium as gym

        super().__init__(worlds=2, episode_length=None)
        box = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
        self.groups = {"one": AgentGroup(1, box, box)}

    def initial_state(self, worlds: int, generator: torch.Generator) -> State:
        return {"x": torch.zeros(worlds, 1, 1)}

    def observe(self, state: State) -> dict[str, torch.Tensor]:
        return {"one": state["x"]}

    def draw_noise(self, generator: torch.Generator) -> State:
        return {}

    def transition(self, state: State, actions: Any, noise: State) -> Transition:
        return Transition(
            {"x": state["x"] + 1}, {"one": torch.ones(2, 1)}, torch.tensor([True, False])
        )


def test_a_terminated_world_restarts_and_says_so() -> None:
    market = _Dying()
    market.reset(0)
    step = market.step({"one": torch.zeros(2, 1, 1)})
    assert step.ended is not None
    assert step.ended.worlds.tolist() == [0]
    assert step.ended.terminated.tolist() == [True]
    assert step.ended.observations["one"].item() == 1
    assert step.observations["one"].flatten().tolist() == [0, 1]


# -- the economy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [{"households": 1}, {"households": 529}, HETEROGENEOUS, {"households": 7, "delta": 1.0}],
)
def test_income_exhausts_output_and_resources_balance(parameters: dict[str, Any]) -> None:
    """mean(r_i k_i + w_i l_i) = Y, and k' + c = a: the identities of MARL-BC in double
    precision."""
    market = economy(worlds=250, dtype=torch.float64, initial_dispersion=1.0, **parameters)
    generator = torch.Generator()
    state = market.initial_state(250, generator)
    p = market.parameters
    actions = draw_actions(market, generator)["households"].double()
    after = market.transition(state, {"households": actions}, market.draw_noise(generator)).state[
        "capital"
    ]
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
        moved = market.transition(
            state,
            {"households": torch.from_numpy(actions)[None]},
            {"innovation": torch.tensor([[innovation]], dtype=torch.float64)},
        )
        np.testing.assert_allclose(
            moved.rewards["households"][0].numpy(), by_hand.advance(actions, innovation), rtol=1e-11
        )
        state = moved.state
        seen = market.observe(state)["households"][0].numpy()
        theirs = np.stack(list(by_hand._observations().values()))
        np.testing.assert_allclose(seen, theirs, rtol=1e-6, atol=1e-6)


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
    seen = market.observe(state)["households"]
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
        log.append(
            deviation / deviation.abs().max()
            if len(set(own.tolist())) > 1
            else torch.zeros_like(own)
        )
    columns = log if features == "log" else [k, K, labour, L, torch.exp(z), kappa, lambda_]
    torch.testing.assert_close(
        seen, torch.stack(torch.broadcast_tensors(*columns), -1), rtol=1e-12, atol=1e-14
    )
    assert seen.is_contiguous()
    asked = market.features(k, K, labour, L, torch.exp(z))
    torch.testing.assert_close(asked, seen, rtol=1e-12, atol=1e-14)


def test_efficient_hours_earn_what_they_produce() -> None:
    market = half_hours(economy(worlds=9, households=6, dtype=torch.float64, delta=1.0))
    state = market.initial_state(9, torch.Generator().manual_seed(0))
    p = market.parameters
    actions = torch.full((9, 6, 2), 0.3, dtype=torch.float64)
    moved = market.transition(state, {"households": actions}, market.draw_noise(market.generator))
    Y = (
        torch.exp(state["log_productivity"][:, 0])
        * state["capital"].mean(-1) ** p.alpha
        * 0.225 ** (1 - p.alpha)
    )
    torch.testing.assert_close(moved.state["capital"].mean(-1) / 0.7, Y, rtol=1e-12, atol=0)
    assert torch.equal(moved.state["labour"], actions[..., 1]), (
        "what is remembered is labour itself"
    )


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
    rewards = market.transition(
        state, {"households": actions}, market.draw_noise(generator)
    ).rewards["households"]
    (gradient,) = torch.autograd.grad(rewards[0, 0], actions)
    assert gradient[0, 0, 1] != 0, "its own labour moves its own reward"
    assert bool((gradient[0, 1:, 1] != 0).any()) is moves, (
        "others' labour moves it through the wage"
    )
    assert not gradient[1].any(), "other worlds never do"


def test_aggregates_are_observed_without_gradient_by_price_takers() -> None:
    market = economy(worlds=1, households=3)
    state = market.initial_state(1, torch.Generator())
    state["capital"].requires_grad_()
    seen = market.observe(state)["households"]
    (through_aggregate,) = torch.autograd.grad(
        seen[0, 0, 1], state["capital"], retain_graph=True, allow_unused=True
    )
    (through_own,) = torch.autograd.grad(seen[0, 0, 0], state["capital"])
    assert through_aggregate is None or not through_aggregate.any()
    assert through_own[0, 0] != 0


# -- deviation -------------------------------------------------------------------------------------


def test_a_deviator_that_does_not_deviate_changes_nothing() -> None:
    market = economy(worlds=3, households=4, episode_length=50)
    inner = economy(worlds=3, households=4, episode_length=50)

    def policy(seen: torch.Tensor) -> torch.Tensor:
        return torch.stack(
            [torch.full_like(seen[..., 0], 0.2), 0.1 + 0.01 * torch.tanh(seen[..., 0])], -1
        )

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
