"""From a file, or plain data, to an experiment that can run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rl_markets.errors import ExperimentError, FieldError
from rl_markets.experiment.columns import with_columns
from rl_markets.experiment.experiment import Experiment
from rl_markets.experiment.machine import check_machine
from rl_markets.experiment.rules import agents_are_told, check
from rl_markets.experiment.validation import first_line, plain, validate
from rl_markets.experiment.yaml_file import overridden, read_yaml
from rl_markets.say import Say


def load(
    path: str | Path,
    overrides: list[str] | None = None,
    *,
    smoke: bool = False,
    machine: bool = True,
    build: bool = True,
    say: Say | None = None,
) -> Experiment:
    """Reads an experiment file, and the columns of CSV files that it names.

    Args:
        path: the YAML file.
        overrides: `a.b=c`, applied in order.
        smoke: shrink it to seconds, as `shrunk` does.
        machine: refuse what this machine has not, or is too small for, unless `RAY_ADDRESS` names
            a cluster.
        build: where only a foreign environment can tell who acts in it, build it, and so run code
            that the file names. Otherwise groups and sizes of such a market are not looked at.
        say: told in a line, beforehand, which code of others runs.

    Raises:
        ExperimentError: one line: file, field, what was found, what is expected.
    """
    data = overridden(read_yaml(Path(path)), overrides or [])
    experiment = parse(with_columns(data, path), str(path), machine=machine, build=build, say=say)
    known = build or agents_are_told(experiment)
    if smoke and not known:
        raise ExperimentError(
            f"{path}: only the environment tells how much is left of it with --smoke, and it was "
            "not built; add --build, which runs its code"
        )
    if smoke:
        experiment = parse(shrunk(experiment), str(path))
    if machine and known and not os.environ.get("RAY_ADDRESS"):
        try:
            check_machine(experiment)
        except FieldError as error:
            raise ExperimentError(f"{path}: {error}") from None
    return experiment


def parse(
    data: dict[str, Any],
    source: str,
    *,
    machine: bool = True,
    build: bool = True,
    say: Say | None = None,
) -> Experiment:
    """An experiment from plain data; `source` names it in errors, the rest is as in `load`.

    Raises:
        ExperimentError: one line: source, field, what was found, what is expected.
    """
    try:
        experiment = validate(Experiment, plain(data))
        check(experiment, machine=machine, build=build, say=say)
        return experiment
    except FieldError as error:
        raise ExperimentError(f"{source}: {error}") from None
    except ValidationError as error:
        raise ExperimentError(f"{source}: {first_line(Experiment, error)}") from None


def shrunk(experiment: Experiment) -> dict[str, Any]:
    """An experiment cut down to seconds: few worlds, three iterations, a short examination.

    Returns:
        plain data, for `parse`.
    """
    data = experiment.model_dump(mode="json")
    _cap(data["market"], worlds=8)
    _cap(data["training"], rollout_length=8, runners=0, learners=0, gpus_per_learner=0)
    _cap(data["training"], evaluate_every=1, checkpoint_every=2)
    _cap(data["certificate"], seeds=2, deviation_agent_steps=512)
    env_steps = data["market"]["worlds"] * data["training"]["rollout_length"]
    _cap(data["training"], agent_steps=3 * env_steps * experiment.agents)
    # The smallest batch, for the shrunk worlds and rollout.
    rows = env_steps * experiment.smallest_batch // experiment.env_steps_per_iteration
    parameters = validate(experiment.learner_spec.parameters, experiment.algorithm.parameters)
    data["algorithm"]["parameters"] |= parameters.smoke(rows)
    return data


def _cap(section: dict[str, Any], **limits: int) -> None:
    """Lowers fields of a section to their limits, in place."""
    section.update(
        {
            key: limit if section[key] is None else min(section[key], limit)
            for key, limit in limits.items()
        }
    )
