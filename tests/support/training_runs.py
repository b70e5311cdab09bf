"""Runs of tests, and their learner looked at whenever it is saved or restored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from rl_markets.experiment import parse
from rl_markets.training.run_folder import RunFolder
from rl_markets.training.session import TrainingSession
from tests.support.running import tiny

Look = Callable[[Any], object]
"""What is done with RLlib's algorithm."""


def trainer(folder: Path, data: dict[str, Any] | None = None) -> TrainingSession:
    """A new run under `folder`, of the tiny experiment if no other is given."""
    experiment = parse(tiny() if data is None else data, "test")
    return TrainingSession(RunFolder.create(experiment, folder), Console(quiet=True))


def after_each_save(run: TrainingSession, look: Look) -> None:
    """`train` stops the algorithm: the last save is the last time to see it."""
    save = run.trainer.save

    def saved(folder: Path) -> None:
        save(folder)
        look(run.trainer.algorithm)

    run.trainer.save = saved  # type: ignore[method-assign]


def after_restoring(run: TrainingSession, spoil: Callable[[Any], object]) -> None:
    """Spoils what a checkpoint gave the (one, local) learner, to show that it was needed."""
    restore = run.trainer.restore

    def restored(folder: Path, *rest: Any) -> None:
        restore(folder, *rest)
        spoil(run.trainer.algorithm.learner_group._learner)

    run.trainer.restore = restored  # type: ignore[method-assign]


def hashed(run: TrainingSession, checkpoint: Path | None = None) -> str:
    """Trains, and hashes all parameters as they are at the last save."""
    hashes: list[str] = []
    after_each_save(run, lambda algorithm: hashes.append(parameter_hash(algorithm)))
    run.train(checkpoint)
    return hashes[-1]


def parameter_hash(algorithm: Any) -> str:
    """sha256 of all parameters of an RLlib algorithm's learner, the same for the same bytes."""
    modules = algorithm.learner_group.get_state(components="learner/rl_module")["learner"][
        "rl_module"
    ]
    digest = hashlib.sha256()
    for policy in sorted(modules):
        for name, value in sorted(modules[policy].items()):
            digest.update(f"{policy}/{name}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()
