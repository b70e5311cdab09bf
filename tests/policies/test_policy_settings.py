"""Policies with settings of their own: central critics, parameters, scripts, frozen policies."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from rl_markets import exported, workflow
from rl_markets.envs import households
from rl_markets.errors import ExperimentError
from rl_markets.experiment import load, parse
from rl_markets.policies.actors import NetworkActor
from rl_markets.policies.rollout import OBSERVATIONS, REWARDS
from rl_markets.training.metrics_log import read_rows
from rl_markets.training.run_folder import RunFolder
from rl_markets.training.session import TrainingSession
from tests.support.populations import built_algorithm, cournot_experiment, metric_names
from tests.support.running import tiny
from tests.support.training_runs import trainer

pytestmark = pytest.mark.usefixtures("ray_once", "cournot")


# -- central critics -------------------------------------------------------------------------------


def test_a_central_critic_sees_the_global_state_and_the_actor_does_not(tmp_path: Path) -> None:
    data = cournot_experiment(
        old={"groups": ["incumbents"], "central_critic": True},
        new={"groups": ["entrants"], "separate": True},
    )
    algorithm = built_algorithm(parse(data, "test"))
    try:
        runner = algorithm.env_runner_group.local_env_runner
        learner = algorithm.learner_group._learner
        fragments = runner.sample()[0].fragments
        old = fragments["old"]
        assert old.columns[OBSERVATIONS].shape[-1] == 2
        assert fragments["new"].columns[OBSERVATIONS].shape[-1] == 1
        torch.testing.assert_close(
            old.columns[OBSERVATIONS][..., 0], old.columns[OBSERVATIONS][..., 1]
        )
        assert old.ends.observations.shape[-1] == 2
        assert learner.networks("old").critic.net[0].in_features == 2
        assert learner.networks("old").actor.net[0].in_features == 1
        algorithm.train()
    finally:
        algorithm.stop()


def test_a_central_critic_needs_a_global_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(households, "SPEC", replace(households.SPEC, global_state=False))
    data = tiny(policies={"household": {"groups": ["households"], "central_critic": True}})
    message = "central_critic: market 'households' gives no global state"
    with pytest.raises(ExperimentError, match=message):
        parse(data, "test")


def test_households_train_with_a_central_critic(tmp_path: Path) -> None:
    section = {"groups": ["households"], "hidden": [8], "central_critic": True, "separate": True}
    run = trainer(tmp_path, tiny(policies={"household": section}))
    assert run.train()["household"].spec["observation"] == 7
    assert np.isfinite(read_rows(run.run)[-1]["household/value_loss"])


# -- parameters of one policy ----------------------------------------------------------------------


def test_each_policy_has_its_own_parameters(tmp_path: Path) -> None:
    still = {"learning_rate": 1e-12, "critic_learning_rate": 1e-12}
    data = cournot_experiment(
        old={"groups": ["incumbents"], "parameters": still}, new={"groups": ["entrants"]}
    )
    run = trainer(tmp_path, data)
    before = {}
    for policy, spec in _specs(run).items():
        generator = torch.Generator().manual_seed(spec.model_config["seed"])
        before[policy] = NetworkActor(spec.model_config["actor"], generator).net[0].weight
    after = run.train()
    assert float((after["old"].net[0].weight - before["old"]).abs().max()) < 1e-7
    assert float((after["new"].net[0].weight - before["new"]).abs().max()) > 1e-3


def _specs(run: TrainingSession) -> dict[str, Any]:
    from rl_markets.rllib.build import algorithm_config

    specs: dict[str, Any] = algorithm_config(run.experiment).rl_module_spec.rl_module_specs
    return specs


# -- scripts and frozen policies -------------------------------------------------------------------


def test_a_script_plays_its_groups_and_is_not_learned(tmp_path: Path) -> None:
    data = cournot_experiment(
        old={"groups": ["incumbents"]}, new={"groups": ["entrants"], "scripted": "nash"}
    )
    data["certificate"]["deviation_agent_steps"] = 8 * 8 * 4
    run = workflow.train(parse(data, "test"), tmp_path)
    assert not any(name.startswith("new/") for name in read_rows(run)[0])
    assert "best_response_gain/trained/entrants" not in metric_names(run)
    loaded = exported.load(run.path)
    assert set(loaded.actors) == {"old"}
    with pytest.raises(ValueError, match="group 'entrants' follows the rule 'nash'"):
        loaded.act(np.zeros((1,)), "entrants")
    errors = {m["name"]: m["value"] for m in json.loads(run.certificate.read_text())["metrics"]}
    assert errors["quantity_error/entrants"] < 1e-4 < errors["quantity_error/incumbents"]


def test_a_frozen_policy_acts_as_it_was_exported_even_when_its_source_changes(
    tmp_path: Path,
) -> None:
    first = workflow.train(parse(cournot_experiment(), "test"), tmp_path)
    data = cournot_experiment(
        old={"groups": ["incumbents"]}, new={"groups": ["entrants"], "frozen": str(first.path)}
    )
    second = RunFolder.create(parse(data, "test"), tmp_path)
    kept = second.experiment.policies["new"].frozen
    assert kept is not None
    assert Path(kept).is_relative_to(second.path)
    actors = TrainingSession(second, Console(quiet=True)).train()
    workflow._finish(second, actors, Console(quiet=True))
    a = exported.load(first.path).actors["new"]
    b = exported.load(second.path).actors["new"]
    assert all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


def test_what_cannot_be_frozen_or_scripted_is_one_line(tmp_path: Path) -> None:
    def refusal(**policies: dict[str, Any]) -> str:
        file = tmp_path / "experiment.yaml"
        file.write_text(yaml.safe_dump(cournot_experiment(**policies)))
        with pytest.raises(ExperimentError) as caught:
            load(file)
        return str(caught.value)

    old: dict[str, Any] = {"groups": ["incumbents"]}
    new: dict[str, Any] = {"groups": ["entrants"]}
    cases: list[tuple[dict[str, Any], str]] = [
        (
            {"scripted": "nahs"},
            "scripted: market 'cournot' has no rule 'nahs' (did you mean 'nash'?)",
        ),
        ({"frozen": "nowhere"}, "frozen = 'nowhere': holds no exported policy"),
        ({"scripted": "nash", "separate": True}, "separate: this policy does not learn"),
        ({"parameters": {"epochs": 3}}, "parameters.epochs: all policies share it"),
        ({"parameters": {"learning_rate": -1}}, "parameters.learning_rate = -1"),
    ]
    for settings, message in cases:
        assert f"policies.new.{message}" in refusal(old=old, new=new | settings)
    both = refusal(old=old, new=new | {"scripted": "nash", "frozen": "x"})
    assert "scripted and frozen are both given" in both
    nobody = refusal(old=old | {"scripted": "nash"}, new=new | {"scripted": "nash"})
    assert "none of them learns" in nobody


def test_a_script_may_be_any_function(tmp_path: Path) -> None:
    old = {"groups": ["incumbents"]}
    new = {"groups": ["entrants"]}
    run = trainer(tmp_path, cournot_experiment(old=old, new={**new, "scripted": "torch:abs"}))
    algorithm = built_algorithm(run.experiment)
    try:
        rollout = algorithm.env_runner_group.local_env_runner.sample()[0]
    finally:
        algorithm.stop()
    assert torch.isfinite(rollout.fragments["old"].columns[REWARDS]).all()
    unknown = cournot_experiment(old=old, new={**new, "scripted": "torch:nothing"})
    with pytest.raises(ExperimentError, match=r"policies.new.scripted = 'torch:nothing'"):
        trainer(tmp_path, unknown)
