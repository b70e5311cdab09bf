"""Rules across fields: names exist, groups have policies that can act, sizes fit each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from rl_markets.envs.lookup import look_up
from rl_markets.envs.registry import LEARNERS, MARKETS, did_you_mean, find
from rl_markets.errors import FieldError
from rl_markets.experiment.experiment import Experiment
from rl_markets.experiment.sections import PolicySection
from rl_markets.experiment.validation import first_line, validate
from rl_markets.say import Say

LATEST = "latest"
"""The link under runs/ that points to the newest run."""

SMALLEST = 1e-12
LARGEST = 1e12
"""Sizes of numbers, other than 0, with which single precision computes; squares of larger ones, and
what they are multiplied by, overflow."""


def check(
    experiment: Experiment, *, machine: bool = True, build: bool = True, say: Say | None = None
) -> None:
    """All rules of the content; those that ask who acts only where that can be told.

    Args:
        experiment: to be checked.
        machine: what the file names by import path is on this machine.
        build: tell it by building a foreign environment, which runs its code.
        say: told in a line, before it runs, which code of others that is.

    Raises:
        FieldError: what was found, and what was expected.
    """
    # In this order: each may take for granted what those before it ask for.
    check_names(experiment)
    check_magnitudes(experiment)
    if machine:
        check_code(experiment)
    known = build or agents_are_told(experiment)
    if build and say is not None and experiment.code:
        say(announced(experiment))
    if known:
        check_groups(experiment)
        check_spaces(experiment)
    check_policies(experiment)
    check_discount(experiment)
    if known:
        check_sizes(experiment)


def announced(experiment: Experiment) -> str:
    """The line that says which code of others runs with an experiment."""
    named = ", ".join(f"{path} ({field})" for field, path in experiment.code.items())
    return f"{experiment.name}: runs code that the file names: {named}"


def agents_are_told(experiment: Experiment) -> bool:
    """Whether the parameters alone tell the market's agents."""
    return not experiment.market_spec.code(experiment.market_parameters)


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
            prefix = f"{field}.parameters."
            raise FieldError(first_line(spec.parameters, error, prefix=prefix)) from None


def check_magnitudes(experiment: Experiment) -> None:
    """No number is so large or so small that single precision cannot compute with it."""
    given = {
        "market.parameters": experiment.market.parameters,
        "algorithm.parameters": experiment.algorithm.parameters,
    }
    for name, section in experiment.policies.items():
        given[f"policies.{name}.parameters"] = section.parameters
    others = {f"market.parameters.{name}" for name in experiment.market_spec.foreign}
    for section_name, values in given.items():
        for field, value in _numbers(values, section_name, others):
            if value != 0 and not SMALLEST <= abs(value) <= LARGEST:
                raise FieldError(
                    f"{field} = {value:g}: expected 0, or a size between {SMALLEST:g} and "
                    f"{LARGEST:g}, with which single precision computes; choose another unit"
                )


def _numbers(values: Any, path: str, others: set[str]) -> Iterator[tuple[str, float]]:
    """Path -> number, of every one; not below the paths of `others`."""
    if path in others or isinstance(values, bool):
        return
    if isinstance(values, int | float):
        yield path, float(values)
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from _numbers(value, f"{path}.{key}", others)
    elif isinstance(values, list):
        for i, value in enumerate(values):
            yield from _numbers(value, f"{path}.{i}", others)


def check_code(experiment: Experiment) -> None:
    """What the file names by import path is there; nothing is imported."""
    for field, path in experiment.code.items():
        try:
            look_up(path, "callable" if field.startswith("market") else "function")
        except ValueError as error:
            raise FieldError(f"{field} = {error}") from None


def check_discount(experiment: Experiment) -> None:
    """Each learner discounts as the market's agents do, or says how."""
    discount = experiment.discount
    discount_name = experiment.market_spec.discount
    for policy, section in experiment.learned.items():
        gamma = experiment.parameters(policy).gamma
        field = "algorithm.parameters.gamma"
        if "gamma" in section.parameters:
            field = f"policies.{policy}.parameters.gamma"
        if gamma is None:
            raise FieldError(
                f"{field}: missing; "
                f"market {experiment.market.name!r} has no discount factor of its own"
            )
        if gamma == 1 and not experiment.parameters(policy).undiscounted:
            raise FieldError(
                f"{field} = 1: {experiment.algorithm.name} needs a discount factor below 1"
            )
        if discount is not None and gamma != discount:
            raise FieldError(
                f"{field} = {gamma}: expected {discount}, as market.parameters.{discount_name}; "
                "leave it out to take the market's"
            )


