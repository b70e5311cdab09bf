"""A run that goes on with other settings: longer, elsewhere, looked at in another way.

What it had come to is kept beside it, and nothing of what it learns may change.
"""

from __future__ import annotations

import os
from pathlib import Path

from rl_markets.errors import ExperimentError
from rl_markets.experiment import Experiment, parse
from rl_markets.experiment.machine import check_machine
from rl_markets.experiment.sections import TrainingSection
from rl_markets.experiment.yaml_file import dump_yaml, overridden, parse_override
from rl_markets.store import write_text
from rl_markets.training.run_folder import RunFolder

RESULTS = ("policy", "certificate.json", "report.html")
"""What a finished run has come to."""


def changed(run: RunFolder, overrides: list[str], iteration: int) -> RunFolder:
    """The run with other settings, written to its folder; its results so far are moved aside.

    Args:
        run: that goes on.
        overrides: `a.b=c`, of `TrainingSection.OPEN`, `certificate` and `summary` alone.
        iteration: from which it goes on.

    Raises:
        ExperimentError: one line; a setting would change what is learned, or is wrong. Then nothing
            has changed.
    """
    experiment = _with(run.experiment, overrides, str(run.experiment_file))
    if experiment == run.experiment:
        return run
    aside = _aside(run.path, iteration)
    for name in RESULTS:
        if (run.path / name).exists():
            aside.mkdir(exist_ok=True)
            os.rename(run.path / name, aside / name)
    write_text(run.experiment_file, dump_yaml(experiment.model_dump(mode="json")))
    return RunFolder(run.path, experiment)


def _with(experiment: Experiment, overrides: list[str], source: str) -> Experiment:
    """The experiment with other settings, none of which changes what is learned."""
    for override in overrides:
        _refuse_others(override)
    after = parse(overridden(experiment.model_dump(mode="json"), overrides), source)
    _refuse_shared_replay(experiment, after)
    check_machine(after)
    return after


def _refuse_others(override: str) -> None:
    """Refuses a setting that would change what is learned."""
    keys, _ = parse_override(override)
    section = keys[0]
    free = section in ("certificate", "summary")
    if free or (section == "training" and keys[1:2] and keys[1] in TrainingSection.OPEN):
        return
    raise ExperimentError(
        f"-o {override}: would change what is learned, which a run cannot while it goes on; "
        f"expected one of training.{', training.'.join(TrainingSection.OPEN)}, certificate.*, "
        "summary; or start another run by `rl-markets train`"
    )


def _refuse_shared_replay(before: Experiment, after: Experiment) -> None:
    """A replay belongs to a learner; another number of learners could not share it out."""
    learners = (max(1, e.training.learners) for e in (before, after))
    replays = any(hasattr(before.parameters(name), "capacity") for name in before.learned)
    if replays and len(set(learners)) > 1:
        raise ExperimentError(
            f"training.learners = {after.training.learners}: each learner of "
            f"{before.algorithm.name} keeps a replay of its own; expected as many as before, "
            f"{before.training.learners}"
        )


def _aside(path: Path, iteration: int) -> Path:
    """A new folder for what a run had come to."""
    name = f"until-{iteration:08d}"
    for suffix in ("", *(f"-{i}" for i in range(2, 1000))):
        if not (path / (name + suffix)).exists():
            return path / (name + suffix)
    raise ExperimentError(f"{path}: went on with other settings a thousand times")
