"""A run in its folder: metrics are logged, checkpoints kept, progress shown, signals heeded, lost
learners replaced."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from rl_markets.errors import Interrupted, LearnersLostError, RunFailedError
from rl_markets.policies.actors import Actor
from rl_markets.progress import TrainingProgress
from rl_markets.training.metrics_log import MetricsLog
from rl_markets.training.run_folder import RunFolder
from rl_markets.training.trainer import Trainer
from rl_markets.training.watch import Watch

LEARNER_RESTARTS = 3
"""How often a run starts lost learners again by itself."""


class TrainingSession:
    """Trains one run from its start or from a checkpoint.

    Args:
        run: the run's folder.
        console: where progress goes.
        trainer: trains, if it is not the usual one.
    """

    def __init__(self, run: RunFolder, console: Console, trainer: Trainer | None = None) -> None:
        self.run = run
        self.experiment = run.experiment
        self.console = console
        self.store = run.checkpoints
        self.trainer = trainer or Trainer(run.experiment)
        self.trainer.say = self._say

    def train(self, checkpoint: Path | None = None) -> dict[str, Actor]:
        """Trains to the end of the experiment and returns the trained actors, by policy.

        A learner's process that dies is started again, and training goes on from the newest
        checkpoint.

        Raises:
            RunFailedError: a market or a learner broke, an iteration brought no steps or a NaN.
            Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
        """
        with stop_signals() as received:
            for attempt in range(LEARNER_RESTARTS + 1):
                try:
                    return self._attempt(checkpoint, received)
                except LearnersLostError as lost:
                    if attempt == LEARNER_RESTARTS:
                        raise RunFailedError(
                            f"{lost}, for the {attempt + 1}th time; `rl-markets resume` goes on"
                        ) from lost
                    checkpoint = self.store.newest(self._say)
                    where = (
                        "its start" if checkpoint is None else f"iteration {int(checkpoint.name)}"
                    )
                    self._say(f"{lost}; going on from {where}")
        raise AssertionError

    def _attempt(self, checkpoint: Path | None, received: list[int]) -> dict[str, Actor]:
        with self.trainer as trainer:
            if checkpoint is not None:
                trainer.restore(checkpoint, self.run.experiment_file)
                self.store.discard_after(trainer.algorithm.iteration)
            self._loop(received)
            return trainer.actors()

    def _loop(self, received: list[int]) -> None:
        experiment = self.experiment
        start = self.trainer.algorithm.iteration
        last_iteration = self.trainer.last_iteration
        answer = self.trainer.answer
        log = MetricsLog(self.run, experiment, start, self._say)
        watch = Watch(experiment)
        try:
            with TrainingProgress(
                self.console, last_iteration, start, None if answer is None else answer.name
            ) as progress:
                for row in self.trainer.rows():
                    log.write(row)
                    progress.update(row)
                    for line in watch.look(row):
                        self._say(line)
                    iteration = int(row["iteration"])
                    last = iteration == last_iteration
                    if last or received or iteration % experiment.training.checkpoint_every == 0:
                        self.store.save(iteration, self.trainer.save)
                    if received and not last:
                        raise Interrupted(received[0], iteration)
        finally:
            log.close()

    def _say(self, line: str) -> None:
        self.console.print(line)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of them; a second one ends the process as
    usual."""
    received: list[int] = []
    previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)
        restore()

    def restore() -> None:
        for sig, handler in previous.items():
            signal.signal(sig, handler)

    for sig in (signal.SIGINT, signal.SIGTERM):
        previous[sig] = signal.signal(sig, note)
    try:
        yield received
    finally:
        restore()
