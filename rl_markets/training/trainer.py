"""Training as an iterator of metrics: no console, no signals, no folder, so that it runs anywhere,
in a thread too."""

from __future__ import annotations

import json
import math
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from safetensors.torch import load_file, save_file

from rl_markets.conformance.endings import exits_raise
from rl_markets.envs.market import Policy
from rl_markets.errors import LearnersLostError, MarketError, RunFailedError
from rl_markets.experiment import Experiment
from rl_markets.fixed_policies import fixed_policies
from rl_markets.judged import known_answer
from rl_markets.policies.actors import Actor
from rl_markets.quiet import without_harmless_lines
from rl_markets.rllib.build import algorithm_config, one_world
from rl_markets.say import Say, to_nobody
from rl_markets.store import write_text
from rl_markets.training import metrics
from rl_markets.training.metrics import Row

ALGORITHM = "algorithm"
PROGRESS = "run.json"
PRIVATE = "learner-{}.safetensors"
"""Parts of a checkpoint: RLlib's own, where the run is, and what each learner has of its own."""


class Trainer:
    """Trains one experiment, from its start or from a checkpoint.

        with Trainer(experiment) as trainer:
            for row in trainer.rows():
                ...
            actors = trainer.actors()

    Args:
        experiment: what to train.
        say: takes what a person should know while it trains, a line each.
    """

    def __init__(self, experiment: Experiment, say: Say = to_nobody) -> None:
        self.experiment = experiment
        self.say = say
        self.fixed = fixed_policies(experiment, one_world(experiment))
        with explained("the known answer breaks"):
            self.answer = known_answer(experiment, self.fixed) or experiment.answer_key()
        self.seconds = 0.0
        self.algorithm: Any = None
        self.begun = (0, 0)
        """Iteration and world steps from which each iteration takes as many as the experiment
        says: where a run went on, perhaps with other runners."""

    # -- around training ---------------------------------------------------------------------------

    def __enter__(self) -> Trainer:
        with explained("the run cannot be built"), without_harmless_lines():
            self.algorithm = algorithm_config(self.experiment).build_algo()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.algorithm.stop()
        self.algorithm = None

    def actors(self) -> dict[str, Actor]:
        """The policies' actors, as they are now."""
        return {
            policy: self.algorithm.get_module(policy).deployed for policy in self.experiment.learned
        }

    def policies(self) -> dict[str, Policy]:
        """Group -> what it follows, as it is now: what judges look at."""
        actors = self.actors()
        learned = {
            group: actors[name].policy
            for name, section in self.experiment.learned.items()
            for group in section.groups
        }
        return self.fixed | learned

    # -- the loop ----------------------------------------------------------------------------------

    def rows(self) -> Iterator[Row]:
        """One row of metrics for each iteration, from where training stands to the end of the
        experiment.

        Raises:
            RunFailedError: a market or a learner broke, an iteration brought no steps or a NaN.
            LearnersLostError: a learner's process died; a checkpoint goes on from where it was.
        """
        for iteration in range(self.algorithm.iteration + 1, self.last_iteration + 1):
            yield self.iterate(iteration)

    @property
    def last_iteration(self) -> int:
        """The iteration in which training ends."""
        return self.experiment.iterations_after(*self.begun)

    def iterate(self, iteration: int) -> Row:
        """One iteration, and its metrics."""
        before = time.perf_counter()
        lost = self.algorithm.runners_lost
        with explained(f"iteration {iteration} failed"):
            result = self.algorithm.train()
        if self.algorithm.runners_lost > lost:
            self.say(
                f"iteration {iteration}: a runner's process died; no step is lost, it is starting "
                "anew"
            )
        self.seconds += time.perf_counter() - before
        row = metrics.flatten(
            result, self.experiment, seconds=self.seconds, distance=self._distance(iteration)
        )
        self._check(iteration, row)
        return row

    def _distance(self, iteration: int) -> float | None:
        """The distance from the known answer, where it is time to look."""
        due = (
            iteration % self.experiment.training.evaluate_every == 0
            or iteration == self.last_iteration
        )
        if self.answer is None or not due:
            return None
        return self.answer.distance(self.policies())

    def _check(self, iteration: int, row: Row) -> None:
        """No step is lost or counted twice, and every policy learned."""
        expected = self._env_steps(iteration)
        if row["env_steps"] != expected:
            raise RunFailedError(
                f"iteration {iteration} ended at {row['env_steps']} world steps instead of "
                f"{expected}: steps were lost or "
                "counted twice"
            )
        for name, value in row.items():
            if "/" in name and math.isnan(value):
                raise RunFailedError(
                    f"iteration {iteration}: metric {name} is missing: the learner did not update"
                )

    def _env_steps(self, iteration: int) -> int:
        """World steps until the end of an iteration."""
        before, steps = self.begun
        return steps + (iteration - before) * self.experiment.env_steps_per_iteration

    # -- checkpoints -------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Writes everything that `restore` needs to go on with the same bytes."""
        self.algorithm.save_to_path(str((folder / ALGORITHM).resolve()))
        for rank, state in enumerate(each_learner(self.algorithm, _private_state)):
            save_file(state, folder / PRIVATE.format(rank))
        state = {
            "iteration": self.algorithm.iteration,
            "seconds": self.seconds,
            "experiment": self.experiment.digest,
            "problem": self.experiment.problem,
            "env_steps": self._env_steps(self.algorithm.iteration),
        }
        write_text(folder / PROGRESS, json.dumps(state))

    def restore(self, folder: Path, source: object = None) -> None:
        """Goes on where `save` was called.

        Args:
            folder: the checkpoint.
            source: names the experiment in the error, such as its file.

        Raises:
            RunFailedError: the checkpoint is another experiment's.
        """
        state = _progress(folder)
        same_problem = state.get("problem") == self.experiment.problem
        if state["experiment"] != self.experiment.digest and not same_problem:
            raise RunFailedError(
                f"{folder}: written by another experiment than {source or self.experiment.name}"
            )
        self.algorithm.restore_from_path(str((folder / ALGORITHM).resolve()))
        each_learner(self.algorithm, partial(_load_private_state, str(folder.resolve())))
        self.seconds = state["seconds"]
        self.begun = begun(folder, self.experiment)


