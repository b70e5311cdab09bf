"""Policies that do not learn.

Rules of a market, functions of one's own, and policies that were exported before.
"""

from __future__ import annotations

from rl_markets.envs.market import Market, Policy
from rl_markets.envs.registry import did_you_mean, import_object
from rl_markets.errors import ExperimentError
from rl_markets.experiment import Experiment
from rl_markets.exported import LoadedPolicy, load
from rl_markets.policies.actors import Actor
from rl_markets.policies.heads import describe_space


def fixed_policies(experiment: Experiment, market: Market) -> dict[str, Policy]:
    """Group -> the policy of the groups that do not learn: a script, or a frozen one.

    Raises:
        ExperimentError: where a script cannot be imported, or a frozen policy does not suit the
            market.
    """
    policies: dict[str, Policy] = {}
    for name, section in experiment.policies.items():
        for group in section.groups:
            if section.scripted is not None:
                policies[group] = scripted(f"policies.{name}.scripted", section.scripted, market)
            elif section.frozen is not None:
                policies[group] = frozen(f"policies.{name}.frozen", section.frozen, group, market)
    return policies


def scripted(field: str, rule: str, market: Market) -> Policy:
    """A rule of the market, or the function at `package.module:function`.

    Args:
        field: of the experiment file, for errors.
        rule: as the file gives it.
        market: whose rules count first.

    Raises:
        ExperimentError: where there is neither.
    """
    scripts = market.scripts()
    if rule in scripts:
        return Policy(scripts[rule])
    try:
        function = import_object(rule)
    except (ImportError, AttributeError) as error:
        near = did_you_mean(rule, list(scripts))
        raise ExperimentError(f"{field} = {rule!r}: {error}{near}") from None
    if not callable(function):
        raise ExperimentError(
            f"{field} = {rule!r}: expected a function of observations [worlds, agents, ...]"
        )
    return Policy(function)


def frozen(field: str, path: str, group: str, market: Market) -> Policy:
    """The exported policy that `group` followed when it was trained, or the only one there is.

    Args:
        field: of the experiment file, for errors.
        path: of an exported policy or a run.
        group: that is to follow it.
        market: in which; the policy moves to its device.

    Raises:
        ExperimentError: where it does not suit the group.
    """
    actor = _actor(field, load(path), group)
    spec = actor.spec
    agents = market.groups[group]
    expected = (int(agents.observation_space.shape[0]), describe_space(agents.action_space))
    if (spec["observation"], spec["action"]) != expected:
        raise ExperimentError(
            f"{field} = {path!r}: its observations or actions are not those of group {group!r}"
        )
    # Where each agent has a policy of its own, there must be as many agents.
    if spec.get("copies") not in (None, agents.count):
        raise ExperimentError(
            f"{field} = {path!r}: holds {spec['copies']} agents, group {group!r} has {agents.count}"
        )
    actor.to(market.device)
    return actor.policy


def _actor(field: str, loaded: LoadedPolicy, group: str) -> Actor:
    """The network that `group` followed, or the only one."""
    if group in loaded.groups and loaded.groups[group] in loaded.actors:
        return loaded.actors[loaded.groups[group]]
    if len(loaded.actors) == 1:
        return next(iter(loaded.actors.values()))
    raise ExperimentError(
        f"{field}: holds no policy of group {group!r}; it has {', '.join(loaded.groups)}"
    )


def frozen_actors(experiment: Experiment) -> dict[str, Actor]:
    """The networks of the policies that are frozen; they are exported along with the trained ones.

    Raises:
        ExperimentError: where a folder holds no policy of the section's first group.
    """
    actors = {}
    for name, section in experiment.policies.items():
        if section.frozen is not None:
            loaded = load(section.frozen)
            actors[name] = _actor(f"policies.{name}.frozen", loaded, section.groups[0])
    return actors


def profile(experiment: Experiment, loaded: LoadedPolicy, market: Market) -> dict[str, Policy]:
    """Group -> what it follows after training.

    An exported network, whose weights take no gradients, or a rule.
    """
    policies: dict[str, Policy] = {}
    for name, section in experiment.policies.items():
        for group in section.groups:
            if section.scripted is not None:
                policies[group] = scripted(f"policies.{name}.scripted", section.scripted, market)
            else:
                policies[group] = loaded.actors[name].policy
    return policies
