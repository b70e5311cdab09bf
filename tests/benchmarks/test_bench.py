"""Each measurement of `rl-markets bench` runs, at a tiny size, and says what it should. No timing
is asserted."""

from __future__ import annotations

import importlib
import json
import math
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.speed import accuracy, economy, rounds, start_up
from benchmarks.speed import measurements as bench
from benchmarks.speed.raw_sac import RawSAC
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.pricing.market import Pricing
from rl_markets.errors import ExperimentError
from rl_markets.policies.advantages import generalized_advantages

TINY = economy.Size(
    households=3,
    worlds=2,
    rounds=2,
    hidden=(8,),
    steps=4,
    epochs=1,
    minibatch=12,
    stock_steps=12,
    stock_sample=4,
    stock_envs=(1,),
    replay_steps=4,
    updates=2,
    batch=8,
    stock_replay_envs=(1,),
    stock_replay_warm_up=4,
    separate_steps=12,
    many=(4, 2, 6),
    large=5,
    scales=((1, 6, 4), (3, 2, 4), (4, 1, 6)),
    patience=0.1,
    accuracy_seeds=1,
    accuracy_look=4,
    accuracy=("market.worlds=4", "training.rollout_length=16", "training.agent_steps=128"),
    pricing_worlds=4,
    pricing_envs=(2,),
    pricing_warm_up=8,
    pricing=(
        "market.worlds=4",
        "training.rollout_length=4",
        "training.agent_steps=64",
        "algorithm.parameters.batch_size=8",
    ),
)
MEASURED = {m.name: m for m in bench.MEASUREMENTS}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(economy, "SIZE", TINY)


def measured(name: str) -> dict[str, Any]:
    """A measurement's figures, after a look at every row."""
    said: list[str] = []
    found = MEASURED[name].measure(0.01, said.append)
    for row in found["rows"]:
        assert 0 < row["lowest"] <= row["highest"] < math.inf
        figure = row["ours"] if row["theirs"] is None else row["ratio"]
        assert row["lowest"] <= figure <= row["highest"]
        if row["theirs"] is not None:
            assert row["against"]
            assert min(row["ours"], row["theirs"]) > 0
    assert any(line.startswith("round 2/2") for line in said) or not found["rows"]
    json.dumps(found, allow_nan=False)
    return found


def test_market_alone() -> None:
    assert [row["target"] for row in measured("market_alone")["rows"]] == [5e6, 3e3]


def test_pricing_alone() -> None:
    rows = measured("pricing_alone")["rows"]
    assert [row["against"] for row in rows] == [None, "gymnasium, numpy", "gymnasium, plain Python"]
    assert [row["target"] for row in rows] == [1e5, 20.0, 20.0]


@pytest.mark.usefixtures("ray_once")
class TestBesideRLlib:
    def test_pricing_dqn(self) -> None:
        found = measured("pricing_dqn")
        assert [row["target"] for row in found["rows"]] == [10.0]
        assert found["stock_envs"] == 2
        losses = found["equal_time"]
        assert losses["our_steps"] == 64
        assert 0 <= losses["ours"] <= 100
        assert 0 <= losses["theirs"] <= 100

    def test_ppo(self) -> None:
        found = measured("ppo")
        assert [row["target"] for row in found["rows"]] == [None, 15.0]
        assert found["stock_envs"] == 1

    def test_sac_has_the_same_networks_on_all_sides(self) -> None:
        found = measured("sac")
        assert [row["against"] for row in found["rows"]] == [
            "RLlib's own",
            "plain torch",
            "RLlib's own",
        ]
        assert found["agent_steps_per_update"] == {"ours": 12, "RLlib's own": 3}
        weights = found["parameters"]
        linear_path = 2 * 9  # our critics have one beside the hidden layers
        assert len({side["actor"] for side in weights.values()}) == 1
        assert weights["ours"]["critics"] - linear_path == weights["RLlib's own"]["critics"]
        assert weights["plain torch"]["critics"] == weights["RLlib's own"]["critics"]

    def test_separate(self) -> None:
        assert [row["target"] for row in measured("separate")["rows"]] == [1.3, None, 2.0]

    def test_scaling(self) -> None:
        sizes = [row["what"].split(",")[0] for row in measured("scaling")["rows"]]
        assert sizes == ["6 x 1 households", "1 x 4 households"]

    def test_sb3(self) -> None:
        pytest.importorskip("stable_baselines3")
        assert [row["what"] for row in measured("sb3")["rows"]] == ["PPO"] * 3 + ["SAC"] * 3

    @pytest.mark.slow
    def test_vectorised(self) -> None:
        pytest.importorskip("jax")
        found = measured("vectorised")
        alone = found["rows"][:3]
        training = found["rows"][3:]
        sizes = ["1 x 3 households", "2 x 3 households", "1 x 5 households"]
        assert [row["what"] for row in alone] == [f"the market alone, {size}" for size in sizes]
        assert [row["what"] for row in training] == [
            "PPO, 2 x 3 households, 4 steps",
            "PPO, 1 x 3 households, 8 steps",
        ]
        assert {row["target"] for row in found["rows"]} == {None}
        assert all(spent > 0 for spent in found["compile_seconds"].values())
        assert "compile time is not counted" in "\n".join(found["notes"])


