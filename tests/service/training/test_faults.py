"""Processes die: a runner costs its fragment, a learner sends the run back to its checkpoint.

Nothing else is lost.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from rl_markets.errors import RunFailedError
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


@pytest.mark.parametrize("returns", [True, False])
def test_a_runner_that_dies_while_the_learner_updates_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returns: bool
) -> None:
    """The weights cannot reach it: nothing was being sampled, and the user still hears of it.

    At once, however long its process takes to start anew; and what it then samples, it samples with
    the weights of the others.
    """
    lines = Console(record=True, width=200, file=(tmp_path / "out").open("w"))
    run = watched(tmp_path, {"runners": 2, "agent_steps": 2 * 4 * 8 * 3 * 40}, lines)

    def arrange(iteration: int) -> None:
        algorithm = run.trainer.algorithm
        update = algorithm.learner_group.update

        def update_and_kill(**arguments: Any) -> Any:
            results = update(**arguments)
            monkeypatch.undo()
            if not returns:
                monkeypatch.setattr(algorithm, "restore_env_runners", lambda group: [])
            manager = algorithm.env_runner_group._worker_manager
            os.kill(_runners(run)[0], signal.SIGKILL)
            manager.set_actor_state(manager.actor_ids()[0], healthy=False)  # as RLlib finds it
            return results

        if iteration == 3:
            monkeypatch.setattr(algorithm.learner_group, "update", update_and_kill)
        if iteration == 4:
            assert "a runner's process died; no step is lost" in lines.export_text(clear=False)
        if iteration == 40 and returns:
            assert len(set(_weights(run))) == 1

    run.trainer.before = arrange  # type: ignore[attr-defined]
    run.train()
    assert [r["env_steps"] for r in read_rows(run.run)] == [64 * i for i in range(1, 41)]
    assert lines.export_text().count("a runner's process died; no step is lost") == 1


def _weights(run: TrainingSession) -> list[bytes]:
    """The first weights of each runner that answers, as bytes."""
    group = run.trainer.algorithm.env_runner_group
    weights: list[bytes] = group.foreach_env_runner(_first_weights, local_env_runner=False)
    return weights


def _first_weights(runner: Any) -> bytes:
    module = runner.module["household"]
    return next(iter(module.state_dict().values())).cpu().numpy().tobytes()  # type: ignore[no-any-return]


def test_runners_that_die_as_often_as_they_start_end_the_run(tmp_path: Path) -> None:
    run = watched(tmp_path, {"runners": 1, "agent_steps": 4 * 8 * 3 * 5})

    def kill_always(iteration: int) -> None:
        algorithm = run.trainer.algorithm
        restore = algorithm.restore_env_runners

        def restore_and_kill(group: Any) -> list[int]:
            restored: list[int] = restore(group)
            if restored:
                os.kill(_runners(run)[0], signal.SIGKILL)
            return restored

        if iteration == 3:
            algorithm.restore_env_runners = restore_and_kill
            os.kill(_runners(run)[0], signal.SIGKILL)

    run.trainer.before = kill_always  # type: ignore[attr-defined]
    with pytest.raises(RunFailedError, match="runners' processes died 4 times in one iteration"):
        run.train()


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
