"""What a person sees while a run trains: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_SECONDS = 10.0
"""On something that is not a terminal, a line at most this often."""


def short(number: float) -> str:
    """1234567 as `1.23M`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


class _Metrics(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("metrics", "")), style="cyan")


class TrainingProgress:
    """A context manager around the training loop.

    Args:
        console: where to print.
        iterations: of the whole run.
        started_at: the iteration a resumed run goes on from.
        answer: the known answer's name, or None where there is none.
    """

    def __init__(
        self, console: Console, iterations: int, started_at: int, answer: str | None
    ) -> None:
        self.console = console
        self.iterations = iterations
        self.answer = answer
        self.started_at = started_at
        self.done = started_at
        self.distance = math.nan
        self._live: Progress | None = None
        self._task: Any = None
        self._started = time.perf_counter()
        self._last_line = self._started
        if console.is_terminal:
            columns = [
                TextColumn("training"),
                BarColumn(),
                _Metrics(),
                TextColumn("eta"),
                TimeRemainingColumn(),
            ]
            self._live = Progress(*columns, console=console, transient=True)
            self._task = self._live.add_task(
                "training", total=iterations, completed=started_at, metrics=""
            )

    def __enter__(self) -> TrainingProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, row: dict[str, float]) -> None:
        """Shows one row of metrics."""
        self.done = int(row["iteration"])
        if math.isfinite(row["distance"]):  # measured in some iterations only
            self.distance = row["distance"]
        metrics = f"{short(row['agent_steps'])} steps, {short(row['agent_steps_per_second'])}/s"
        if math.isfinite(self.distance):
            metrics += f", {self.distance:.2f} % from the {self.answer}"
        if self._live is not None:
            self._live.update(self._task, completed=self.done, metrics=metrics)
            return
        now = time.perf_counter()
        first = self.done == self.started_at + 1
        last = self.done == self.iterations
        if first or last or now - self._last_line >= PLAIN_SECONDS:
            self._last_line = now
            line = f"iteration {self.done}/{self.iterations}: {metrics}, {self._eta(now)} left"
            self.console.print(line)

    def _eta(self, now: float) -> str:
        """The time that the other iterations will take, at the mean pace so far."""
        seconds_per_iteration = (now - self._started) / max(1, self.done - self.started_at)
        seconds = seconds_per_iteration * (self.iterations - self.done)
        return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


@contextmanager
def counting(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Shows how far a loop is: gives what is to be called with the number of rounds done.

    Args:
        console: where to print; a live line on a terminal, a plain one now and then elsewhere.
        what: is being done.
        total: rounds.
    """
    if console.is_terminal:
        columns = [TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()]
        with Progress(*columns, console=console, transient=True) as live:
            task = live.add_task(escape(what), total=total)
            yield lambda done: live.update(task, completed=done)
        return
    last = time.perf_counter()
    console.print(f"{what}: {total} rounds")

    def note(done: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last >= PLAIN_SECONDS:
            last = now
            console.print(f"{what}: {done} of {total} rounds")

    yield note


def console(*, error: bool = False) -> Console:
    """The console of a command; plain text where the output is not a terminal.

    Text is what it is: names of files and products may look like markup, such as `[/b]`.
    """
    stream = sys.stderr if error else sys.stdout
    return Console(file=stream, soft_wrap=True, markup=False, highlight=False, emoji=False)
