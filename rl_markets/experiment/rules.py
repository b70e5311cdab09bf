"""Rules across fields: names exist, groups have policies, sizes fit each other and the machine."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from rl_markets.envs.registry import LEARNERS, MARKETS, did_you_mean, find
from rl_markets.errors import FieldError
from rl_markets.experiment.experiment import Experiment
from rl_markets.experiment.sections import PolicySection
from rl_markets.experiment.validation import first_line, validate

ROW_BYTES = 64
"""A rough size of one agent step in a rollout: observations, actions, returns."""

EXPORTED = ("policy.json", "policy/policy.json")
"""Where an exported policy is told by, in its own folder and in a run's."""

LATEST = "latest"
"""The link under runs/ that points to the newest run."""


def check(experiment: Experiment) -> None:
    """All rules of the content.

    Raises:
        FieldError: what was found, and what was expected.
    """
    for rule in (check_names, check_groups, check_policies, check_discount, check_sizes):
        rule(experiment)


def check_names(experiment: Experiment) -> None:
    """Market and learner exist, and their parameters are valid."""
    if experiment.name == LATEST:
        raise FieldError(
            f"name = {LATEST!r}: expected another name, runs/{LATEST} is the link to the newest run"
        )
    for group, field in ((MARKETS, "market"), (LEARNERS, "algorithm")):
        section = experiment.market if group == MARKETS else experiment.algorithm
        try:
            spec = find(group, section.name)
        except LookupError as error:
            raise FieldError(f"{field}.name = {section.name!r}: {error}") from None
        try:
            validate(spec.parameters, section.parameters)
        except ValidationError as error:
            raise FieldError(
                first_line(spec.parameters, error, prefix=f"{field}.parameters.")
            ) from None


def check_discount(experiment: Experiment) -> None:
    """Each learner discounts as the market's agents do, or says how."""
    discount = experiment.discount
    owner = experiment.market_spec.discount
    for policy, section in experiment.learned.items():
        gamma = experiment.parameters(policy).gamma
        field = (
            f"policies.{policy}.parameters.gamma"
            if "gamma" in section.parameters
            else "algorithm.parameters.gamma"
        )
        if gamma is None:
            raise FieldError(
                f"{field}: missing; market {experiment.market.name!r} has no discount factor of "
                "its own"
            )
        if gamma == 1 and not experiment.parameters(policy).undiscounted:
            raise FieldError(
                f"{field} = 1: {experiment.algorithm.name} needs a discount factor below 1"
            )
        if discount is not None and gamma != discount:
            raise FieldError(
                f"{field} = {gamma}: expected {discount}, as market.parameters.{owner}; leave it "
                "out to take the market's"
            )


def check_policies(experiment: Experiment) -> None:
    """Scripts exist, some policy learns, and its own parameters are among those that may differ."""
    for policy, section in experiment.policies.items():
        field = f"policies.{policy}"
        if section.scripted is not None and section.frozen is not None:
            raise FieldError(f"{field}: scripted and frozen are both given; expected one of them")
        if section.learns:
            _check_learned(experiment, policy, section)
        elif section.separate or section.central_critic or section.parameters:
            what = next(
                n for n in ("separate", "central_critic", "parameters") if getattr(section, n)
            )
            raise FieldError(f"{field}.{what}: this policy does not learn; leave it out")
        scripts = experiment.market_spec.scripts
        if (
            section.scripted is not None
            and ":" not in section.scripted
            and section.scripted not in scripts
        ):
            near = (
                did_you_mean(section.scripted, list(scripts))
                or "; it has none, give package.module:function"
            )
            raise FieldError(
                f"{field}.scripted: market {experiment.market.name!r} has no rule "
                f"{section.scripted!r}{near}"
            )
    if not experiment.learned:
        raise FieldError(
            "policies: none of them learns; expected at least one without scripted or frozen"
        )


