"""The folder of a run: `runs/<experiment>/<time>/`, and what is logged into it."""

from __future__ import annotations

import csv
import json
import math
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from rl_markets import metrics
from rl_markets.experiment import Experiment, load
from rl_markets.experiment_errors import ExperimentError
from rl_markets.store import CheckpointStore, write_text


class RunFolder:
    """Paths of one run.

    `experiment.yaml` (complete, as it ran), `metrics.csv`, `metrics.jsonl`, `tensorboard/`, `checkpoints/`,
    `policy/`, `certificate.json`, `report.html`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, experiment: Experiment, root: Path) -> RunFolder:
        """Makes `root/<experiment>/<time>/` and points `root/latest` to it."""
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        for suffix in ("", *(f"-{i}" for i in range(2, 100))):
            path = root / experiment.name / (stamp + suffix)
            try:
                path.mkdir(parents=True)
                break
            except FileExistsError:
                continue
        run = cls(path)
        write_text(run.experiment_file, yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False))
        _point(root / "latest", path)
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run.

        Raises:
            ExperimentError: if `path` holds no run.
        """
        if not (path / "experiment.yaml").is_file():
            raise ExperimentError(f"{path}: holds no run (expected experiment.yaml in it)")
        return cls(path.resolve())

    @property
    def experiment_file(self) -> Path:
        """The experiment as it ran, complete."""
        return self.path / "experiment.yaml"

    @property
    def experiment(self) -> Experiment:
        """The experiment as it ran."""
        return load(self.experiment_file)

    @property
    def checkpoints(self) -> CheckpointStore:
        """The run's checkpoints."""
        return CheckpointStore(self.path / "checkpoints", self.experiment.training.keep_checkpoints)

    @property
    def policy(self) -> Path:
        """The exported policies."""
        return self.path / "policy"

    @property
    def certificate(self) -> Path:
        """The certificate."""
        return self.path / "certificate.json"

    @property
    def report(self) -> Path:
        """The report page."""
        return self.path / "report.html"


def _point(link: Path, target: Path) -> None:
    """Makes `link` a relative symbolic link to `target`, atomically; leaves a real file or folder alone."""
    if link.exists() and not link.is_symlink():
        return
    temporary = link.with_name(f".{link.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    os.replace(temporary, link)


class MetricsLog:
    """One row an iteration, as CSV, JSON lines and TensorBoard, under the names in `metrics`.

    Args:
        run: the run's folder.
        experiment: names the columns.
        resume_at: the iteration to go on from; later rows (of a run that was cut off) are dropped.
    """

    def __init__(self, run: RunFolder, experiment: Experiment, resume_at: int = 0) -> None:
        from tensorboardX import SummaryWriter

        self.columns = metrics.columns(experiment)
        self._csv, self._jsonl = run.path / "metrics.csv", run.path / "metrics.jsonl"
        rows = [row for row in read_rows(run) if row["iteration"] <= resume_at]
        write_text(self._csv, ",".join(self.columns) + "\n" + "".join(self._line(row) for row in rows))
        write_text(self._jsonl, "".join(_json_line(row) for row in rows))
        self._writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=resume_at + 1)

    def _line(self, row: dict[str, float]) -> str:
        return ",".join(_shown(row[name]) for name in self.columns) + "\n"

    def write(self, row: dict[str, float]) -> None:
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


def _shown(value: float) -> str:
    return "" if math.isnan(value) else repr(value)


def _json_line(row: dict[str, float]) -> str:
    plain: dict[str, Any] = {name: None if math.isnan(value) else value for name, value in row.items()}
    return json.dumps(plain) + "\n"


def read_rows(run: RunFolder) -> list[dict[str, float]]:
    """The rows of `metrics.csv`; a last line that was cut off by a crash is left out."""
    path = run.path / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        raw = [row for row in csv.DictReader(file) if None not in row and None not in row.values()]
    rows = []
    for row in raw:
        numbers = {name: float(value) if value else math.nan for name, value in row.items()}
        if math.isfinite(numbers.get("iteration", math.nan)):
            rows.append(numbers | {n: int(numbers[n]) for n in ("iteration", "env_steps", "agent_steps")})
    return rows
