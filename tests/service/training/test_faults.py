"""Processes die: a runner costs its fragment, a learner sends the run back to its checkpoint.

Nothing else is lost.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from rl_markets.experiment import parse
from rl_markets.training.metrics import Row
from rl_markets.training.metrics_log import read_rows
from rl_markets.training.run_folder import RunFolder
from rl_markets.training.session import TrainingSession
from rl_markets.training.trainer import Trainer, each_learner
from tests.support.running import tiny

pytestmark = [pytest.mark.usefixtures("ray_once"), pytest.mark.slow]


class _Watched(Trainer):
    """Calls `before` ahead of each iteration."""

    before: Callable[[int], None]

    def iterate(self, iteration: int) -> Row:
        self.before(iteration)
        return super().iterate(iteration)


def watched(
    folder: Path, training: dict[str, Any], console: Console | None = None
) -> TrainingSession:
    experiment = parse(tiny(training={"checkpoint_every": 3, **training}), "test")
    trainer = _Watched(experiment)
    trainer.before = lambda iteration: None
    return TrainingSession(
        RunFolder.create(experiment, folder), console or Console(quiet=True), trainer
    )


def _runners(run: TrainingSession) -> list[int]:
    group = run.trainer.algorithm.env_runner_group
    pids: list[int] = group.foreach_env_runner(lambda _: os.getpid(), local_env_runner=False)
    return pids


def test_a_killed_runner_costs_its_fragment_and_comes_back(tmp_path: Path) -> None:
    lines = Console(record=True, width=200, file=(tmp_path / "out").open("w"))
    run = watched(tmp_path, {"runners": 2, "agent_steps": 2 * 4 * 8 * 3 * 80}, lines)
    first: list[int] = []

    def kill(iteration: int) -> None:
        if iteration == 3:
            first.extend(_runners(run))
            threading.Timer(0.005, os.kill, (first[0], signal.SIGKILL)).start()  # while it samples
        if iteration == 80:
            assert first[1] in _runners(run)
            assert len(_runners(run)) == 2
            assert first[0] not in _runners(run)

    run.trainer.before = kill  # type: ignore[attr-defined]
    run.train()
    rows = read_rows(run.run)
    assert [r["env_steps"] for r in rows] == [64 * i for i in range(1, 81)]
    assert "a runner's process died; no step is lost" in lines.export_text()


def test_a_runner_that_dies_while_the_learner_updates_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights cannot reach it: nothing was being sampled, and the user still hears of it."""
    lines = Console(record=True, width=200, file=(tmp_path / "out").open("w"))
    run = watched(tmp_path, {"runners": 2, "agent_steps": 2 * 4 * 8 * 3 * 40}, lines)

    def arrange(iteration: int) -> None:
        group = run.trainer.algorithm.learner_group
        update = group.update

        def update_and_kill(**arguments: Any) -> Any:
            results = update(**arguments)
            monkeypatch.undo()
            os.kill(_runners(run)[0], signal.SIGKILL)
            time.sleep(2.0)  # until its death is known
            return results

        if iteration == 3:
            monkeypatch.setattr(group, "update", update_and_kill)

    run.trainer.before = arrange  # type: ignore[attr-defined]
    run.train()
    assert [r["env_steps"] for r in read_rows(run.run)] == [64 * i for i in range(1, 41)]
    assert lines.export_text().count("a runner's process died; no step is lost") == 1


def test_all_runners_may_be_killed_at_once(tmp_path: Path) -> None:
    run = watched(tmp_path, {"runners": 2, "agent_steps": 2 * 4 * 8 * 3 * 5})

    def kill(iteration: int) -> None:
        if iteration == 3:
            for pid in _runners(run):
                os.kill(pid, signal.SIGKILL)

    run.trainer.before = kill  # type: ignore[attr-defined]
    run.train()
    assert [r["env_steps"] for r in read_rows(run.run)] == [64 * i for i in range(1, 6)]


def test_a_killed_learner_ends_in_the_same_weights_as_if_it_had_lived(tmp_path: Path) -> None:
    """Training goes on from the newest checkpoint by itself.

    With the same bytes (one local runner).
    """
    training = {"learners": 2, "agent_steps": 4 * 8 * 3 * 8}
    lines = Console(record=True, width=200, file=(tmp_path / "out").open("w"))
    undisturbed = watched(tmp_path, training)
    killed = watched(tmp_path, training, lines)
    expected = undisturbed.train()["household"].state_dict()
    done: list[int] = []

    def kill(iteration: int) -> None:
        if iteration == 5 and not done:
            done.append(each_learner(killed.trainer.algorithm, lambda _: os.getpid())[1])
            os.kill(done[0], signal.SIGKILL)

    killed.trainer.before = kill  # type: ignore[attr-defined]
    weights = killed.train()["household"].state_dict()
    assert done
    assert "a learner's process died; going on from iteration 3" in lines.export_text()
    assert [r["env_steps"] for r in read_rows(killed.run)] == [32 * i for i in range(1, 9)]
    for name, value in expected.items():
        assert torch.equal(weights[name], value), name
