"""What an agent could still gain by deviating: one agent is trained against all others frozen."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rl_markets.envs.answer_key import Metric
from rl_markets.envs.deviation import DEVIATOR, deviation
from rl_markets.envs.groups import JoinedGroups
from rl_markets.envs.market import Market, Policy, PolicyFunction
from rl_markets.envs.numerics.statistics import interval
from rl_markets.experiment import Experiment
from rl_markets.experiment.sections import PolicySection
from rl_markets.exported import LoadedPolicy, load
from rl_markets.fixed_policies import profile
from rl_markets.policies.sampling import MarketBuilder
from rl_markets.rllib.build import algorithm_config, build_market
from rl_markets.training.run_folder import RunFolder

WORLDS = 64
"""Worlds of each evaluation seed."""
HORIZON_WEIGHT = 1e-4
"""The horizon ends where the discount factor falls below this weight."""
LONGEST = 100_000
"""Steps after which an episode without discounting is given up."""
LOOKS = 8
"""The best of so many looks at the deviator is kept."""
SELECTION_SEEDS = [2_000_000, 2_000_001]
"""What looks are judged on; the gain is measured on other seeds."""


def build_deviation(
    experiment: Experiment, policy: str, group: str, device: str = "cpu", worlds: int | None = None
) -> Market:
    """The experiment's market with one agent of `group` free.

    All others follow the policy exported at `policy`.
    """
    loaded = load(policy)
    market = build_market(experiment, device, worlds)
    for actor in loaded.actors.values():
        actor.to(device)
    return deviation(market, profile(experiment, loaded, market), group)


def _nobody(market: Market) -> dict[str, Policy]:
    """No group of a `DeviationMarket` but the deviator: the market itself plays the others."""
    return {}


def deviation_gain(
    run: RunFolder, experiment: Experiment, loaded: LoadedPolicy, group: str, seeds: list[int]
) -> Metric:
    """Trains one agent against the frozen others, from the policy it follows.

    It learns by the run's own learner. What it then gains is a lower bound on its best-response
    gain: it could always do better still, and it could always have stayed.
    """
    policy = loaded.groups[group]
    build = partial(build_deviation, experiment, str(run.policy), group)
    judged = partial(build_deviation, _as_judged(experiment), str(run.policy), group)
    agent = _place(experiment, policy, group)
    stayer = loaded.actors[policy].of_agent(agent).act
    gamma = experiment.gamma(group)
    deviant = _deviant_experiment(experiment, policy)
    weights = {
        "weights": str(run.policy / f"{policy}.safetensors"),
        "agent": agent,
        "copies": loaded.actors[policy].spec.get("copies"),
    }
    market = judged("cpu", WORLDS)
    deviator = _train(deviant, build, market, weights, stayer, gamma)
    gains = np.zeros(len(seeds))
    stays = "; it found nothing better than to stay"
    if deviator is not None:
        gains = discounted_gains(market, deviator, stayer, gamma, seeds)
        stays = ""
    low, high = interval(gains)
    value, unit = market.in_units(float(gains.mean()))
    return Metric(
        name=f"best_response_gain/trained/{group}",
        label=f"gain of a trained deviator, {group}",
        value=value,
        unit=unit,
        low=market.in_units(low)[0],
        high=market.in_units(high)[0],
        answer=0.0,
        note=f"one agent, trained on for {deviant.training.agent_steps:,} of its steps against the "
        f"frozen others by {experiment.algorithm.name}; a lower bound on what it could gain{stays}",
    )


def _place(experiment: Experiment, policy: str, group: str) -> int:
    """Where the first agent of a group stands among the agents of its policy."""
    groups = experiment.policies[policy].groups
    return JoinedGroups({name: experiment.groups[name] for name in groups}).start(group)


def _as_judged(experiment: Experiment) -> Experiment:
    """The experiment without what its market does for training alone."""
    parameters = experiment.market.parameters | dict(experiment.market_spec.training_only)
    market = experiment.market.model_copy(update={"parameters": parameters})
    return experiment.model_copy(update={"market": market})


def _train(
    deviant: Experiment,
    build: MarketBuilder,
    market: Market,
    weights: dict[str, Any],
    stayer: PolicyFunction,
    gamma: float,
) -> PolicyFunction | None:
    """The best deviator seen while training, as judged on `market`.

    None where none was better than to stay.
    """
    best_gain = 0.0
    best: PolicyFunction | None = None
    stay = discounted_rewards(market, stayer, gamma, SELECTION_SEEDS)
    iterations = max(1, deviant.training.agent_steps // deviant.env_steps_per_iteration)
    algorithm = algorithm_config(deviant, build, _nobody, weights).build_algo()
    try:
        for iteration in range(1, iterations + 1):
            algorithm.train()
            if iteration % max(1, iterations // LOOKS) == 0 or iteration == iterations:
                actor = copy.deepcopy(algorithm.get_module(DEVIATOR).deployed)
                deviate = discounted_rewards(market, actor.act, gamma, SELECTION_SEEDS)
                gain = float((deviate - stay).mean())
                if gain > best_gain:
                    best_gain = gain
                    best = actor.act
    finally:
        algorithm.stop()
    return best


def _deviant_experiment(experiment: Experiment, policy: str) -> Experiment:
    """The deviator's training: one agent a world, in the main process, in smaller steps."""
    given = experiment.parameters(policy)
    parameters = given.model_dump() | given.fine_tuning()
    kept = {"hidden", "activation", "central_critic"}
    section = experiment.policies[policy].model_dump(include=kept)
    alone = {"runners": 0, "learners": 0}
    steps = experiment.certificate.deviation_agent_steps
    worlds = min(experiment.market.worlds * experiment.agents, 1024)
    changed = {
        "policies": {DEVIATOR: PolicySection(**section, groups=[DEVIATOR])},
        "training": experiment.training.model_copy(update={**alone, "agent_steps": steps}),
        "algorithm": experiment.algorithm.model_copy(update={"parameters": parameters}),
        "market": experiment.market.model_copy(update={"worlds": worlds}),
    }
    return experiment.model_copy(update=changed)


