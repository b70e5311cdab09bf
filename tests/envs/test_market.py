"""The contract of a market, on the household economy."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from rl_markets.envs.households.market import Households
from rl_markets.envs.market import AgentGroup, State, TensorMarket, Transition
from tests.support.household_markets import draw_actions, economy


def trace(market: Households, steps: int, seed: int) -> list[torch.Tensor]:
    """Every tensor that `steps` steps show."""
    tensors = [market.reset(seed)["households"]]
    generator = torch.Generator().manual_seed(7)
    for _ in range(steps):
        step = market.step(draw_actions(market, generator))
        tensors += [step.observations["households"], step.rewards["households"]]
        if step.ended is not None:
            tensors += [
                step.ended.worlds,
                step.ended.terminated,
                step.ended.observations["households"],
            ]
    return tensors


@pytest.mark.parametrize("seed", [0, 1])
def test_same_seed_same_bytes_over_whole_episodes(seed: int) -> None:
    first, second = (trace(economy(episode_length=20), 70, seed) for _ in range(2))
    assert len(first) == len(second)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_other_seeds_give_other_episodes() -> None:
    assert not torch.equal(trace(economy(), 3, 0)[-1], trace(economy(), 3, 1)[-1])


def test_reset_starts_the_same_episode_again_on_the_same_object() -> None:
    market = economy(episode_length=9)
    first = trace(market, 30, 5)
    second = trace(market, 30, 5)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


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
    obs = other.load_state_dict(copy.deepcopy(market.state_dict()))
    assert torch.equal(obs["households"], market.observe(market.state)["households"])
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
    shuffled_actions = {"households": actions["households"][order]}
    shuffled = many.transition(_rows(state, order), shuffled_actions, _rows(noise, order))
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
    permuted_state = {n: (v[:, order] if v.shape[1] == 5 else v) for n, v in state.items()}
    permuted_actions = {"households": actions[:, order]}
    straight = market.transition(state, {"households": actions}, noise).rewards
    permuted = market.transition(permuted_state, permuted_actions, noise).rewards
    torch.testing.assert_close(
        straight["households"][:, order], permuted["households"], rtol=0, atol=1e-12
    )


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
        noise = market.draw_noise(market.generator)
        true = market.observe(market.transition(state, actions, noise).state)
        market.generator.set_state(noise_generator)
        market.initial_state(0, market.generator)
        final = step.ended.observations["households"]
        assert torch.equal(final, true["households"][step.ended.worlds])
        assert not step.ended.terminated.any()
        restarted = step.observations["households"][step.ended.worlds]
        assert not torch.equal(final, restarted)
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
    actions = {"households": torch.full((3, 2, 2), 0.3)}
    assert all(market.step(actions).ended is None for _ in range(10))
    market.episode_length = 4
    ended = market.step(actions).ended
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
