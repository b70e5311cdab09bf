"""Learning from logs of seasons alone: learners, files, the command, the comparison."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rl_markets import exported
from rl_markets.envs.pricing import solution as known
from rl_markets.errors import ExperimentError
from rl_markets.experiment import load
from rl_markets.experiment.yaml_file import dump_yaml
from rl_markets.sales.offline.compare import answer_of, compare, learn, observations, transitions
from rl_markets.sales.offline.cql import CQLSettings, Transitions, train
from rl_markets.sales.offline.log import Decisions, read_decisions
from tests.support.running import ROOT, command
from tests.support.seasons import (
    BROAD,
    INCUMBENT,
    PRICES,
    STOCK,
    Array,
    answered,
    logged,
    season_of,
    table_of,
)
from tests.support.selling import write

NARROW = np.array([0, 0, 0, 0.1, 0.8, 0.1, 0, 0, 0])
QUICK = CQLSettings(steps=2000)


# -- learning --------------------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", [BROAD, NARROW], ids=["broad", "narrow"])
def test_the_learner_is_no_worse_than_the_logger(behaviour: Array) -> None:
    """By at most a point of the optimum, judged exactly; from 30 seasons and from 300."""
    answer = answered(15)
    best = answer.optimum.total
    for seasons in (30, 300):
        log = logged(answer.season, seasons, 1, behaviour)
        _, learned = learn(log, answer, QUICK, 0)
        logger = known.evaluate(answer.season, table_of(answer.season, behaviour))[0, -1]
        assert answer.worth(learned) / best >= logger / best - 0.01


def test_the_same_seed_learns_the_same_and_the_network_can_be_exported(tmp_path: Path) -> None:
    answer = answered(5)
    log = logged(answer.season, 20, 0)
    brief = CQLSettings(steps=30, hidden=(8,))
    (one, table), (same, _), (other, _) = (learn(log, answer, brief, seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs)
    exported.export(
        tmp_path / "policy", {"seller": one}, {"policies": {"seller": {"groups": ["seller"]}}}
    )
    obs = observations(answer)
    choices = exported.load(tmp_path / "policy").act(obs[:-1].numpy())
    np.testing.assert_array_equal(choices[..., 0], table)


def test_conservative_values_stay_below_those_of_plain_q_learning() -> None:
    """What alpha is for: choices that were never logged are not believed to be better."""
    rng = np.random.default_rng(0)
    obs = torch.ones(500, 1)
    choices = torch.from_numpy(rng.integers(0, 2, 500))
    rewards = torch.from_numpy(100.0 + 50 * choices.numpy()).float()
    rows = Transitions(obs, choices, rewards, obs, torch.ones(500, dtype=torch.bool))
    values = train(rows, 4, CQLSettings(steps=800, hidden=(16,)))(obs[:1])[0]
    assert int(values.argmax()) == 1
    assert values[2:].max() < values[:2].min() - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [("choice", "outside 0..1"), ("reward", "rewards hold"), ("none", "no tr")],
)
def test_bad_transitions_are_refused(change: str, message: str) -> None:
    size = 0 if change == "none" else 3
    choices = torch.full((size,), 5 if change == "choice" else 0)
    rewards = torch.full((size,), torch.inf if change == "reward" else 1.0)
    obs = torch.zeros(size, 1)
    with pytest.raises(ValueError, match=message):
        train(Transitions(obs, choices, rewards, obs, torch.ones(size, dtype=torch.bool)), 2)


def test_transitions_end_with_stock_or_season() -> None:
    answer = answered(5)
    log = logged(answer.season, 40, 0)
    rows = transitions(log, observations(answer))
    assert len(rows.choices) == int(log.deciding.sum())
    assert int(rows.ended.sum()) == 40
    assert float(rows.rewards.sum()) == pytest.approx(float(log.reward.sum()))


# -- files -----------------------------------------------------------------------------------------


def rows_of(log: Decisions) -> list[dict[str, Any]]:
    """As a shop writes them: nothing after the last unit is sold."""
    return [
        {
            "season": f"s{n}",
            "period": t,
            "stock": log.stock[t, n],
            "choice": log.action[t, n],
            "price": PRICES[log.action[t, n]],
            "sales": log.sales[t, n],
            "reward": log.reward[t, n],
            "propensity": log.propensity[t, n],
        }
        for n in range(log.seasons)
        for t in range(len(log.action))
        if log.stock[t, n] > 0
    ]


def test_a_written_log_reads_as_it_was(tmp_path: Path) -> None:
    season = season_of(15)
    log = logged(season, 12, 0)
    rows = rows_of(log)
    np.random.default_rng(0).shuffle(rows)  # type: ignore[arg-type]
    decisions = read_decisions(write(tmp_path / "log.csv", rows), season)
    order = [int(name[1:]) for name in sorted(f"s{n}" for n in range(12))]
    np.testing.assert_array_equal(decisions.stock, log.stock[:, order])
    np.testing.assert_allclose(decisions.reward, log.reward[:, order])
    np.testing.assert_allclose(decisions.propensity, log.propensity[:, order])


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "propensity": (
        {"propensity": 0},
        "log.csv line 4, column propensity: found 0, expected a number above 0 to 1",
    ),
    "blank": (
        {"propensity": ""},
        "line 4, column propensity: found nothing, expected a number above 0 to 1",
    ),
    "choice": (
        {"choice": 9},
        "line 4, column choice: found 9, expected a whole number from 0 to 8",
    ),
    "price": ({"price": 123}, "line 4, column price: found 123.0, expected"),
    "sales": ({"sales": 11}, "line 4, column sales: found 11, expected at most the stock"),
    "reward": ({"reward": -5}, "line 4, column reward: found -5.0, expected"),
    "period": (
        {"period": 15},
        "line 4, column period: found 15, expected a whole number from 0 to 14",
    ),
    "gap": ({"period": 9}, "expected each period of a season once, from 0 on"),
    "stock": (
        {"stock": 0, "sales": 0, "reward": 0},
        "line 4, column stock: found 0, expected what the period before left",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_named(case: str, tmp_path: Path) -> None:
    season = season_of(15)
    rows = rows_of(logged(season, 3, 0))
    rows[2] |= BAD[case][0]
    with pytest.raises(ExperimentError) as refusal:
        read_decisions(write(tmp_path / "log.csv", rows), season)
    assert BAD[case][1] in str(refusal.value)


def test_a_season_that_starts_or_stops_in_the_middle_is_named(tmp_path: Path) -> None:
    season = season_of(15)
    rows = rows_of(logged(season, 1, 0))
    message = "expected the season to go on to period 14 while there is stock"
    with pytest.raises(ExperimentError, match=message):
        read_decisions(write(tmp_path / "log.csv", rows[:2]), season)
    message = "found 10, expected 12, with which the experiment starts"
    with pytest.raises(ExperimentError, match=message):
        read_decisions(write(tmp_path / "log.csv", rows), season_of(15, stock=12))


def experiment_file(folder: Path) -> Path:
    """The season of Gallego and van Ryzin, cut to 15 days and 10 units."""
    data = copy.deepcopy(load(ROOT / "tune_configs" / "pricing-gvr.yaml").model_dump(mode="json"))
    data["market"]["parameters"] |= {"periods": 15, "stock": {"units": [STOCK]}}
    path = folder / "experiment.yaml"
    path.write_text(dump_yaml(data))
    return path


def test_the_command_compares_and_exports_and_refuses_a_log_without_propensities(
    tmp_path: Path,
) -> None:
    experiment = experiment_file(tmp_path)
    rows = rows_of(logged(season_of(15), 200, 0))
    log = write(tmp_path / "log.csv", rows)
    done = command("offline", log, experiment, "--steps", "100", "--export", tmp_path / "policy")
    assert done.returncode == 0, done.stderr
    for expected in (
        "refused for CQL: IS, WIS, per-decision IS, doubly robust",
        "whose optimum is",
        "logger",
    ):
        assert expected in done.stdout
    assert list(exported.load(tmp_path / "policy").groups) == ["seller"]
    write(log, [{k: v for k, v in r.items() if k != "propensity"} for r in rows])
    done = command("offline", log, experiment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no column propensity, the probability with which each choice was made" in done.stderr


def test_markets_without_a_plain_season_are_refused() -> None:
    for name in ("pricing-profit", "households-rbc"):
        with pytest.raises(ExperimentError, match="one product, stock and a deadline"):
            answer_of(load(ROOT / "tune_configs" / f"{name}.yaml"), "x.yaml")
    with pytest.raises(ExperimentError, match="without guard-rails"):
        answer_of(load(ROOT / "tune_configs" / "pricing-clearance.yaml"), "x.yaml")


def test_the_comparison_names_each_policy_and_tells_exact_values() -> None:
    """Fit-then-plan beats both where demand is of its family; no figure is a network's own."""
    answer = answered(15)
    log = logged(answer.season, 300, 2)
    judged = {j.name: j for j in compare(log, answer, np.full((15, STOCK + 1), INCUMBENT))}
    assert list(judged) == [
        "logger",
        "CQL",
        "CQL, 20 % of decisions",
        "fit-then-plan",
        "fit-then-plan, 20 % of decisions",
    ]
    assert judged["logger"].effective == pytest.approx(300)
    assert judged["fit-then-plan"].exact > 0.99 * answer.optimum.total
    model = judged["CQL"].estimates["model"]
    assert model.low < judged["CQL"].exact < model.high