@pytest.mark.usefixtures("ray_once")
def test_accuracy_is_nan_where_it_was_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("stable_baselines3")
    monkeypatch.setattr(
        accuracy, "ROUTES", (("households-full-depreciation", {"-analytic": 20.0}),)
    )
    bench.run(0.1, tmp_path / "bench.json", ["accuracy"])
    found = json.loads((tmp_path / "bench.json").read_text())["accuracy"]
    assert [row["target"] for row in found["rows"]] == [20.0]
    assert all(
        row["ratio"] == "NaN" for row in found["rows"]
    )  # so short a training brings nobody within 1 %
    assert len(found["notes"]) == 2  # and neither theirs


@pytest.mark.parametrize(("name", "extra"), [("sb3", "sb3"), ("vectorised", "jax")])
def test_a_library_that_is_missing(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"benchmarks.speed.{name}.find_spec", lambda name: None)
    found = measured(name)
    assert found["rows"] == []
    assert f"pip install 'rl-markets[{extra}]'" in found["notes"][0]


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


# -- start-up --------------------------------------------------------------------------------------

STUB = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit({code})); "
    "{said}; time.sleep({sleep})"
)


def test_start_up_is_the_time_to_the_first_iteration() -> None:
    stub = STUB.format(code=143, said="print('iteration 1/9: 5 steps', flush=True)", sleep=60)
    found = start_up.started([sys.executable, "-c", stub])
    assert 0 < found["wall"] < 60
    assert found["cpu"] > 0
    assert 1 < found["memory"] < 10_000


def test_start_up_that_fails_says_what_was_said() -> None:
    with pytest.raises(RuntimeError, match="no such market"):
        start_up.started(
            [sys.executable, "-c", STUB.format(code=1, said="print('no such market')", sleep=0)]
        )


# -- rounds, tables, files -------------------------------------------------------------------------


def test_ratios_are_of_figures_measured_in_the_same_round() -> None:
    row = rounds.compared("what", "theirs", [10.0, 30.0, 20.0], [1.0, 2.0, 4.0], 10.0)
    assert (row["ratio"], row["lowest"], row["highest"]) == (10.0, 5.0, 15.0)
    assert rounds.met(row) is True
    dear = rounds.cost("what", "theirs", [10.0], [20.0], 1.5)
    assert (dear["ours"], dear["ratio"]) == (1e5, 2.0)
    assert rounds.met(dear) is False
    assert rounds.met(rounds.absolute("what", [3.0, 5.0, 4.0], 4.0)) is True
    assert rounds.met(rounds.absolute("what", [3.0], None)) is None


def test_who_comes_first_comes_last_in_the_next_round() -> None:
    order: list[str] = []

    def work(name: str) -> rounds.Work:
        return lambda: order.append(name) or 1

    found = rounds.in_turns({"a": work("a"), "b": work("b")}, 0.0, 2, lambda line: None)
    assert order == ["a", "b", "b", "a"]
    assert [len(rates) for rates in found.values()] == [2, 2]


def test_prints_a_table_and_writes_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run(0.01, tmp_path / "bench.json", ["market_alone"])
    ((name, found),) = json.loads((tmp_path / "bench.json").read_text()).items()
    assert name == "market_alone"
    shown = capsys.readouterr().out
    assert "the market alone" in shown
    assert all(row["what"] in shown for row in found["rows"])


def test_an_unknown_measurement_is_refused_before_anything_runs() -> None:
    with pytest.raises(
        ExperimentError, match=r"--only nothing: expected one of start_up, market_alone, ppo"
    ):
        bench.run(1.0, None, ["ppo", "nothing"])


