"""Policies that do not learn: rules of a market, functions of one's own, and policies that were
exported before."""

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
    """A rule of the market, or the function at `package.module:function`."""
    scripts = market.scripts()
    if rule in scripts:
        return Policy(scripts[rule])
    try:
        found = import_object(rule)
    except (ImportError, AttributeError) as error:
        near = did_you_mean(rule, list(scripts))
        raise ExperimentError(f"{field} = {rule!r}: {error}{near}") from None
    if not callable(found):
        raise ExperimentError(
            f"{field} = {rule!r}: expected a function of observations [worlds, agents, ...]"
        )
    return Policy(found)


def frozen(field: str, path: str, group: str, market: Market) -> Policy:
    """The exported policy that `group` followed when it was trained; the only one where there is
    one."""
    loaded = load(path)
    actor = _actor(field, loaded, group)
    spec = actor.spec
    agents = market.groups[group]
    expected = (int(agents.observation_space.shape[0]), describe_space(agents.action_space))
    if (spec["observation"], spec["action"]) != expected:
        raise ExperimentError(
            f"{field} = {path!r}: its observations or actions are not those of group {group!r}"
        )
    if spec.get("copies") not in (None, agents.count):
        raise ExperimentError(
            f"{field} = {path!r}: holds {spec['copies']} agents, group {group!r} has {agents.count}"
        )
    actor.to(market.device)
    return actor.policy


def _actor(field: str, loaded: LoadedPolicy, group: str) -> Actor:
    if group in loaded.groups and loaded.groups[group] in loaded.actors:
        return loaded.actors[loaded.groups[group]]
    if len(loaded.actors) == 1:
        return next(iter(loaded.actors.values()))
    raise ExperimentError(
        f"{field}: holds no policy of group {group!r}; it has {', '.join(loaded.groups)}"
    )


def frozen_actors(experiment: Experiment) -> dict[str, Actor]:
    """The networks of the policies that are frozen; they are exported along with the trained
    ones."""
    found = {}
    for name, section in experiment.policies.items():
        if section.frozen is not None:
            found[name] = _actor(f"policies.{name}.frozen", load(section.frozen), section.groups[0])
    return found


def profile(experiment: Experiment, loaded: LoadedPolicy, market: Market) -> dict[str, Policy]:
    """Group -> what it follows after training: an exported network, whose weights take no
    gradients, or a rule."""
    found: dict[str, Policy] = {}
    for name, section in experiment.policies.items():
        for group in section.groups:
            if section.scripted is not None:
                found[group] = scripted(f"policies.{name}.scripted", section.scripted, market)
            else:
                found[group] = loaded.actors[name].policy
    return found