def check_policies(experiment: Experiment) -> None:
    """Scripts exist, some policy learns, and its own parameters are among those that may differ."""
    for policy, section in experiment.policies.items():
        field = f"policies.{policy}"
        if section.scripted is not None and section.frozen is not None:
            raise FieldError(f"{field}: scripted and frozen are both given; expected one of them")
        if section.learns:
            _check_learned(experiment, policy, section)
        else:
            for setting in ("separate", "central_critic", "parameters"):
                if getattr(section, setting):
                    raise FieldError(f"{field}.{setting}: this policy does not learn; leave it out")
        if section.scripted is not None:
            _check_script(experiment, f"{field}.scripted", section.scripted)
    if not experiment.learned:
        raise FieldError(
            "policies: none of them learns; expected at least one without scripted or frozen"
        )


def _check_script(experiment: Experiment, field: str, rule: str) -> None:
    """A rule is the market's own; functions, by `package.module:function`, are imported later."""
    scripts = experiment.market_spec.scripts
    if ":" in rule or rule in scripts:
        return
    hint = did_you_mean(rule, list(scripts)) or "; it has none, give package.module:function"
    raise FieldError(f"{field}: market {experiment.market.name!r} has no rule {rule!r}{hint}")


def _check_learned(experiment: Experiment, policy: str, section: PolicySection) -> None:
    field = f"policies.{policy}"
    model = experiment.learner_spec.parameters
    for name in section.parameters:
        if name in model.common:
            raise FieldError(
                f"{field}.parameters.{name}: all policies share it; "
                "expected it in algorithm.parameters"
            )
    try:
        validate(model, {**experiment.algorithm.parameters, **section.parameters})
    except ValidationError as error:
        raise FieldError(first_line(model, error, prefix=f"{field}.parameters.")) from None
    if experiment.learner_spec.differentiates and not experiment.market_spec.differentiable:
        raise FieldError(
            f"algorithm.name = {experiment.algorithm.name!r}: takes gradients through the market, "
            f"and {experiment.market.name!r} is not differentiable"
        )
    if section.separate and len(section.groups) > 1:
        raise FieldError(
            f"{field}.separate: a policy for each agent of {len(section.groups)} groups; "
            "expected one group, give each group a section of its own"
        )


def check_groups(experiment: Experiment) -> None:
    """Every group of the market has exactly one policy."""
    market = experiment.market.name
    try:
        groups = list(experiment.groups)
    except ValueError as error:  # a foreign environment that cannot be built
        raise FieldError(f"market.parameters.{error}") from None
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


def check_spaces(experiment: Experiment) -> None:
    """Every learner can do what its groups do, and sees what it asks for."""
    learner = experiment.learner_spec
    market = experiment.market.name
    for policy, section in experiment.learned.items():
        field = f"policies.{policy}"
        told = {g: experiment.spaces[g] for g in section.groups if g in experiment.spaces}
        for group, spaces in told.items():
            problem = learner.cannot(group, spaces.action)
            if problem is not None:
                raise FieldError(problem)
        if len(set(told.values())) > 1:
            raise FieldError(
                f"{field}.groups: {section.groups} have different spaces and cannot share it"
            )
        gives_state = experiment.market_spec.gives_global_state
        if section.central_critic and not gives_state(experiment.market_parameters):
            raise FieldError(f"{field}.central_critic: market {market!r} gives no global state")


def check_sizes(experiment: Experiment) -> None:
    """The sizes of rollout, minibatches and training fit each other."""
    training = experiment.training
    rows = experiment.agent_steps_per_iteration
    smallest = experiment.smallest_batch
    # Any policy's parameters will do: those that are looked at here are the same for all.
    parameters = experiment.parameters(next(iter(experiment.learned)))
    slices = getattr(parameters, "minibatches", 1) * max(1, training.learners)
    if smallest < 2 * slices:
        raise FieldError(
            f"algorithm.parameters.minibatches: {slices} slices of {smallest} rows "
            f"leave less than 2 each; expected at most {smallest // 2} slices"
        )
    _check_separate(experiment)
    horizon = getattr(parameters, "horizon", 1)
    if training.rollout_length % horizon:
        raise FieldError(
            f"algorithm.parameters.horizon = {horizon}: "
            f"expected a divisor of training.rollout_length = {training.rollout_length}"
        )
    if training.agent_steps < rows:
        raise FieldError(
            f"training.agent_steps = {training.agent_steps}: expected at least one iteration, "
            f"{rows} agent steps"
        )


def _check_separate(experiment: Experiment) -> None:
    """Every learner gets rows of every separate policy: these are its worlds."""
    learners = experiment.training.learners
    worlds = experiment.market.worlds * max(1, experiment.training.runners)
    for name, section in experiment.learned.items():
        if section.separate and worlds < learners:
            raise FieldError(
                f"policies.{name}.separate: {worlds} worlds for {learners} learners; expected at "
                "least a world for each learner"
            )
