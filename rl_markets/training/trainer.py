"""One run: the loop, the log, checkpoints, signals, and what fails it."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from safetensors.torch import load_file, save_file

from rl_markets.errors import Interrupted, LearnersLostError, RunFailedError
from rl_markets.progress import TrainingProgress
from rl_markets.quiet import without_harmless_lines
from rl_markets.rllib.build import algorithm_config, fixed_policies, one_world
from rl_markets.store import CheckpointStore, write_text
from rl_markets.training import metrics
from rl_markets.training.run_folder import MetricsLog, RunFolder

ALGORITHM, PROGRESS, PRIVATE = "algorithm", "run.json", "learner-{}.safetensors"
LEARNER_RESTARTS = 3
"""How often a run starts lost learners again by itself."""


class Trainer:
    """Trains one run from its start or from a checkpoint.

    Args:
        run: the run's folder.
        console: where progress goes.
    """

    def __init__(self, run: RunFolder, console: Console) -> None:
        self.run, self.console, self.experiment = run, console, run.experiment
        self.store: CheckpointStore = run.checkpoints
        market = one_world(self.experiment)
        self.answer = self.experiment.answer_key()
        self.fixed = fixed_policies(self.experiment.model_dump(mode="json"), market)
        self.seconds = 0.0
        self.algorithm: Any = None

    def train(self, checkpoint: Path | None = None) -> dict[str, Any]:
        """Trains to the end of the experiment and returns the trained actors, policy -> `networks.Actor`.

        A learner's process that dies is started again, and training goes on from the newest checkpoint.

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
                    where = "its start" if checkpoint is None else f"iteration {int(checkpoint.name)}"
                    self._say(f"{lost}; going on from {where}")
        raise AssertionError

    def _attempt(self, checkpoint: Path | None, received: list[int]) -> dict[str, Any]:
        try:
            with explained("the run cannot be built"), without_harmless_lines():
                self.algorithm = algorithm_config(self.experiment).build_algo()
            if checkpoint is not None:
                self._restore(checkpoint)
            self._loop(received)
            return self.actors()
        finally:
            if self.algorithm is not None:
                self.algorithm.stop()
                self.algorithm = None

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False)

    def actors(self) -> dict[str, Any]:
        """The policies' networks, as they are now."""
        return {policy: self.algorithm.get_module(policy).deployed for policy in self.experiment.learned}

    def _loop(self, received: list[int]) -> None:
        experiment, start = self.experiment, self.algorithm.iteration
        log = MetricsLog(self.run, experiment, resume_at=start)
        answer = None if self.answer is None else self.answer.name
        try:
            with TrainingProgress(self.console, experiment.iterations, start, answer) as progress:
                for iteration in range(start + 1, experiment.iterations + 1):
                    row = self._iterate(iteration)
                    log.write(row)
                    progress.update(row)
                    last = iteration == experiment.iterations
                    if last or received or iteration % experiment.training.checkpoint_every == 0:
                        self.store.save(iteration, self._write_checkpoint)
                    if received and not last:
                        raise Interrupted(received[0], iteration)
        finally:
            log.close()

    def _iterate(self, iteration: int) -> dict[str, float]:
        before, lost = time.perf_counter(), self.algorithm.runners_lost
        with explained(f"iteration {iteration} failed"):
            result = self.algorithm.train()
        if self.algorithm.runners_lost > lost:
            self._say(f"iteration {iteration}: a runner's process died; no step is lost, it is starting anew")
        self.seconds += time.perf_counter() - before
        row = metrics.flatten(result, self.experiment, seconds=self.seconds, distance=self._distance(iteration))
        expected = iteration * self.experiment.env_steps_per_iteration
        if row["env_steps"] != expected:
            raise RunFailedError(
                f"iteration {iteration} ended at {row['env_steps']} world steps instead of {expected}: steps were lost or "
                "counted twice"
            )
        for name, value in row.items():
            if "/" in name and math.isnan(value):
                raise RunFailedError(f"iteration {iteration}: metric {name} is missing: the learner did not update")
        return row

    def _distance(self, iteration: int) -> float | None:
        training = self.experiment.training
        if self.answer is None or (iteration % training.evaluate_every and iteration != self.experiment.iterations):
            return None
        learned = {g: p for p, section in self.experiment.learned.items() for g in section.groups}
        actors = self.actors()
        return self.answer.distance(self.fixed | {g: actors[p].act for g, p in learned.items()})

    def _write_checkpoint(self, folder: Path) -> None:
        self.algorithm.save_to_path(str((folder / ALGORITHM).resolve()))
        for rank, state in enumerate(each_learner(self.algorithm, _private_state)):
            save_file(state, folder / PRIVATE.format(rank))
        state = {"iteration": self.algorithm.iteration, "seconds": self.seconds, "experiment": self.experiment.digest}
        write_text(folder / PROGRESS, json.dumps(state))

    def _restore(self, checkpoint: Path) -> None:
        state = json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8"))
        if state["experiment"] != self.experiment.digest:
            raise RunFailedError(f"{checkpoint}: written by another experiment than {self.run.experiment_file}")
        self.algorithm.restore_from_path(str((checkpoint / ALGORITHM).resolve()))
        each_learner(self.algorithm, partial(_load_private_state, str(checkpoint.resolve())))
        self.seconds = state["seconds"]
        self.store.discard_after(state["iteration"])


def each_learner(algorithm: Any, call: Callable[[Any], Any]) -> list[Any]:
    """What `call` returns for each learner, in the order of their ranks."""
    answers = algorithm.learner_group.foreach_learner(call)
    return [answer.get() for answer in sorted(answers, key=lambda answer: answer.actor_id or 0)]


def _private_state(learner: Any) -> dict[str, Any]:
    state: dict[str, Any] = learner.private_state()
    return state


def _load_private_state(checkpoint: str, learner: Any) -> None:
    learner.load_private_state(load_file(Path(checkpoint) / PRIVATE.format(learner.rank)))


def parameter_hash(algorithm: Any) -> str:
    """sha256 of all parameters of an RLlib algorithm's learner, the same for the same bytes."""
    modules = algorithm.learner_group.get_state(components="learner/rl_module")["learner"]["rl_module"]
    digest = hashlib.sha256()
    for policy in sorted(modules):
        for name, value in sorted(modules[policy].items()):
            digest.update(f"{policy}/{name}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns any exception into a `RunFailedError` with the traceback of its origin, across Ray's boundaries."""
    try:
        yield
    except (KeyboardInterrupt, RunFailedError, LearnersLostError):
        raise
    except Exception as error:
        origin: BaseException = getattr(error, "cause", None) or error
        while origin.__cause__ is not None:
            origin = origin.__cause__
        lines = traceback.format_exception(origin) if origin.__traceback__ else [str(error)]  # an actor's comes as text
        message = str(origin).strip().splitlines() or [""]
        raise RunFailedError(f"{what}: {type(origin).__name__}: {message[0]}", "".join(lines)) from error


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of them; a second one ends the process as usual."""
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
