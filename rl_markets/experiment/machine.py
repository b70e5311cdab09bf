"""Whether an experiment fits the machine: its cores, and its memory before it asks for any."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

from rl_markets.errors import FieldError
from rl_markets.experiment.experiment import Experiment

NUMBER_BYTES = 4
"""Of a number in single precision."""
ROW_NUMBERS = 16
"""Of one agent step in a rollout where nobody tells how much agents see."""
EXTRA_NUMBERS = 6
"""Beside observation and action: reward, value, advantage, return, log probability, end."""
COPIES_OF_WEIGHTS = 12
"""Actor and critic, each with its gradient, two moments of it and a target; the deployed actor."""

EXPORTED = ("policy.json", "policy/policy.json")
"""Where an exported policy is told by, in its own folder and in a run's."""


def check_machine(experiment: Experiment) -> None:
    """The experiment fits this machine, and its frozen policies lie here.

    Not a rule of the content: runners on other machines read it, too.

    Raises:
        FieldError: what was found, and what was expected.
    """
    for policy, section in experiment.policies.items():
        if section.frozen is None:
            continue
        if not any(Path(section.frozen, name).is_file() for name in EXPORTED):
            raise FieldError(
                f"policies.{policy}.frozen = {section.frozen!r}: holds no exported policy"
            )
    training = experiment.training
    cpus = available_cpus()
    actors = training.runners + training.learners
    if actors > cpus:
        raise FieldError(
            f"training.runners: {training.runners} runners, {training.learners} learners "
            f"want {actors} CPUs, expected at most the {cpus} of this machine"
        )
    rows = experiment.agent_steps_per_iteration
    numbers = max(
        (_row_numbers(experiment, policy) for policy in experiment.policies), default=ROW_NUMBERS
    )
    _fits(f"market.worlds: one rollout of {rows:.3g} agent steps", rows * numbers)
    _check_weights(experiment)
    _check_replay(experiment)


def _check_weights(experiment: Experiment) -> None:
    """The networks of every policy, while they are trained."""
    if experiment.learner_spec.actor != "network":
        return
    for policy, section in experiment.learned.items():
        spaces = experiment.spaces.get(section.groups[0])
        if spaces is None:
            continue
        widths = [spaces.observation, *section.hidden, spaces.outputs]
        weights = sum(rows * columns for rows, columns in pairwise(widths))
        copies = _own_policies(experiment, policy)
        field = "separate" if section.separate else "hidden"
        _fits(
            f"policies.{policy}.{field}: {copies:.3g} networks of {weights:.3g} weights",
            weights * copies * COPIES_OF_WEIGHTS,
        )


def _check_replay(experiment: Experiment) -> None:
    """The replay of every learner, all of which lie on one machine in the end."""
    for policy, section in experiment.learned.items():
        capacity = getattr(experiment.parameters(policy), "capacity", None)
        if capacity is None:
            continue
        numbers = _row_numbers(experiment, policy)
        spaces = experiment.spaces.get(section.groups[0])
        if spaces is not None:
            numbers += spaces.observation  # the next one
        numbers *= _own_policies(experiment, policy) * max(1, experiment.training.learners)
        field = f"policies.{policy}" if "capacity" in section.parameters else "algorithm"
        _fits(
            f"{field}.parameters.capacity: a replay of {capacity:.3g} rows",
            capacity * numbers,
        )


def _own_policies(experiment: Experiment, policy: str) -> int:
    """How many policies a section stands for."""
    section = experiment.policies[policy]
    if not section.separate:
        return 1
    return sum(experiment.groups[group] for group in section.groups)


def _row_numbers(experiment: Experiment, policy: str) -> int:
    """Numbers of one agent step."""
    spaces = experiment.spaces.get(experiment.policies[policy].groups[0])
    if spaces is None:
        return ROW_NUMBERS
    return spaces.observation + spaces.numbers + EXTRA_NUMBERS


def _fits(what: str, numbers: int) -> None:
    """Half of the memory holds so many numbers."""
    needed = numbers * NUMBER_BYTES
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory // 2:
        raise FieldError(
            f"{what} needs about {needed / 2**30:.3g} GiB; "
            f"expected at most half of this machine's {memory / 2**30:.3g} GiB"
        )


def available_cpus() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux: a container or a scheduler may allow fewer
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
