"""From an experiment to an RLlib algorithm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from rl_markets.envs.market import AgentGroup, Market, Policy
from rl_markets.errors import ExperimentError
from rl_markets.experiment import Experiment
from rl_markets.experiment.sections import PolicySection
from rl_markets.fixed_policies import fixed_policies
from rl_markets.policies.actors import NETWORK
from rl_markets.policies.heads import describe_space
from rl_markets.policies.sampling import SAMPLING, MarketBuilder, SamplingConfig
from rl_markets.policies.spec import LearnerParameters
from rl_markets.quiet import quiet_logs
from rl_markets.rllib.algorithm import MarketAlgorithm, MarketConfig
from rl_markets.rllib.env_runner import BatchedEnvRunner


def build_market(experiment: Experiment, device: str, worlds: int | None = None) -> Market:
    """The experiment's market, with as many worlds as it says unless told otherwise."""
    return experiment.market_spec.build(
        experiment.market_parameters, worlds=worlds or experiment.market.worlds, device=device
    )


def one_world(experiment: Experiment) -> Market:
    """A single world of the experiment's market on the CPU.

    For whoever asks it for its groups, its scripts, or its units.
    """
    return build_market(experiment, "cpu", 1)


def algorithm_config(
    experiment: Experiment,
    build: MarketBuilder | None = None,
    fixed: Callable[[Market], Mapping[str, Policy]] | None = None,
    weights: Path | None = None,
) -> MarketConfig:
    """The experiment as an RLlib `AlgorithmConfig`.

    Args:
        experiment: what to train.
        build: builds the market `(device, worlds)`, if it is not the experiment's own.
        fixed: market -> group -> policy of the groups that do not learn, if they are not the
            experiment's own.
        weights: a safetensors file with the actor to start from; see `MarketModule`.
    """
    quiet_logs()
    learner, module = experiment.learner_spec.load()
    training = experiment.training
    build = build or partial(build_market, experiment)
    fixed = fixed or partial(fixed_policies, experiment)
    market = build("cpu", 1)
    config = MarketAlgorithm.get_default_config()
    config.environment(Market, env_config={SAMPLING: _sampling(experiment, build, fixed)})
    config.env_runners(
        num_env_runners=training.runners,
        env_runner_cls=BatchedEnvRunner,
        create_local_env_runner=True,
        num_envs_per_env_runner=experiment.market.worlds,
        rollout_fragment_length=training.rollout_length,
    )
    config.multi_agent(
        policies=set(experiment.learned),
        policy_mapping_fn=partial(_no_mapping, next(iter(experiment.learned))),
    )
    rows = experiment.env_steps_per_iteration // max(1, training.learners)
    config.training(
        train_batch_size_per_learner=rows,
        learner_class=learner,
        learner_config_dict=_learner_config(experiment, market.groups),
    )
    config.learners(num_learners=training.learners, num_gpus_per_learner=training.gpus_per_learner)
    config.rl_module(rl_module_spec=_module_specs(experiment, market, module, weights))
    config.debugging(seed=experiment.seed, log_level="ERROR")
    _never_wait(config)
    return config


def _never_wait(config: MarketConfig) -> None:
    """Runners that died start anew at once, and an iteration is one update, however short."""
    config.fault_tolerance(
        restart_failed_env_runners=True,
        delay_between_env_runner_restarts_s=0.0,
        env_runner_health_probe_timeout_s=0.5,
    )
    config.reporting(
        min_time_s_per_iteration=None,
        min_train_timesteps_per_iteration=0,
        min_sample_timesteps_per_iteration=0,
    )


def _sampling(
    experiment: Experiment,
    build: MarketBuilder,
    fixed: Callable[[Market], Mapping[str, Policy]],
) -> SamplingConfig:
    """What runners are told."""
    learned = experiment.learned.items()
    return SamplingConfig(
        build=build,
        fixed=fixed,
        policies={name: tuple(section.groups) for name, section in learned},
        separate=frozenset(name for name, section in learned if section.separate),
        central=frozenset(name for name, section in learned if section.central_critic),
        states_every=_horizon(experiment),
        step_seconds=experiment.training.step_seconds,
    )


def _learner_config(experiment: Experiment, groups: Mapping[str, AgentGroup]) -> dict[str, Any]:
    """What the learner reads: each policy's parameters, and how long training is."""
    steps = experiment.env_steps_per_iteration
    agents = sum(group.count for group in groups.values())
    total = -(-experiment.training.agent_steps // (steps * agents)) * steps
    policies = {name: experiment.parameters(name) for name in experiment.learned}
    return {"policies": policies, "total_env_steps": total}


def _horizon(experiment: Experiment) -> int:
    """Every how many steps a learner wants the market's state; 0 for never."""
    if not experiment.learner_spec.differentiates:
        return 0
    parameters = experiment.parameters(next(iter(experiment.learned)))
    return int(parameters.horizon)  # type: ignore[attr-defined]


def _module_specs(
    experiment: Experiment, market: Market, module: type[Any], weights: Path | None
) -> Any:
    """Each policy's module, its weights drawn from a seed of its own or read from a file."""
    specs = {}
    for i, (policy, section) in enumerate(experiment.learned.items()):
        config = {
            "actor": actor_spec(experiment, policy, market.groups),
            "central": market_width(market) if section.central_critic else 0,
            "seed": experiment.seed + 31 * i,
            "parameters": experiment.parameters(policy),
            "weights": None if weights is None else str(weights),
        }
        specs[policy] = RLModuleSpec(module_class=module, model_config=config)
    return MultiRLModuleSpec(rl_module_specs=specs)


def market_width(market: Market) -> int:
    """Width of the market's global state."""
    market.reset(0)
    return int(market.global_state().shape[1])


def actor_spec(
    experiment: Experiment, policy: str, groups: Mapping[str, AgentGroup]
) -> dict[str, Any]:
    """The spec of a policy's `Actor`.

    Raises:
        ExperimentError: where groups with different spaces share a policy.
        ValueError: where a space is not supported.
    """
    section = experiment.policies[policy]
    first = _alike(policy, section.groups, groups)
    learner = experiment.learner_spec
    action = describe_space(first.action_space)
    problem = learner.cannot(section.groups[0], action["type"])
    if problem is not None:
        raise ExperimentError(problem)
    spec: dict[str, Any] = {
        "observation": int(first.observation_space.shape[0]),
        "action": action,
    }
    if learner.actor == NETWORK:  # the kind of most files, which do not name it
        spec |= _network_spec(section, experiment.parameters(policy))
    else:
        spec["kind"] = learner.actor
    if first.masked:
        spec["masked"] = True
    agents = sum(groups[group].count for group in section.groups)
    spec["copies"] = agents if section.separate else None
    return spec


def _alike(policy: str, names: list[str], groups: Mapping[str, AgentGroup]) -> AgentGroup:
    """The first of a policy's groups; the others must have the same spaces."""
    first, *others = (groups[name] for name in names)
    for other in others:
        if replace(other, count=first.count) != first:
            raise ExperimentError(
                f"policies.{policy}.groups: {names} have different spaces and cannot share it"
            )
    return first


def _network_spec(section: PolicySection, parameters: LearnerParameters) -> dict[str, Any]:
    return {
        "hidden": list(section.hidden),
        "activation": section.activation,
        "log_std": getattr(parameters, "log_std", 0.0),
        "trained_std": getattr(parameters, "final_log_std", 0.0) is None,
    }


def _no_mapping(policy: str, *_: Any, **__: Any) -> str:
    """RLlib wants a mapping of agents to policies; the runner maps whole groups and calls none."""
    return policy