# -- the pricing market by hand --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PlainPricing", "LoopPricing"])
def test_hand_written_pricing_moves_as_the_market_does(kind: str) -> None:
    """The same customers and shocks give the same rewards, observations and ends, over an
    episode."""
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
        moved = market.transition(
            market.state, {"seller": torch.from_numpy(action)[None, None]}, noise
        )
        market.state = moved.state
        seen, reward, terminated, truncated, _ = env.step(action)
        assert reward == pytest.approx(float(moved.rewards["seller"]), rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(
            seen, market.observe(market.state)["seller"][0, 0], rtol=1e-5, atol=1e-6
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
        seen, rewards, dones, _ = by_hand.step_wait()
        innovation = torch.from_numpy((by_hand.z - 0.9 * state["log_productivity"].numpy()) / 0.01)
        moved = market.transition(
            state,
            {"households": torch.from_numpy(actions).view(3, 5, 2)},
            {"innovation": innovation},
        )
        np.testing.assert_allclose(rewards, moved.rewards["households"].flatten(), rtol=1e-5)
        np.testing.assert_allclose(
            seen, market.observe(moved.state)["households"].flatten(0, 1), rtol=1e-4, atol=1e-5
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
        seen, _, dones, infos = worlds.step_wait()
        by_world = dones.reshape(6, 2)
        assert (by_world == (clock == 3)[:, None]).all()
        ended += by_world[:, 0]
        for row in range(12):
            assert ("terminal_observation" in infos[row]) == dones[row]
            if dones[row]:
                assert infos[row]["TimeLimit.truncated"]
                assert not np.allclose(infos[row]["terminal_observation"], seen[row])
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
    advance = jax.jit(jax.vmap(lambda *given: by_hand_jax.advance(parameters, *given)))
    for _ in range(50):
        actions = rng.uniform(-0.1, 0.6, (worlds, 5, 2)).astype(
            np.float32
        )  # some are out of bounds
        innovation = rng.standard_normal(worlds, np.float32)
        world, rewards = advance(world, actions, innovation)
        noise = {"innovation": torch.from_numpy(innovation[:, None])}
        moved = market.transition(state, {"households": torch.from_numpy(actions)}, noise)
        state = moved.state
        np.testing.assert_allclose(rewards, moved.rewards["households"], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(world.k, state["capital"], rtol=1e-4)
        seen = jax.vmap(by_hand_jax.observe)(world)
        np.testing.assert_allclose(seen, market.observe(state)["households"], rtol=1e-4, atol=2e-5)


def test_worlds_in_jax_start_anew_one_by_one() -> None:
    jax = pytest.importorskip("jax")
    from benchmarks.speed import by_hand_jax

    parameters = HouseholdsParameters(households=2, episode_length=4)
    world = by_hand_jax.begin_all(parameters, 6, jax.random.key(0))
    step = jax.jit(partial(by_hand_jax.step, parameters))
    ended = np.zeros(6, int)
    for t in range(4):
        found = step(jax.random.key(t), world, np.full((6, 2, 2), 0.3, np.float32))
        over = np.asarray(found.over)
        assert (over == (np.asarray(world.clock) == 3)).all()
        assert (np.asarray(found.world.clock)[over] == 0).all()
        assert ((np.asarray(found.world.k) != np.asarray(found.last.k)) == over[:, None]).all()
        np.testing.assert_allclose(
            found.seen, jax.vmap(by_hand_jax.observe)(found.world), rtol=1e-5, atol=1e-5
        )
        ended = ended + over
        world = found.world
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
    found = ppo.prepare(
        parameters, training, ppo.Sampled(*[values[..., None]] * 3, rewards, values, over, final)
    )
    following = np.concatenate(
        [values, np.asarray(ppo.value(training.weights, training.seen))[None]]
    )
    successor = np.where(over[..., None], final, following[1:])
    rows = [torch.from_numpy(x.reshape(len(x), -1)) for x in (rewards, following, successor)]
    not_done = torch.from_numpy(np.repeat(~over, 2, 1)).float()
    ours = generalized_advantages(*rows, not_done, parameters.beta, 0.95).numpy().ravel()
    np.testing.assert_allclose(found.targets, ours + values.ravel(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        found.advantages, (ours - ours.mean()) / ours.std(), rtol=1e-4, atol=1e-5
    )
    assert jax.tree.leaves(found)[0].shape == (36, 1)


def test_ppo_in_jax_learns() -> None:
    """All its weights move, and both actions go from .5 towards what is best at rest, .16 and
    .13."""
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