def _check_learned(experiment: Experiment, policy: str, section: PolicySection) -> None:
    field = f"policies.{policy}"
    model = experiment.learner_spec.parameters
    for name in section.parameters:
        if name in model.common:
            raise FieldError(
                f"{field}.parameters.{name}: all policies share it; expected it in "
                "algorithm.parameters"
            )
    try:
        validate(model, {**experiment.algorithm.parameters, **section.parameters})
    except ValidationError as error:
        raise FieldError(first_line(model, error, prefix=f"{field}.parameters.")) from None
    if experiment.learner_spec.differentiates and not experiment.market_spec.differentiable:
        raise FieldError(
            f"algorithm.name = {experiment.algorithm.name!r}: takes gradients through the market, "
            "and "
            f"{experiment.market.name!r} is not differentiable"
        )
    if section.separate and len(section.groups) > 1:
        raise FieldError(
            f"{field}.separate: a policy for each agent of {len(section.groups)} groups; expected "
            "one group, "
            "give each group a section of its own"
        )
    if section.central_critic and not experiment.market_spec.global_state:
        raise FieldError(
            f"{field}.central_critic: market {experiment.market.name!r} gives no global state"
        )


def check_groups(experiment: Experiment) -> None:
    """Every group of the market has exactly one policy."""
    market = experiment.market.name
    groups = list(experiment.groups)
    owner: dict[str, str] = {}
    for policy, section in experiment.policies.items():
        for group in section.groups:
            field = f"policies.{policy}.groups"
            if group not in groups:
                near = did_you_mean(group, groups)
                raise FieldError(f"{field}: market {market!r} has no group {group!r}{near}")
            if group in owner:
                raise FieldError(
                    f"{field}: group {group!r} already belongs to policy {owner[group]!r}"
                )
            owner[group] = policy
    for group in groups:
        if group not in owner:
            raise FieldError(f"policies: no policy has group {group!r} of market {market!r}")


def check_sizes(experiment: Experiment) -> None:
    """The sizes of rollout, minibatches and training fit each other."""
    training = experiment.training
    rows = experiment.agent_steps_per_iteration
    smallest = experiment.smallest_batch
    parameters = experiment.parameters(next(iter(experiment.learned)))
    slices = getattr(parameters, "minibatches", 1) * max(1, training.learners)
    if smallest < 2 * slices:
        raise FieldError(
            f"algorithm.parameters.minibatches: {slices} slices of {smallest} rows leave less than "
            "2 each; "
            f"expected at most {smallest // 2} slices"
        )
    horizon = getattr(parameters, "horizon", 1)
    if training.rollout_length % horizon:
        raise FieldError(
            f"algorithm.parameters.horizon = {horizon}: expected a divisor of "
            "training.rollout_length = "
            f"{training.rollout_length}"
        )
    if training.agent_steps < rows:
        raise FieldError(
            f"training.agent_steps = {training.agent_steps}: expected at least one iteration, "
            f"{rows} agent steps"
        )


def check_machine(experiment: Experiment) -> None:
    """The experiment fits this machine. Not a rule of the content: runners on other machines read
    it, too."""
    for policy, section in experiment.policies.items():
        if section.frozen is not None and not any(
            Path(section.frozen, p).is_file() for p in EXPORTED
        ):
            raise FieldError(
                f"policies.{policy}.frozen = {section.frozen!r}: holds no exported policy"
            )
    training = experiment.training
    rows = experiment.agent_steps_per_iteration
    cpus = available_cpus()
    actors = training.runners + training.learners
    if actors > cpus:
        raise FieldError(
            f"training.runners: {training.runners} runners, {training.learners} learners want "
            f"{actors} CPUs, "
            f"expected at most the {cpus} of this machine"
        )
    needed = rows * ROW_BYTES
    memory = _memory_bytes()
    if needed > memory // 2:
        raise FieldError(
            f"market.worlds: one rollout of {rows:.3g} agent steps needs about "
            f"{needed / 2**30:.3g} GiB; "
            f"expected at most half of this machine's {memory / 2**30:.3g} GiB"
        )


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
