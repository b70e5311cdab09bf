"""The folder of a run: `runs/<experiment>/<time>/`."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path

from rl_markets.errors import ExperimentError
from rl_markets.experiment import Experiment, load
from rl_markets.experiment.rules import LATEST
from rl_markets.experiment.yaml_file import dump_yaml
from rl_markets.say import Say
from rl_markets.store import CheckpointStore, write_text

EXPERIMENT_FILE = "experiment.yaml"


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
    def open(cls, path: Path, *, build: bool = True, say: Say | None = None) -> RunFolder:
        """An existing run.

        Args:
            path: of the run.
            build, say: whether code that its experiment names may run, as in `load`.

        Raises:
            ExperimentError: if `path` holds no run.
        """
        if not (path / EXPERIMENT_FILE).is_file():
            raise ExperimentError(f"{path}: holds no run (expected experiment.yaml in it)")
        # perhaps it ran on a larger machine than this one
        experiment = load(path / EXPERIMENT_FILE, machine=False, build=build, say=say)
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
