"""Learners without gradients: tables as actors, from training to the exported policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from rl_markets import exported
from rl_markets.experiment import Experiment, parse
from rl_markets.policies.actors import NetworkActor, TableActor, build_actor
from rl_markets.training.run_folder import RunFolder
from rl_markets.training.session import TrainingSession
from rl_markets.training.trainer import Trainer
from tests.support.tables import WORTH, offer

TABLE = {"kind": "table", "observation": 2, "action": {"type": "discrete", "n": 3}, "copies": 2}
BEST = int(np.argmax(WORTH))


def experiment(**policy: Any) -> Experiment:
    data = {
        "name": "stalls",
        "market": {"name": "stalls", "worlds": 16},
        "policies": {"customer": {"groups": ["customers"], **policy}},
        "algorithm": {"name": "hedge", "parameters": {"gamma": 0.0}},
        "training": {"agent_steps": 16 * 3 * 8 * 40, "rollout_length": 8, "checkpoint_every": 20},
        "certificate": {"seeds": 2, "deviation_agent_steps": 0},
    }
    return parse(data, "test")


def test_a_table_is_a_mixed_strategy_of_each_agent() -> None:
    actor = build_actor(TABLE)
    assert isinstance(actor, TableActor)
    actor.weights.copy_(torch.tensor([[1.0, 3.0, 0.0], [2.0, 1.0, 1.0]]))
    observations = torch.zeros(5, 2, 2)
    shares = actor.probabilities(observations)
    assert shares.shape == (5, 2, 3)
    assert torch.equal(shares[4], torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.25, 0.25]]))
    assert torch.equal(actor.act(observations)[0], torch.tensor([1, 0]))
    assert torch.equal(actor.of_agent(1).probabilities(torch.zeros(1, 2))[0], shares[0, 1])
    assert torch.equal(actor.policy.probabilities(observations), shares)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match="actor kind 'tree': expected network or table"):
        build_actor({**TABLE, "kind": "tree"})
    box = {"type": "box", "low": [0.0], "high": [1.0]}
    with pytest.raises(ValueError, match="a table needs Discrete"):
        build_actor({**TABLE, "action": box})


def test_a_network_over_choices_has_probabilities_and_one_over_a_box_has_none() -> None:
    spec = {"observation": 2, "hidden": [4], "activation": "tanh", "log_std": 0.0}
    spec["trained_std"] = False
    discrete = build_actor({**spec, "action": {"type": "discrete", "n": 3}})
    shares = discrete.policy.probabilities(torch.randn(7, 2))
    assert shares is not None
    assert torch.allclose(shares.sum(-1), torch.ones(7))
    box = build_actor({**spec, "action": {"type": "box", "low": [0.0], "high": [1.0]}})
    assert isinstance(box, NetworkActor)
    assert box.policy.probabilities(torch.randn(7, 2)) is None


@pytest.mark.parametrize("separate", [False, True])
def test_a_learner_without_optimizer_or_metrics_reaches_its_runners(
    ray_once: None, monkeypatch: pytest.MonkeyPatch, separate: bool
) -> None:
    """Weights are sent for every learned policy, whether its learner reported anything or not."""
    offer(monkeypatch)
    with Trainer(experiment(separate=separate)) as trainer:
        rows = list(trainer.rows())
        local = trainer.algorithm.env_runner_group.local_env_runner.module["customer"].actor
        learned = trainer.actors()["customer"]
    assert len(rows) == 40
    assert isinstance(learned, TableActor)
    assert torch.equal(local.weights, learned.weights)
    assert learned.weights.argmax(-1).tolist() == [BEST] * (3 if separate else 1)
    assert rows[-1]["episode_return"] > rows[0]["episode_return"]


def test_a_table_is_exported_with_its_golden_actions(
    ray_once: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    offer(monkeypatch)
    run = RunFolder.create(experiment(), tmp_path)
    actors = TrainingSession(run, Console(quiet=True)).train()
    groups = {"policies": {"customer": {"groups": ["customers"]}}}
    exported.export(tmp_path / "policy", actors, groups)
    loaded = exported.load(tmp_path / "policy")
    assert isinstance(loaded.actors["customer"], TableActor)
    assert loaded.act([0.0]) == BEST
