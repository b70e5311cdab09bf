"""From an experiment to an RLlib algorithm."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from rl_markets.envs.market import AgentGroup, Market
from rl_markets.experiment import Experiment, parse
from rl_markets.policies.networks import describe_space
from rl_markets.quiet import quiet_logs

MarketBuilder = Callable[[str, int | None], Market]
"""Builds a market from (device, worlds or None for the experiment's own number)."""


@contextmanager
def ray_session(experiment: Experiment) -> Iterator[None]:
    """Ray for the duration, unless it runs already; then it is left as it is. `RAY_ADDRESS` names a cluster."""
    import ray

    torch.set_num_threads(1)  # as in every runner: another number of threads rounds differently
    if ray.is_initialized():
        yield
        return
    training, address = experiment.training, os.environ.get("RAY_ADDRESS")
    own = {} if address else {"num_cpus": training.runners + training.learners + 1, "object_store_memory": 2**28}
    ray.init(address=address or "local", include_dashboard=False, log_to_driver=False, logging_level="ERROR", **own)
    try:
        yield
    finally:
        ray.shutdown()


def build_market(content: dict[str, Any], device: str, worlds: int | None = None) -> Market:
    """The experiment's market; `content` is plain data, so that runners on other machines can call this."""
    experiment = parse(content, "experiment")
    return experiment.market_spec.build(
        experiment.market_parameters, worlds=worlds or experiment.market.worlds, device=device
    )


def one_world(experiment: Experiment) -> Market:
    """A single world of the experiment's market on the CPU: to ask it for its groups, its answer, its units."""
    return experiment.market_spec.build(experiment.market_parameters, worlds=1)


def policy_specs(experiment: Experiment, groups: Mapping[str, AgentGroup]) -> dict[str, dict[str, Any]]:
    """Policy -> the spec of its `networks.Actor`.

    Raises:
        ValueError: where groups with different spaces share a policy, or a space is not supported.
    """
    parameters, specs = experiment.learner_parameters, {}
    for policy, section in experiment.policies.items():
        first, *others = (groups[g] for g in section.groups)
        for other in others:
            if (other.observation_space, other.action_space) != (first.observation_space, first.action_space):
                raise ValueError(
                    f"policies.{policy}.groups: {section.groups} have different spaces and cannot share it"
                )
        specs[policy] = {
            "observation": int(first.observation_space.shape[0]),
            "action": describe_space(first.action_space),
            "hidden": list(section.hidden),
            "activation": section.activation,
            "log_std": parameters.get("log_std", 0.0),
            "trained_std": parameters.get("final_log_std", 0.0) is None,
        }
    return specs


def algorithm_config(experiment: Experiment, build: MarketBuilder | None = None, weights: str | None = None) -> Any:
    """The experiment as an RLlib `AlgorithmConfig`.

    Args:
        experiment: what to train.
        build: builds the market `(device, worlds)`, if it is not the experiment's own.
        weights: a safetensors file with the actor to start from.
    """
    from rl_markets.rllib.env_runner import BatchedEnvRunner

    algorithm, learner, module = experiment.learner_spec.load()
    quiet_logs()
    training, parameters = experiment.training, experiment.learner_parameters
    build = build or partial(build_market, experiment.model_dump(mode="json"))
    policies = {policy: tuple(section.groups) for policy, section in experiment.policies.items()}
    steps = experiment.env_steps_per_iteration
    groups = build("cpu", 1).groups
    agents = sum(group.count for group in groups.values())
    total = -(-training.agent_steps // (steps * agents)) * steps
    config = algorithm.get_default_config()
    config.environment(Market, env_config={"build": build, "policies": policies})
    config.env_runners(
        num_env_runners=training.runners, env_runner_cls=BatchedEnvRunner, create_local_env_runner=True,
        num_envs_per_env_runner=experiment.market.worlds, rollout_fragment_length=training.rollout_length,
    )  # fmt: skip
    config.multi_agent(policies=set(policies), policy_mapping_fn=partial(_no_mapping, next(iter(policies))))
    config.training(
        gamma=parameters["gamma"], train_batch_size_per_learner=steps // max(1, training.learners),
        learner_class=learner, learner_config_dict={**parameters, "total_env_steps": total},
        grad_clip=parameters["gradient_clip"], grad_clip_by="global_norm", minibatch_size=1, num_epochs=1,
    )  # fmt: skip
    config.learners(num_learners=training.learners, num_gpus_per_learner=training.gpus_per_learner)
    config.rl_module(rl_module_spec=_module_specs(experiment, groups, module, weights))
    config.fault_tolerance(restart_failed_env_runners=False, ignore_env_runner_failures=False)
    config.reporting(
        min_time_s_per_iteration=None, min_train_timesteps_per_iteration=0, min_sample_timesteps_per_iteration=0
    )
    config.debugging(seed=experiment.seed, log_level="ERROR")
    return config


def _module_specs(
    experiment: Experiment, groups: Mapping[str, AgentGroup], module: type[Any], weights: str | None
) -> Any:
    """Each policy's module, its weights drawn from a seed of its own."""
    from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec

    specs = {}
    for i, (policy, actor) in enumerate(policy_specs(experiment, groups).items()):
        config = {"actor": actor, "seed": experiment.seed + 31 * i, "weights": weights}
        specs[policy] = RLModuleSpec(module_class=module, model_config=config)
    return MultiRLModuleSpec(rl_module_specs=specs)


def _no_mapping(policy: str, *_: Any, **__: Any) -> str:
    """RLlib wants a mapping of agents to policies; the runner maps whole groups and never calls this."""
    return policy
