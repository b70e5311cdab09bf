"""The folder of a run: `runs/<experiment>/<time>/`, and what is logged into it."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from datetime import datetime
from pathlib import Path

from rl_markets.errors import ExperimentError
from rl_markets.experiment import Experiment, load
from rl_markets.experiment.rules import LATEST
from rl_markets.experiment.yaml_file import dump_yaml
from rl_markets.store import CheckpointStore, write_text
from rl_markets.training import metrics
from rl_markets.training.metrics import Row

EXPERIMENT_FILE = "experiment.yaml"

COUNTERS = ("iteration", "env_steps", "agent_steps")
"""The whole numbers of each row."""


class RunFolder:
    """One run: its experiment, as it runs, and the paths of what it leaves.

    `experiment.yaml` (complete, as it ran), `metrics.csv`, `metrics.jsonl`, `tensorboard/`,
    `checkpoints/`, `policy/`, `frozen/` (copies of what the experiment freezes),
    `certificate.json`, `report.html`.
    """

    def __init__(self, path: Path, experiment: Experiment) -> None:
        self.path = path
        self.experiment = experiment

    @classmethod
    def create(cls, experiment: Experiment, root: Path) -> RunFolder:
        """Makes `root/<experiment>/<time>/` and points `root/latest` to it."""
        folder = _new_folder(root / experiment.name)
        run = cls(folder, _keeping_frozen(experiment, folder))
        write_text(run.experiment_file, dump_yaml(run.experiment.model_dump(mode="json")))
        _point(root / LATEST, run.path)
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run.

        Raises:
            ExperimentError: if `path` holds no run.
        """
        if not (path / EXPERIMENT_FILE).is_file():
            raise ExperimentError(f"{path}: holds no run (expected experiment.yaml in it)")
        experiment = load(
            path / EXPERIMENT_FILE, machine=False
        )  # perhaps it ran on a larger machine than this one
        return cls(path.resolve(), experiment)

    @property
    def experiment_file(self) -> Path:
        """The experiment as it ran, complete."""
        return self.path / EXPERIMENT_FILE

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


def _keeping_frozen(experiment: Experiment, folder: Path) -> Experiment:
    """The experiment with copies of its frozen policies in `folder`: what they point to may change
    before a resume."""
    policies = dict(experiment.policies)
    for name, section in experiment.policies.items():
        if section.frozen is not None:
            source = Path(section.frozen)
            source = source / "policy" if (source / "policy").is_dir() else source
            copy = folder.resolve() / "frozen" / name
            shutil.copytree(source, copy)
            policies[name] = section.model_copy(update={"frozen": str(copy)})
    return experiment.model_copy(update={"policies": policies})


def _new_folder(parent: Path) -> Path:
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        path = parent / (stamp + suffix)
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(f"{path} exists already")


def _point(link: Path, target: Path) -> None:
    """Makes `link` a relative symbolic link to `target`, atomically; leaves a real file or folder
    alone."""
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
        self._csv = run.path / "metrics.csv"
        self._jsonl = run.path / "metrics.jsonl"
        rows = [row for row in read_rows(run) if row["iteration"] <= resume_at]
        write_text(
            self._csv, ",".join(self.columns) + "\n" + "".join(self._line(row) for row in rows)
        )
        write_text(self._jsonl, "".join(_json_line(row) for row in rows))
        self._writer = SummaryWriter(str(run.path / "tensorboard"), purge_step=resume_at + 1)

    def _line(self, row: Row) -> str:
        return ",".join(_shown(row.get(name, math.nan)) for name in self.columns) + "\n"

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


def read_rows(run: RunFolder) -> list[Row]:
    """The rows of `metrics.csv`; what a crash left of a last row is left out."""
    path = run.path / "metrics.csv"
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text[
        : text.rfind("\n") + 1
    ].splitlines()  # a row without its end may be cut off within a number
    rows = [_numbers(row) for row in csv.DictReader(lines)]
    return [row for row in rows if row is not None]


def _numbers(row: dict[str, str]) -> Row | None:
    """A row's metrics, or None where it is not whole."""
    try:
        numbers = {name: float(text) if text else math.nan for name, text in row.items()}
        return numbers | {name: int(row[name]) for name in COUNTERS}
    except (KeyError, TypeError, ValueError):
        return None