def begun(checkpoint: Path, experiment: Experiment) -> tuple[int, int]:
    """Iterations and world steps of a run when a checkpoint was written."""
    state = _progress(checkpoint)
    iteration = state["iteration"]
    # runs of earlier versions never changed their runners, and kept no steps
    return iteration, state.get("env_steps", iteration * experiment.env_steps_per_iteration)


def _progress(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((checkpoint / PROGRESS).read_text(encoding="utf-8"))
    return state


def each_learner(algorithm: Any, call: Callable[[Any], Any]) -> list[Any]:
    """What `call` returns for each learner, in the order of their ranks."""
    answers = algorithm.learner_group.foreach_learner(call)
    return [answer.get() for answer in sorted(answers, key=lambda answer: answer.actor_id or 0)]


def _private_state(learner: Any) -> dict[str, Any]:
    state: dict[str, Any] = learner.private_state()
    return state


def _load_private_state(checkpoint: str, learner: Any) -> None:
    file = Path(checkpoint) / PRIVATE.format(learner.rank)
    if file.is_file():  # a learner that is new has nothing of its own yet
        learner.load_private_state(load_file(file))


class Explained:
    """See `explained`. A class, since a generator's context lets StopIteration through."""

    def __init__(self, what: str, passing: tuple[type[Exception], ...]) -> None:
        self.what = what
        self.passing = (RunFailedError, LearnersLostError, *passing)
        self.exits = exits_raise()

    def __enter__(self) -> None:
        self.exits.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.exits.__exit__(None, None, None)
        broke = isinstance(error, Exception | SystemExit | KeyboardInterrupt)
        if error is None or not broke or isinstance(error, self.passing) or _pressed(error):
            return
        origin: BaseException = getattr(error, "cause", None) or error
        while origin.__cause__ is not None and not isinstance(origin, MarketError):
            origin = origin.__cause__
        details = getattr(origin, "details", "")  # of what another process raised
        # an actor's traceback comes as text
        lines = traceback.format_exception(origin) if origin.__traceback__ else [str(error)]
        message = str(origin).strip().splitlines() or [""]
        raise RunFailedError(
            f"{self.what}: {type(origin).__name__}: {message[0]}", details or "".join(lines)
        ) from error


def explained(what: str, passing: tuple[type[Exception], ...] = ()) -> Explained:
    """Turns any exception into a `RunFailedError` with the traceback of its origin, across Ray's
    boundaries.

    `sys.exit`, `os._exit` and KeyboardInterrupt inside a market are no way to end a run either.
    What is in words already, such as the errors named in `passing`, is let through.
    """
    return Explained(what, passing)


def _pressed(error: BaseException) -> bool:
    """Whether somebody pressed Ctrl-C; where its signal has another handler, nobody did."""
    pressed = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return isinstance(error, KeyboardInterrupt) and pressed
