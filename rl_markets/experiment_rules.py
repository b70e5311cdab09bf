"""Rules across the fields of an experiment: names exist, groups have policies, sizes fit each other and the machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import ValidationError

from rl_markets.envs.registry import LEARNERS, MARKETS, did_you_mean, find
from rl_markets.experiment_errors import first_line, validate

if TYPE_CHECKING:
    from rl_markets.experiment import Experiment

ROW_BYTES = 64
"""A rough size of one agent step in a rollout: observations, actions, returns."""


class FieldError(ValueError):
    """A rule across fields is broken; `field` is the path to blame."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}{message}")



def check_names(experiment: Experiment) -> None:
    """Market and learner exist, and their parameters are valid."""
    for group, section, field in ((MARKETS, experiment.market, "market"), (LEARNERS, experiment.algorithm, "algorithm")):
        try:
            spec = find(group, section.name)
        except LookupError as error:
            raise FieldError(f"{field}.name", f" = {section.name!r}: {error}") from None
        try:
            validate(spec.parameters, section.parameters)
        except ValidationError as error:
            line = first_line(spec.parameters, section.parameters, error, prefix=f"{field}.parameters.")
            raise FieldError(line, "") from None
    gamma = experiment.learner_parameters.get("gamma")
    if experiment.discount is not None and gamma is not None and gamma != experiment.discount:
        raise FieldError(
            "algorithm.parameters.gamma",
            f" = {gamma:g}: expected {experiment.discount:g}, as market.parameters.{experiment.market_spec.discount}; "
            "leave it out to take the market's",
        )


def check_groups(experiment: Experiment) -> None:
    """Every group of the market has exactly one policy."""
    groups, owner = list(experiment.market_spec.groups), dict[str, str]()
    for policy, section in experiment.policies.items():
        for group in section.groups:
            field = f"policies.{policy}.groups"
            if group not in groups:
                raise FieldError(field, f": market {experiment.market.name!r} has no group {group!r}{did_you_mean(group, groups)}")
            if group in owner:
                raise FieldError(field, f": group {group!r} already belongs to policy {owner[group]!r}")
            owner[group] = policy
    for group in groups:
        if group not in owner:
            raise FieldError("policies", f": no policy has group {group!r} of market {experiment.market.name!r}")


def check_sizes(experiment: Experiment) -> None:
    """The experiment fits the machine, and its sizes fit each other."""
    training = experiment.training
    rows = experiment.env_steps_per_iteration * experiment.agents
    minibatches = experiment.learner_parameters.get("minibatches", 1) * max(1, training.learners)
    if rows < 2 * minibatches:
        raise FieldError("algorithm.parameters.minibatches", f": {minibatches} slices of {rows} rows leave less than 2 rows each")
    if training.agent_steps < rows:
        raise FieldError("training.agent_steps", f" = {training.agent_steps}: expected at least one iteration, {rows} agent steps")
    cpus, wanted = available_cpus(), training.runners + training.learners
    if wanted > cpus:
        raise FieldError("training.runners", f": {training.runners} runners + {training.learners} learners want {wanted} CPUs, this machine has {cpus}")
    memory = _memory_bytes()
    if rows * ROW_BYTES > memory // 2:
        raise FieldError(
            "market.worlds",
            f": one rollout of {rows:.3g} agent steps needs about {rows * ROW_BYTES / 2**30:.3g} GiB, "
            f"more than half of this machine's {memory / 2**30:.3g} GiB",
        )


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
