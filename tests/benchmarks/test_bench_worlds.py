"""What `make bench` compares with: worlds by hand, under SB3 and in JAX, move as ours do."""

from __future__ import annotations

import importlib
import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.speed.raw_sac import RawSAC
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.pricing.market import Pricing
from rl_markets.policies.advantages import generalized_advantages


def test_plain_torchs_sac_is_a_learner() -> None:
    """The lower bound must do the whole of the work: all its weights move."""
    raw = RawSAC((8, 8), 32)
    before = [
        w.detach().clone()
        for w in (*raw.actor.parameters(), *raw.critics.parameters(), *raw.slow, raw.log_alpha)
    ]
    for _ in range(3):
        raw.step()
    after = [*raw.actor.parameters(), *raw.critics.parameters(), *raw.slow, raw.log_alpha]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


# -- the pricing market by hand --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PlainPricing", "LoopPricing"])
def test_hand_written_pricing_moves_as_the_market_does(kind: str) -> None:
    """The same customers and shocks give the same rewards, observations and ends."""
    plain = importlib.import_module("benchmarks.speed.plain_pricing")
    p = plain.parameters()
    market = Pricing(p, worlds=1, dtype=torch.float64, stagger=False)
    env = getattr(plain, kind)(p)
    env.reset(seed=3)
    market.reset(1)
    market.state["day"][:] = env.day
    market.state["shock"][:] = env.shock
    noises = torch.Generator().manual_seed(0)
    rng = np.random.default_rng(0)
    for t in range(p.periods):
        noise = market.draw_noise(noises)
        action = rng.integers(0, 9, 8)
        uniform = noise["arrivals"][0].numpy()
        shock = float(noise["shock"])
        env.customers = lambda mean, u=uniform: stats.poisson.ppf(u, mean)
        env.customer = lambda mean, good, u=uniform: int(stats.poisson.ppf(u[good], mean))
        env.rng = SimpleNamespace(standard_normal=lambda x=shock: x)
        transition = market.transition(
            market.state, {"seller": torch.from_numpy(action)[None, None]}, noise
        )
        market.state = transition.state
        obs, reward, terminated, truncated, _ = env.step(action)
        assert reward == pytest.approx(float(transition.rewards["seller"]), rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(
            obs, market.observe(market.state)["seller"][0, 0], rtol=1e-5, atol=1e-6
        )
        assert (terminated, truncated) == (False, t == 89)
    assert market.state["stock"].min() < 20, "orders were placed"


# -- the worlds under Stable-Baselines3 ------------------------------------------------------------


def test_many_hand_written_worlds_move_as_the_market_does() -> None:
    sb3 = pytest.importorskip("benchmarks.speed.by_hand_sb3", exc_type=ImportError)
    parameters = HouseholdsParameters(households=5, episode_length=1000)
    by_hand = sb3.HandWrittenVecEnv(parameters, worlds=3)
    market = Households(parameters, worlds=3)
    by_hand.reset()
    by_hand.t[:] = 0
    rng = np.random.default_rng(0)
    for _ in range(100):
        state = {"capital": by_hand.k, "labour": by_hand.l, "log_productivity": by_hand.z}
        state = {name: torch.from_numpy(value.copy()) for name, value in state.items()}
        actions = rng.uniform(0.05, 0.5, (15, 2)).astype(np.float32)
        by_hand.step_async(actions)
        obs, rewards, dones, _ = by_hand.step_wait()
        innovation = torch.from_numpy((by_hand.z - 0.9 * state["log_productivity"].numpy()) / 0.01)
        transition = market.transition(
            state,
            {"households": torch.from_numpy(actions).view(3, 5, 2)},
            {"innovation": innovation},
        )
        np.testing.assert_allclose(rewards, transition.rewards["households"].flatten(), rtol=1e-5)
        np.testing.assert_allclose(
            obs, market.observe(transition.state)["households"].flatten(0, 1), rtol=1e-4, atol=1e-5
        )
        assert not dones.any()


def test_hand_written_worlds_end_one_by_one_and_show_their_last_observation() -> None:
    sb3 = pytest.importorskip("benchmarks.speed.by_hand_sb3", exc_type=ImportError)
    worlds = sb3.HandWrittenVecEnv(HouseholdsParameters(households=2, episode_length=4), worlds=6)
    worlds.reset()
    ended = np.zeros(6, int)
    for _ in range(4):
        clock = worlds.t.copy()
        worlds.step_async(np.full((12, 2), 0.3, np.float32))
        obs, _, dones, infos = worlds.step_wait()
        by_world = dones.reshape(6, 2)
        assert (by_world == (clock == 3)[:, None]).all()
        ended += by_world[:, 0]
        for row in range(12):
            assert ("terminal_observation" in infos[row]) == dones[row]
            if dones[row]:
                assert infos[row]["TimeLimit.truncated"]
                assert not np.allclose(infos[row]["terminal_observation"], obs[row])
    assert (ended == 1).all()


# -- the worlds and the learner in JAX -------------------------------------------------------------


def test_worlds_in_jax_move_as_the_market_does() -> None:
    jax = pytest.importorskip("jax")
    from benchmarks.speed import by_hand_jax

    parameters = HouseholdsParameters(households=5, initial_dispersion=0.5)
    worlds = 3
    market = Households(parameters, worlds=worlds, stagger=False)
    rng = np.random.default_rng(0)
    market.reset(0)
    state = market.state
    k, labour, z = (
        state[name].numpy().copy() for name in ("capital", "labour", "log_productivity")
    )
    world = by_hand_jax.World(k, labour, z[:, 0], np.zeros(worlds, np.int32))
    advance = jax.jit(jax.vmap(lambda *arguments: by_hand_jax.advance(parameters, *arguments)))
    for _ in range(50):
        # Some are out of bounds.
        actions = rng.uniform(-0.1, 0.6, (worlds, 5, 2)).astype(np.float32)
        innovation = rng.standard_normal(worlds, np.float32)
        world, rewards = advance(world, actions, innovation)
        noise = {"innovation": torch.from_numpy(innovation[:, None])}
        transition = market.transition(state, {"households": torch.from_numpy(actions)}, noise)
        state = transition.state
        np.testing.assert_allclose(rewards, transition.rewards["households"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(world.k, state["capital"], rtol=1e-4)
        obs = jax.vmap(by_hand_jax.observe)(world)
        np.testing.assert_allclose(obs, market.observe(state)["households"], rtol=1e-4, atol=2e-5)


def test_worlds_in_jax_start_anew_one_by_one() -> None:
    jax = pytest.importorskip("jax")
    from benchmarks.speed import by_hand_jax

    parameters = HouseholdsParameters(households=2, episode_length=4)
    world = by_hand_jax.begin_all(parameters, 6, jax.random.key(0))
    step = jax.jit(partial(by_hand_jax.step, parameters))
    ended = np.zeros(6, int)
    for t in range(4):
        moved = step(jax.random.key(t), world, np.full((6, 2, 2), 0.3, np.float32))
        over = np.asarray(moved.over)
        assert (over == (np.asarray(world.clock) == 3)).all()
        assert (np.asarray(moved.world.clock)[over] == 0).all()
        assert ((np.asarray(moved.world.k) != np.asarray(moved.last.k)) == over[:, None]).all()
        np.testing.assert_allclose(
            moved.seen, jax.vmap(by_hand_jax.observe)(moved.world), rtol=1e-5, atol=1e-5
        )
        ended = ended + over
        world = moved.world
    assert (ended == 1).all()


def test_advantages_in_jax_are_ours() -> None:
    """The value of what was seen last stands in where the clock cut an episode."""
    jax = pytest.importorskip("jax")
    from benchmarks.speed import by_hand_jax_ppo as ppo

    parameters = HouseholdsParameters(households=2)
    shape = ppo.Shape(3, 6, 1, 1, (8,))
    training = ppo.start(parameters, shape, 0)
    rng = np.random.default_rng(0)
    rewards, values, final = (rng.standard_normal((6, 3, 2)).astype(np.float32) for _ in range(3))
    over = rng.uniform(size=(6, 3)) < 0.3
    batch = ppo.prepare(
        parameters, training, ppo.Sampled(*[values[..., None]] * 3, rewards, values, over, final)
    )
    values_to_the_end = np.concatenate(
        [values, np.asarray(ppo.value(training.weights, training.seen))[None]]
    )
    successor = np.where(over[..., None], final, values_to_the_end[1:])
    rows = [
        torch.from_numpy(x.reshape(len(x), -1)) for x in (rewards, values_to_the_end, successor)
    ]
    not_done = torch.from_numpy(np.repeat(~over, 2, 1)).float()
    ours = generalized_advantages(*rows, not_done, parameters.beta, 0.95).numpy().ravel()
    np.testing.assert_allclose(batch.targets, ours + values.ravel(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        batch.advantages, (ours - ours.mean()) / ours.std(), rtol=1e-4, atol=1e-5
    )
    assert jax.tree.leaves(batch)[0].shape == (36, 1)


def test_ppo_in_jax_learns() -> None:
    """All its weights move.

    Both actions go from .5 towards what is best at rest, .16 and .13.
    """
    jax = pytest.importorskip("jax")
    from benchmarks.speed import by_hand_jax_ppo as ppo

    parameters = HouseholdsParameters(households=3)
    trainer = ppo.Trainer(
        parameters, ppo.Shape(worlds=16, steps=25, epochs=4, minibatches=4, hidden=(16, 16))
    )
    before = jax.tree.map(np.asarray, trainer.training.weights)
    for _ in range(30):
        assert trainer() == 16 * 25 * 3
        assert math.isfinite(trainer.loss)
    after = trainer.training.weights
    moved = jax.tree.map(lambda a, b: not np.allclose(a, b), before, after)
    assert all(jax.tree.leaves(moved))
    share, labour = np.asarray(
        ppo.to_action(ppo.forward(after["actor"]["net"], trainer.training.seen))
    ).mean((0, 1))
    assert 0.1 < share < 0.35
    assert 0.08 < labour < 0.25