def discounted_gains(
    market: Market, deviator: PolicyFunction, stayer: PolicyFunction, gamma: float, seeds: list[int]
) -> NDArray[np.float64]:
    """Discounted reward of deviating minus that of staying, on the same starts and shocks.

    One mean for each seed.
    """
    deviating = discounted_rewards(market, deviator, gamma, seeds)
    return deviating - discounted_rewards(market, stayer, gamma, seeds)


def _horizon(gamma: float) -> int:
    """Steps until nothing counts any more; without discounting, episodes end by themselves."""
    if gamma == 1:
        return LONGEST
    return math.ceil(math.log(HORIZON_WEIGHT) / math.log(gamma)) if gamma > 0 else 1


@torch.no_grad()
def discounted_rewards(
    market: Market, policy: PolicyFunction, gamma: float, seeds: list[int]
) -> NDArray[np.float64]:
    """What the deviator of a `DeviationMarket` gets by `policy` in one episode.

    One mean over worlds for each seed.
    """
    market.truncate_after(None)  # an episode lasts as long as discounting lets anything count
    horizon = _horizon(gamma)
    means = []
    for seed in seeds:
        observations = market.reset(seed)[DEVIATOR]
        total = torch.zeros(market.worlds, dtype=torch.float64, device=market.device)
        going = torch.ones_like(total)
        for t in range(horizon):
            step = market.step({DEVIATOR: policy(observations)})
            observations = step.observations[DEVIATOR]
            total += gamma**t * going * step.rewards[DEVIATOR][:, 0].double()
            if step.ended is not None:
                going[step.ended.worlds] = 0.0
                if not bool(going.any()):
                    break
        means.append(float(total.mean()))
    return np.array(means)
