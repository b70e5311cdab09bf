"""What a run logs, a row an iteration: `metrics.csv`, `metrics.jsonl` and TensorBoard.

Each row of the CSV file ends with its own checksum, so that a damaged one is not taken for true; it
is then taken from the JSON lines, which hold the same.
"""

from __future__ import annotations

import csv
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

from rl_markets.experiment import Experiment
from rl_markets.say import Say
from rl_markets.store import write_text
from rl_markets.training import metrics
from rl_markets.training.metrics import Row
from rl_markets.training.run_folder import RunFolder

COUNTERS = ("iteration", "env_steps", "agent_steps")
"""The whole numbers of each row."""
CHECKSUM = "crc32"
"""The last column, of the text of the row before it."""
SHOWN = 8
"""Iterations that a line names."""


class MetricsLog:
    """One row an iteration, as CSV, JSON lines and TensorBoard, under the names in `metrics`.

    Args:
        run: the run's folder.
        experiment: names the columns.
        resume_at: the iteration to go on from; later rows (of a run that was cut off) are dropped.
        say: takes a line on rows that were damaged.
    """

    def __init__(
        self, run: RunFolder, experiment: Experiment, resume_at: int = 0, say: Say = print
    ) -> None:
        from tensorboardX import SummaryWriter

        self.columns = metrics.columns(experiment)
        self._csv = run.path / "metrics.csv"
        self._jsonl = run.path / "metrics.jsonl"
        rows = [row for row in read_rows(run, say, resume_at) if row["iteration"] <= resume_at]
        header = ",".join([*self.columns, CHECKSUM]) + "\n"
        write_text(self._csv, header + "".join(self._line(row) for row in rows))
        write_text(self._jsonl, "".join(_json_line(row) for row in rows))
        self._writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=resume_at + 1)

    def _line(self, row: Row) -> str:
        text = ",".join(_shown(row.get(name, math.nan)) for name in self.columns)
        return f"{text},{_checksum(text)}\n"

    def write(self, row: Row) -> None:
        """Appends one row; it is on its way to the disk when this returns."""
        for path, line in ((self._csv, self._line(row)), (self._jsonl, _json_line(row))):
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
        for name, value in row.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, int(row["iteration"]))

    def close(self) -> None:
        """Flushes TensorBoard's file."""
        self._writer.close()


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())


def _shown(value: float) -> str:
    return "" if math.isnan(value) else repr(_plain(value))


def _json_line(row: Row) -> str:
    return (
        json.dumps(
            {name: _plain(value) if math.isfinite(value) else None for name, value in row.items()}
        )
        + "\n"
    )


def _plain(value: float) -> float:
    """Python's own number in the place of numpy's, whose repr is not a number."""
    return value if type(value) is int else float(value)


def read_rows(run: RunFolder, say: Say = print, last: int | None = None) -> list[Row]:
    """The rows of `metrics.csv`, in order; what a crash left of a last row is left out.

    Args:
        run: the run's folder.
        say: takes a line on rows that were damaged.
        last: the iteration up to which rows are needed; None for all that there are.
    """
    path = run.path / "metrics.csv"
    rows = {int(row["iteration"]): row for row in _csv_rows(path, metrics.columns(run.experiment))}
    copies = {int(row["iteration"]): row for row in _json_rows(run.path / "metrics.jsonl")}
    if not rows and not copies:
        return []
    until = max([*rows, *copies]) if last is None else last
    missing = [iteration for iteration in range(1, until + 1) if iteration not in rows]
    mended = [iteration for iteration in missing if iteration in copies]
    lost = [iteration for iteration in missing if iteration not in copies]
    if mended:
        say(f"{path}: iteration {_some(mended)} damaged or lost; taken from metrics.jsonl")
    if lost:
        say(f"{path}: iteration {_some(lost)} lost, and in metrics.jsonl, too")
    rows |= {iteration: copies[iteration] for iteration in mended}
    return [rows[iteration] for iteration in sorted(rows)]


def _some(iterations: list[int]) -> str:
    more = f" and {len(iterations) - SHOWN} more" if len(iterations) > SHOWN else ""
    return ", ".join(map(str, iterations[:SHOWN])) + more


def _csv_rows(path: Path, columns: list[str]) -> Iterator[Row]:
    """The rows that are whole. An older file has no checksums, and perhaps fewer columns."""
    lines = _lines(path)
    if not lines:
        return
    header = lines[0].split(",")
    older = CHECKSUM not in header and set(header) <= set(columns)
    names = header if older else columns
    for line in lines[1:]:
        text, _, checksum = line.rpartition(",")
        if older:
            text = line
        elif checksum != str(_checksum(text)):
            continue
        for values in csv.reader([text]):
            if len(values) == len(names):
                row = _numbers(dict(zip(names, values, strict=True)))
                if row is not None:
                    yield row


def _json_rows(path: Path) -> Iterator[Row]:
    """The rows that are whole; what is no finite number is NaN."""
    for line in _lines(path):
        try:
            entry = json.loads(line)
            numbers = {name: math.nan if v is None else float(v) for name, v in entry.items()}
            yield numbers | {name: int(entry[name]) for name in COUNTERS}
        except (AttributeError, KeyError, TypeError, ValueError):
            continue  # damaged, or cut off; whoever needs it says so


def _lines(path: Path) -> list[str]:
    """Those that end: one without its end may be cut off within a number."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    return text[: text.rfind("\n") + 1].split("\n")[:-1]


def _numbers(row: dict[str, str]) -> Row | None:
    """A row's metrics, or None where it is not whole."""
    try:
        numbers = {name: float(text) if text else math.nan for name, text in row.items()}
        return numbers | {name: int(row[name]) for name in COUNTERS}
    except (KeyError, TypeError, ValueError):
        return None
