"""Foreign PettingZoo environments are trained on, and their equilibrium is learned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from rl_markets import exported, workflow
from rl_markets.errors import RunFailedError
from rl_markets.experiment import Experiment, load, parse
from rl_markets.training.metrics_log import read_rows
from rl_markets.training.run_folder import RunFolder
from rl_markets.training.session import TrainingSession
from tests.support.running import ROOT, tiny
from tests.support.training_runs import trainer
from tests.support.zoo import ZOO


def zoo_experiment(**sections: Any) -> Experiment:
    """Two groups, two policies; agents leave and come."""
    parameters = {
        "env": ZOO,
        "arguments": {"lives": {"red_0": 4}, "born": {"red_1": 1}, "periods": 6},
        "groups": {"red": ["red_*"], "blue": ["blue_*"]},
        "discount": 0.5,
    }
    data = tiny(
        market={"name": "pettingzoo", "worlds": 4, "parameters": parameters},
        policies={
            "namer": {"groups": ["red"], "hidden": [8]},
            "hitter": {"groups": ["blue"], "hidden": [8]},
        },
        training={"agent_steps": 4 * 8 * 3 * 4},
    )
    del data["policies"]["household"]
    for name, fields in sections.items():
        data[name] |= fields
    return parse(data, "test")


def test_groups_with_policies_of_their_own_train_and_resume(ray_once: None, tmp_path: Path) -> None:
    """The agent whose deviations are tried leaves early; the other red one comes late."""
    run = workflow.train(zoo_experiment(certificate={"deviation_agent_steps": 200}), tmp_path)
    names = [metric["name"] for metric in json.loads(run.certificate.read_text())["metrics"]]
    assert names == ["best_response_gain/trained/red", "best_response_gain/trained/blue"]
    rows = read_rows(run)
    assert [row["env_steps"] for row in rows] == [32, 64, 96, 128]
    for name in ("namer", "hitter"):
        assert all(np.isfinite(row[f"{name}/policy_loss"]) for row in rows)
    resumed = []
    # From the same checkpoint always the same, though not what the whole run was.
    for _ in range(2):
        TrainingSession(run, Console(quiet=True)).train(run.checkpoints.path(2))
        resumed.append([(row["iteration"], row["namer/policy_loss"]) for row in read_rows(run)])
    assert resumed[0] == resumed[1]
    assert [iteration for iteration, _ in resumed[0]] == [1, 2, 3, 4]


def test_it_trains_on_a_runner_of_its_own(ray_once: None, tmp_path: Path) -> None:
    """In another process, which finds the environment by its import path.

    A policy for each, critics that see all.
    """
    market = {
        "name": "pettingzoo",
        "worlds": 4,
        "parameters": {"env": "rl_markets.envs.pettingzoo.example:Cournot"},
    }
    data = tiny(market=market, training={"runners": 1, "agent_steps": 2 * 64})
    data["policies"]["household"] |= {
        "groups": ["agents"],
        "separate": True,
        "central_critic": True,
    }
    run = trainer(tmp_path, data)
    run.train()
    assert [row["env_steps"] for row in read_rows(run.run)] == [32, 64]


def test_what_breaks_in_training_is_said_with_its_traceback(ray_once: None, tmp_path: Path) -> None:
    data = zoo_experiment().model_dump(mode="json")
    data["market"]["parameters"]["arguments"] = {"fault": "raise"}
    run = trainer(tmp_path, data)
    with pytest.raises(RunFailedError, match="iteration 1 failed: ZeroDivisionError") as failure:
        run.train()
    assert "zoo.py" in failure.value.details


@pytest.fixture(scope="module")
def learned(ray_once: None, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The shipped experiment, a quarter of its length."""
    overrides = ["training.agent_steps=40_000", "market.parameters.discount=0.5"]
    overrides += ["certificate.seeds=2", "certificate.deviation_agent_steps=20_000"]
    experiment = load(ROOT / "tune_configs" / "pettingzoo-cournot.yaml", overrides)
    return workflow.train(experiment, tmp_path_factory.mktemp("runs"))


def test_firms_learn_the_equilibrium_of_a_foreign_environment(learned: RunFolder) -> None:
    """Each sells a third of demand; before training, half of what it could."""
    demand = np.linspace(0.5, 1, 11, dtype=np.float32)[:, None]
    error = np.abs(exported.load(learned.path).act(demand) - demand / 3).max()
    random = np.abs(np.random.default_rng(0).uniform(0, 1, demand.shape) - demand / 3).max()
    assert error < 0.03
    assert random > 0.3


def test_its_page_shows_what_a_deviator_gains_and_no_answer(learned: RunFolder) -> None:
    certificate = json.loads(learned.certificate.read_text())
    assert certificate["market"] == "pettingzoo"
    assert certificate["answer"] is None
    assert certificate["passed"] is None
    names = [metric["name"] for metric in certificate["metrics"]]
    assert names == ["best_response_gain/trained/agents"]
    assert 0 <= certificate["metrics"][0]["value"] < 0.01
    page = learned.report.read_text()
    assert "gain of a trained deviator, agents" in page
    assert "Not examined against an answer, as none is known" in page
    assert "rl_markets.envs.pettingzoo.example:Cournot" in page
