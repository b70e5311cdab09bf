"""Rules across fields: names exist, groups have policies, sizes fit each other and the machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pydantic import ValidationError

from rl_markets.envs.registry import LEARNERS, MARKETS, did_you_mean, find
from rl_markets.experiment_errors import FieldError, first_line, validate

if TYPE_CHECKING:
    from rl_markets.experiment import Experiment

ROW_BYTES = 64
"""A rough size of one agent step in a rollout: observations, actions, returns."""

LATEST = "latest"
"""The link under runs/ that points to the newest run."""


def check_names(experiment: Experiment) -> None:
    """Market and learner exist, and their parameters are valid."""
    if experiment.name == LATEST:
        raise FieldError(f"name = {LATEST!r}: expected another name, runs/{LATEST} is the link to the newest run")
    for group, field in ((MARKETS, "market"), (LEARNERS, "algorithm")):
        section = experiment.market if group == MARKETS else experiment.algorithm
        try:
            spec = find(group, section.name)
        except LookupError as error:
            raise FieldError(f"{field}.name = {section.name!r}: {error}") from None
        try:
            validate(spec.parameters, section.parameters)
        except ValidationError as error:
            raise FieldError(first_line(spec.parameters, error, prefix=f"{field}.parameters.")) from None


def check_discount(experiment: Experiment) -> None:
    """The learner discounts as the market's agents do."""
    gamma, discount = experiment.learner_parameters.get("gamma"), experiment.discount
    if discount is not None and gamma is not None and gamma != discount:
        raise FieldError(
            f"algorithm.parameters.gamma = {gamma}: expected {discount}, as "
            f"market.parameters.{experiment.market_spec.discount}; leave it out to take the market's"
        )


def check_groups(experiment: Experiment) -> None:
    """Every group of the market has exactly one policy."""
    market, groups = experiment.market.name, list(experiment.groups)
    owner: dict[str, str] = {}
    for policy, section in experiment.policies.items():
        for group in section.groups:
            field = f"policies.{policy}.groups"
            if group not in groups:
                near = did_you_mean(group, groups)
                raise FieldError(f"{field}: market {market!r} has no group {group!r}{near}")
            if group in owner:
                raise FieldError(f"{field}: group {group!r} already belongs to policy {owner[group]!r}")
            owner[group] = policy
    for group in groups:
        if group not in owner:
            raise FieldError(f"policies: no policy has group {group!r} of market {market!r}")


def check_sizes(experiment: Experiment) -> None:
    """The sizes of rollout, minibatches and training fit each other."""
    training, rows = experiment.training, experiment.agent_steps_per_iteration
    smallest = experiment.smallest_batch
    slices = experiment.learner_parameters.get("minibatches", 1) * max(1, training.learners)
    if smallest < 2 * slices:
        raise FieldError(
            f"algorithm.parameters.minibatches: {slices} slices of {smallest} rows leave less than 2 each; "
            f"expected at most {smallest // 2} slices"
        )
    if training.agent_steps < rows:
        raise FieldError(
            f"training.agent_steps = {training.agent_steps}: expected at least one iteration, {rows} agent steps"
        )


def check_machine(experiment: Experiment) -> None:
    """The experiment fits this machine. Not a rule of the content: runners on other machines read it, too."""
    training, rows = experiment.training, experiment.agent_steps_per_iteration
    cpus, actors = available_cpus(), training.runners + training.learners
    if actors > cpus:
        raise FieldError(
            f"training.runners: {training.runners} runners, {training.learners} learners want {actors} CPUs, "
            f"expected at most the {cpus} of this machine"
        )
    needed, memory = rows * ROW_BYTES, _memory_bytes()
    if needed > memory // 2:
        raise FieldError(
            f"market.worlds: one rollout of {rows:.3g} agent steps needs about {needed / 2**30:.3g} GiB; "
            f"expected at most half of this machine's {memory / 2**30:.3g} GiB"
        )


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
