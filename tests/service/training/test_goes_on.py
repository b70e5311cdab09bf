"""A run goes on longer, elsewhere, or looked at otherwise; what it learns stays the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from rl_markets import exported, workflow
from rl_markets.errors import ExperimentError, RunFailedError
from rl_markets.experiment import parse
from rl_markets.training.metrics_log import read_rows
from rl_markets.training.run_folder import RunFolder
from tests.support.running import tiny

pytestmark = [pytest.mark.usefixtures("ray_once"), pytest.mark.slow]

STEPS = 4 * 8 * 3
"""Agent steps of an iteration."""
FLAT = {"learning_rate": 1e-3, "final_learning_rate": 1e-3, "minibatches": 1}


@pytest.fixture(autouse=True, scope="module")
def uncertified() -> Iterator[None]:
    """Certificates are not what is looked at here: they would take most of the time."""

    def certify(run: RunFolder, out: Console) -> None:
        run.certificate.write_text(run.experiment.digest)
        run.report.write_text(run.experiment.digest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "_certify", certify)
        yield


def trained(folder: Path, iterations: int, **training: Any) -> RunFolder:
    """A tiny run, to its report. Its step size does not depend on how long it is."""
    data = tiny(training={"agent_steps": STEPS * iterations, **training})
    data["algorithm"] = {"name": "ppo", "parameters": {**FLAT, "entropy_weight": 0.0}}
    return workflow.train(parse(data, "test"), folder)


def times(run: RunFolder) -> dict[str, int]:
    """When each file was written, but for that of who writes."""
    return {p.name: p.stat().st_mtime_ns for p in run.path.iterdir() if p.name != ".lock"}


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return exported.load(run.path).actors["household"].state_dict()


def test_a_finished_run_goes_on_with_the_bytes_of_a_longer_one(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", 8)
    run = trained(tmp_path / "short", 4)
    short = weights(run)
    on = workflow.resume(run.path, [f"training.agent_steps={STEPS * 8}", "certificate.seeds=3"])
    assert on.experiment.training.agent_steps == STEPS * 8
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(on).items())
    rows = [[r["iteration"], r["env_steps"], r["distance"]] for r in read_rows(on)]
    assert rows[-1] == [
        *(8, 8 * 32),
        read_rows(whole)[-1]["distance"],
    ]
    assert len(rows) == 8
    kept = exported.load(run.path / "until-00000004").actors["household"].state_dict()
    assert all(torch.equal(value, short[name]) for name, value in kept.items())
    assert (run.path / "until-00000004" / "certificate.json").read_text() == run.experiment.digest
    assert on.certificate.read_text() == on.experiment.digest != run.experiment.digest
    again = RunFolder.open(run.path)
    assert again.experiment.certificate.seeds == 3


def test_a_run_goes_on_with_runners(tmp_path: Path) -> None:
    run = trained(tmp_path, 4)
    on = workflow.resume(
        run.path, ["training.runners=2", f"training.agent_steps={STEPS * 9}", "summary=longer"]
    )
    steps = [row["env_steps"] for row in read_rows(on)]
    assert steps == [32, 64, 96, 128, 192, 256, 320]
    assert on.report.is_file()


def test_a_run_that_was_cut_off_goes_on_with_other_settings(tmp_path: Path) -> None:
    run = trained(tmp_path, 6)
    for name in ("report.html", "certificate.json"):
        (run.path / name).unlink()
    on = workflow.resume(run.path, ["training.checkpoint_every=1"])
    assert on.experiment.training.checkpoint_every == 1
    assert on.report.is_file()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("market.worlds=8", "-o market.worlds=8: would change what is learned"),
        ("seed=3", "-o seed=3: would change what is learned"),
        ("algorithm.parameters.epochs=9", "would change what is learned"),
        ("training.rollout_length=4", "would change what is learned"),
        ("policies.household.hidden=[9]", "would change what is learned"),
        ("training=7", "would change what is learned"),
        ("training.agent_steps=-1", "training.agent_steps = -1: expected >= 1"),
        ("training.runners=100000", "training.runners"),
        ("certificate.seed=3", "certificate.seed: unknown field (did you mean 'seeds'?)"),
    ],
)
def test_what_changes_the_problem_is_refused_and_nothing_has_changed(
    trained_once: RunFolder, override: str, said: str
) -> None:
    before = times(trained_once)
    with pytest.raises((ExperimentError, ValueError)) as caught:
        workflow.resume(trained_once.path, [override])
    assert said in str(caught.value)
    assert times(trained_once) == before


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory: pytest.TempPathFactory, ray_once: None) -> RunFolder:
    return trained(tmp_path_factory.mktemp("run"), 4)


def test_learners_that_replay_cannot_be_more(tmp_path: Path) -> None:
    data = tiny()
    data["algorithm"] = {"name": "sac", "parameters": {"updates": 1, "batch_size": 16}}
    run = RunFolder.create(parse(data, "test"), tmp_path)
    with pytest.raises(ExperimentError, match="keeps a replay of its own"):
        workflow.resume(run.path, ["training.learners=2"])


def test_a_checkpoint_of_another_problem_is_refused(trained_once: RunFolder) -> None:
    file = trained_once.experiment_file
    text = file.read_text()
    try:
        file.write_text(text.replace("epochs: 10", "epochs: 3").replace("seed: 0", "seed: 1", 1))
        (trained_once.report).rename(trained_once.path / "kept.html")
        with pytest.raises(RunFailedError, match="written by another experiment"):
            workflow.resume(trained_once.path)
    finally:
        file.write_text(text)
        (trained_once.path / "kept.html").rename(trained_once.report)
