"""Each measurement of `make bench` runs, at a tiny size, and says what it should.

No timing is asserted.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import accuracy, economy, rounds, start_up
from benchmarks.speed import measurements as bench
from rl_markets.errors import ExperimentError

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
    certificates=("pricing-duopoly",),
    certificate=("certificate.seeds=2", "training.agent_steps=16384"),
    deviator_steps=512,
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
    figures = MEASURED[name].measure(0.01, said.append)
    for row in figures["rows"]:
        assert 0 < row["lowest"] <= row["highest"] < math.inf
        figure = row["ours"] if row["theirs"] is None else row["ratio"]
        assert row["lowest"] <= figure <= row["highest"]
        if row["theirs"] is not None:
            assert row["against"]
            assert min(row["ours"], row["theirs"]) > 0
    assert any(line.startswith("round 2/2") for line in said) or not figures["rows"]
    json.dumps(figures, allow_nan=False)
    return figures


def test_market_alone() -> None:
    assert [row["target"] for row in measured("market_alone")["rows"]] == [5e6, 3e3]


def test_pricing_alone() -> None:
    rows = measured("pricing_alone")["rows"]
    assert [row["against"] for row in rows] == [None, "gymnasium, numpy", "gymnasium, plain Python"]
    assert [row["target"] for row in rows] == [1e5, 20.0, 20.0]


@pytest.mark.usefixtures("ray_once")
class TestBesideRLlib:
    def test_pricing_dqn(self) -> None:
        figures = measured("pricing_dqn")
        assert [row["target"] for row in figures["rows"]] == [10.0]
        assert figures["stock_envs"] == 2
        losses = figures["equal_time"]
        assert losses["our_steps"] == 64
        assert 0 <= losses["ours"] <= 100
        assert 0 <= losses["theirs"] <= 100

    def test_certificate(self) -> None:
        figures = measured("certificate")
        assert [row["target"] for row in figures["rows"]] == [2.0]

    def test_ppo(self) -> None:
        figures = measured("ppo")
        assert [row["target"] for row in figures["rows"]] == [None, 15.0]
        assert figures["stock_envs"] == 1

    def test_sac_has_the_same_networks_on_all_sides(self) -> None:
        figures = measured("sac")
        assert [row["against"] for row in figures["rows"]] == [
            "RLlib's own",
            "plain torch",
            "RLlib's own",
        ]
        assert figures["agent_steps_per_update"] == {"ours": 12, "RLlib's own": 3}
        weights = figures["parameters"]
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
        figures = measured("vectorised")
        alone = figures["rows"][:3]
        training = figures["rows"][3:]
        sizes = ["1 x 3 households", "2 x 3 households", "1 x 5 households"]
        assert [row["what"] for row in alone] == [f"the market alone, {size}" for size in sizes]
        assert [row["what"] for row in training] == [
            "PPO, 2 x 3 households, 4 steps",
            "PPO, 1 x 3 households, 8 steps",
        ]
        assert {row["target"] for row in figures["rows"]} == {None}
        assert all(spent > 0 for spent in figures["compile_seconds"].values())
        assert "compile time is not counted" in "\n".join(figures["notes"])


@pytest.mark.usefixtures("ray_once")
def test_accuracy_is_nan_where_it_was_not_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("stable_baselines3")
    monkeypatch.setattr(
        accuracy, "ROUTES", (("households-full-depreciation", {"-analytic": 20.0}),)
    )
    bench.run(0.1, tmp_path / "bench.json", ["accuracy"])
    figures = json.loads((tmp_path / "bench.json").read_text())["accuracy"]
    assert [row["target"] for row in figures["rows"]] == [20.0]
    # So short a training brings nobody within 1 %.
    assert all(row["ratio"] == "NaN" for row in figures["rows"])
    assert len(figures["notes"]) == 2  # and neither theirs


@pytest.mark.parametrize(("name", "extra"), [("sb3", "sb3"), ("vectorised", "jax")])
def test_a_library_that_is_missing(name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"benchmarks.speed.{name}.find_spec", lambda name: None)
    figures = measured(name)
    assert figures["rows"] == []
    assert f"pip install 'rl-markets[{extra}]'" in figures["notes"][0]


# -- start-up --------------------------------------------------------------------------------------

STUB = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit({code})); "
    "{said}; time.sleep({sleep})"
)


def test_start_up_is_the_time_to_the_first_iteration() -> None:
    stub = STUB.format(code=143, said="print('iteration 1/9: 5 steps', flush=True)", sleep=60)
    cost = start_up.started([sys.executable, "-c", stub])
    assert 0 < cost["wall"] < 60
    assert cost["cpu"] > 0
    assert 1 < cost["memory"] < 10_000


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

    rates_of = rounds.in_turns({"a": work("a"), "b": work("b")}, 0.0, 2, lambda line: None)
    assert order == ["a", "b", "b", "a"]
    assert [len(rates) for rates in rates_of.values()] == [2, 2]


def test_prints_a_table_and_writes_what_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run(0.01, tmp_path / "bench.json", ["market_alone"])
    ((name, figures),) = json.loads((tmp_path / "bench.json").read_text()).items()
    assert name == "market_alone"
    shown = capsys.readouterr().out
    assert "the market alone" in shown
    assert all(row["what"] in shown for row in figures["rows"])


def test_an_unknown_measurement_is_refused_before_anything_runs() -> None:
    message = r"--only nothing: expected one of start_up, market_alone, ppo"
    with pytest.raises(ExperimentError, match=message):
        bench.run(1.0, None, ["ppo", "nothing"])
