"""What an agent could still gain by deviating: one agent is trained against all others frozen."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from rl_markets.certificate.in_play import STAKES_SHARE
from rl_markets.envs.answer_key import Metric
from rl_markets.envs.deviation import DEVIATOR, deviation
from rl_markets.envs.groups import JoinedGroups
from rl_markets.envs.in_play import discounted_rewards, horizon
from rl_markets.envs.market import Market, Policy, PolicyFunction
from rl_markets.envs.numerics.statistics import interval
from rl_markets.experiment import Experiment
from rl_markets.experiment.sections import PolicySection
from rl_markets.exported import LoadedPolicy, load
from rl_markets.fixed_policies import profile
from rl_markets.judged import as_judged
from rl_markets.policies.actors import Actor, build_actor
from rl_markets.policies.sampling import MarketBuilder
from rl_markets.rllib.build import algorithm_config, build_market
from rl_markets.training.run_folder import RunFolder

WORLDS = 64
"""Worlds of each evaluation seed."""
HORIZON_WEIGHT = 1e-4
"""The horizon ends where the discount factor falls below this weight."""
LOOKS = 8
"""The best of so many looks at the deviator is kept."""
PLANTED = (0.25, 0.5, 1.0)
"""Mistakes that are planted: so far from what was learned towards an untrained network."""
PLANTED_COST = 2.0
"""A planted mistake costs at least so many times the limit."""
MENDED = 0.5
"""The share of a planted mistake that a deviator must undo before it is believed."""
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
    run: RunFolder,
    experiment: Experiment,
    loaded: LoadedPolicy,
    group: str,
    control: Mapping[str, Policy],
    seeds: list[int],
    agent_steps: int,
) -> Metric:
    """Trains one agent against the frozen others, from the policy it follows.

    It learns by the run's own learner. What it then gains is a lower bound on its best-response
    gain: it could always do better still, and it could always have stayed. That it finds nothing is
    believed only if the same training undoes most of a planted mistake.

    Args:
        run, experiment, loaded: what is examined.
        group: the deviator's.
        control: group -> a policy that knows nothing; what decisions can earn is counted from it.
        seeds: what gains are measured on.
        agent_steps: length of training.
    """
    policy = loaded.groups[group]
    actor = loaded.actors[policy]
    agent = _place(experiment, policy, group)
    trial = _Trial(
        build=partial(build_deviation, experiment, str(run.policy), group),
        market=build_deviation(as_judged(experiment), str(run.policy), group, "cpu", WORLDS),
        deviant=_deviant_experiment(experiment, policy, agent_steps),
        gamma=experiment.gamma(group),
        actor=actor.of_agent(agent),
    )
    limit = STAKES_SHARE * trial.stakes(_of_place(control[group], actor, agent))
    gains, stays = trial.gains(seeds)
    # A gain that was found is there; that there is none takes a deviator who would find one.
    doubt = _doubt(trial, limit) if gains.mean() <= limit else None
    if doubt is not None:
        gains = np.full(len(seeds), np.nan)
    low, high = interval(gains)
    in_units = trial.market.in_units
    value, unit = in_units(float(gains.mean()))
    examined = (
        f"one agent, trained on for {trial.deviant.training.agent_steps:,} of its steps against "
        f"the frozen others by {experiment.algorithm.name}; a lower bound on what it could gain"
        f"{stays}; limit: {STAKES_SHARE:.0%} of what it earns above an untrained network"
    )
    return Metric(
        name=f"best_response_gain/trained/{group}",
        label=f"gain of a trained deviator, {group}",
        value=value,
        unit=unit,
        low=in_units(low)[0],
        high=in_units(high)[0],
        answer=0.0,
        limit=in_units(limit)[0],
        note=doubt or examined,
    )


@dataclass(frozen=True, eq=False)
class _Trial:
    """One agent's training against the frozen others.

    Attributes:
        build: worlds -> the market that it is trained in.
        market: the one that it is judged in.
        deviant: the experiment of its training.
        gamma: its discount factor.
        actor: the network that it follows so far.
    """

    build: MarketBuilder
    market: Market
    deviant: Experiment
    gamma: float
    actor: Actor

    def rewards(self, policy: PolicyFunction, seeds: list[int]) -> NDArray[np.float64]:
        """What the agent gets by a policy in one episode, a mean over worlds for each seed."""
        market = self.market
        market.truncate_after(None)  # it lasts as long as discounting lets anything count
        steps = horizon(self.gamma, HORIZON_WEIGHT)
        means = []
        for seed in seeds:
            start = market.reset(seed)
            total = discounted_rewards(
                market, start, {DEVIATOR: policy}, DEVIATOR, self.gamma, steps
            )
            means.append(float(total.mean()))
        return np.array(means)

    @cached_property
    def stay(self) -> NDArray[np.float64]:
        """What the agent gets as it plays, on the seeds that looks are judged on."""
        return self.rewards(self.actor.act, SELECTION_SEEDS)

    def stakes(self, nothing: PolicyFunction) -> float:
        """What the agent earns above a policy that knows nothing."""
        return abs(float((self.stay - self.rewards(nothing, SELECTION_SEEDS)).mean()))

    def gains(self, seeds: list[int]) -> tuple[NDArray[np.float64], str]:
        """What a trained deviator gains, by seed, and a word where it found nothing."""
        deviator, _ = self.train(self.actor, self.stay)
        if deviator is None:
            return np.zeros(len(seeds)), "; it found nothing better than to stay"
        return self.rewards(deviator, seeds) - self.rewards(self.actor.act, seeds), ""

    def train(self, start: Actor, stay: NDArray[np.float64]) -> tuple[PolicyFunction | None, float]:
        """The best deviator seen while training, and what it gains above `start`.

        None and 0 where none was better than to stay.

        Args:
            start: the network that is trained on.
            stay: what it gets, on the seeds that looks are judged on.
        """
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder) / "start.safetensors"
            save_file({n: value.contiguous() for n, value in start.state_dict().items()}, weights)
            algorithm = algorithm_config(self.deviant, self.build, _nobody, weights).build_algo()
            try:
                return self._best_look(algorithm, stay)
            finally:
                algorithm.stop()

    def _best_look(
        self, algorithm: Any, stay: NDArray[np.float64]
    ) -> tuple[PolicyFunction | None, float]:
        """Trains to the end, and looks at the deviator now and then; see `train`."""
        best: PolicyFunction | None = None
        best_gain = 0.0
        training = self.deviant.training
        iterations = max(1, training.agent_steps // self.deviant.env_steps_per_iteration)
        for iteration in range(1, iterations + 1):
            algorithm.train()
            if iteration % max(1, iterations // LOOKS) == 0 or iteration == iterations:
                actor = copy.deepcopy(algorithm.get_module(DEVIATOR).deployed)
                gain = float((self.rewards(actor.act, SELECTION_SEEDS) - stay).mean())
                if gain > best_gain:
                    best_gain = gain
                    best = actor.act
        return best, best_gain


def _doubt(trial: _Trial, limit: float) -> str | None:
    """Why the deviator is not to be believed, or None where it undoes a planted mistake."""
    untrained = build_actor(trial.actor.spec, torch.Generator().manual_seed(0))
    for share in PLANTED:
        mistaken = _blend(trial.actor, untrained, share)
        before = trial.rewards(mistaken.act, SELECTION_SEEDS)
        cost = float((trial.stay - before).mean())
        if cost > PLANTED_COST * limit:
            break
    else:
        return "the deviator cannot be tested: no mistake that was planted cost enough to be found"
    _, mended = trial.train(mistaken, before)
    if mended >= MENDED * cost:
        return None
    return (
        f"the deviator is not to be believed: of a planted mistake it undid {mended / cost:.0%}, "
        f"expected at least {MENDED:.0%}; certificate.deviation_agent_steps trains it longer"
    )


def _blend(actor: Actor, other: Actor, share: float) -> Actor:
    """A network between two of the same shape: `share` of the way from the first to the other."""
    blended = copy.deepcopy(actor)
    theirs = other.state_dict()
    with torch.no_grad():
        for name, value in blended.state_dict().items():
            if value.is_floating_point():
                value.lerp_(theirs[name], share)
    return blended


def _of_place(policy: Policy, actor: Actor, agent: int) -> PolicyFunction:
    """A group's policy as that of one agent of it."""
    copies = actor.spec.get("copies")
    if copies is None:
        return policy
    return lambda observations: policy(observations.expand(-1, copies, -1))[:, agent : agent + 1]


def _place(experiment: Experiment, policy: str, group: str) -> int:
    """Where the first agent of a group stands among the agents of its policy."""
    groups = experiment.policies[policy].groups
    return JoinedGroups({name: experiment.groups[name] for name in groups}).start(group)


def _deviant_experiment(experiment: Experiment, policy: str, agent_steps: int) -> Experiment:
    """The deviator's training: one agent a world, in the main process, in smaller steps."""
    given = experiment.parameters(policy)
    parameters = given.model_dump() | given.fine_tuning()
    kept = {"hidden", "activation", "central_critic"}
    section = experiment.policies[policy].model_dump(include=kept)
    alone = {"runners": 0, "learners": 0}
    worlds = min(experiment.market.worlds * experiment.agents, 1024)
    changed = {
        "policies": {DEVIATOR: PolicySection(**section, groups=[DEVIATOR])},
        "training": experiment.training.model_copy(update={**alone, "agent_steps": agent_steps}),
        "algorithm": experiment.algorithm.model_copy(update={"parameters": parameters}),
        "market": experiment.market.model_copy(update={"worlds": worlds}),
    }
    return experiment.model_copy(update=changed)
