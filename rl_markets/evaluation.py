"""The certificate: how far a trained market is from its known answer, and what any agent could still gain."""

from __future__ import annotations

import json
import math
import os
import platform
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from rl_markets import __version__
from rl_markets.envs.deviation import DEVIATOR, DeviationMarket
from rl_markets.envs.market import Assessment, Figure, Market, Metric, Policy
from rl_markets.envs.statistics import interval
from rl_markets.experiment import Experiment, PolicySection
from rl_markets.policies.networks import Actor
from rl_markets.policy import LoadedPolicy, load
from rl_markets.rllib.build import algorithm_config, build_market
from rl_markets.runs import RunFolder
from rl_markets.store import write_text

FORMAT = 1
EVALUATION_SEED = 1_000_000
"""Evaluation seeds count from here, far from the training seeds."""
GAIN_WORLDS, GAIN_HORIZON_WEIGHT = 64, 1e-4
"""Worlds of each evaluation seed; the horizon ends where the discount factor falls below the weight."""


def certify(run: RunFolder, console: Console) -> dict[str, Any]:
    """Examines the exported policies of a run and writes `certificate.json`.

    What is judged is the exported file, so that the certificate holds for what is served.
    """
    experiment, loaded = run.experiment, load(run.path)
    seeds = [EVALUATION_SEED + i for i in range(experiment.certificate.seeds)]
    market = build_market(experiment.model_dump(mode="json"), "cpu", worlds=1)
    answer = market.answer_key()
    console.print("certificate: examining the trained policies", highlight=False)
    assessment = (
        Assessment([]) if answer is None else answer.assess(frozen(loaded), untrained(loaded, experiment.seed), seeds)
    )
    metrics = list(assessment.metrics)
    if experiment.certificate.deviation_agent_steps:
        for group in market.groups:
            console.print(f"certificate: training a deviating agent in group {group}", highlight=False)
            metrics.append(deviation_gain(run, experiment, loaded, group, seeds))
    certificate = _document(experiment, None if answer is None else answer.name, metrics, assessment.figures)
    write_text(run.certificate, json.dumps(certificate, indent=1, allow_nan=False))
    return certificate


def frozen(loaded: LoadedPolicy) -> dict[str, Policy]:
    """Group -> the exported deterministic policy."""
    return {group: torch.no_grad()(loaded.actors[policy].act) for group, policy in loaded.groups.items()}


def untrained(loaded: LoadedPolicy, seed: int) -> dict[str, Policy]:
    """Group -> the same network before training: the control that must fail."""
    actors = {p: Actor(a.spec, torch.Generator().manual_seed(seed)) for p, a in loaded.actors.items()}
    return {group: torch.no_grad()(actors[policy].act) for group, policy in loaded.groups.items()}


# -- what an agent could gain by deviating -----------------------------------------------------------------------------


def build_deviation(
    content: dict[str, Any], policy: str, group: str, device: str = "cpu", worlds: int | None = None
) -> Market:
    """The experiment's market with one agent of `group` free and all others following the policy exported at `policy`."""
    loaded = load(policy)
    for actor in loaded.actors.values():
        actor.to(device)
    return DeviationMarket(build_market(content, device, worlds), frozen(loaded), group)


def deviation_gain(
    run: RunFolder, experiment: Experiment, loaded: LoadedPolicy, group: str, seeds: list[int]
) -> Metric:
    """Trains one agent against the frozen others, from the policy it follows, by the run's own learner.

    What it then gains is a lower bound on its best-response gain: it could always do better still, and it could
    always have stayed.
    """
    policy = loaded.groups[group]
    build = partial(build_deviation, experiment.model_dump(mode="json"), str(run.policy), group)
    deviant = _deviant_experiment(experiment, policy)
    algorithm = algorithm_config(deviant, build, str(run.policy / f"{policy}.safetensors")).build_algo()
    try:
        for _ in range(deviant.training.agent_steps // deviant.env_steps_per_iteration):
            algorithm.train()
        deviator = algorithm.get_module(DEVIATOR).deployed
        gains = discounted_gains(
            build("cpu", GAIN_WORLDS), deviator.act, loaded.actors[policy].act, _gamma(experiment), seeds
        )
    finally:
        algorithm.stop()
    market = build_market(experiment.model_dump(mode="json"), "cpu", worlds=1)
    mean, (low, high) = float(gains.mean()), interval(gains)
    (value, unit), (low_value, _), (high_value, _) = (market.in_units(g) for g in (mean, low, high))
    return Metric(
        f"best_response_gain/trained/{group}", f"gain of a trained deviator, {group}", value, unit,
        low_value, high_value, answer=0.0,
        note=f"one agent, trained on for {deviant.training.agent_steps:,} of its steps against the frozen others by "
        f"{experiment.algorithm.name}; a lower bound on what it could gain, negative where it found nothing",
    )  # fmt: skip


def _deviant_experiment(experiment: Experiment, policy: str) -> Experiment:
    """The deviator's training: one agent a world, in the main process, in smaller steps."""
    parameters = dict(experiment.learner_parameters)
    parameters["learning_rate"] *= 0.3
    parameters["final_learning_rate"] *= 0.3
    if parameters.get("final_log_std") is not None:
        parameters["log_std"] = (parameters["log_std"] + parameters["final_log_std"]) / 2
    section = PolicySection(**experiment.policies[policy].model_dump() | {"groups": [DEVIATOR]})
    training = experiment.training.model_copy(
        update={"runners": 0, "learners": 0, "agent_steps": experiment.certificate.deviation_agent_steps}
    )
    worlds = min(experiment.market.worlds * experiment.agents, 1024)
    return experiment.model_copy(
        update={
            "policies": {DEVIATOR: section},
            "training": training,
            "algorithm": experiment.algorithm.model_copy(update={"parameters": parameters}),
            "market": experiment.market.model_copy(update={"worlds": worlds}),
        }
    )


def _gamma(experiment: Experiment) -> float:
    return float(experiment.learner_parameters["gamma"])


@torch.no_grad()
def discounted_gains(market: Market, deviator: Policy, stayer: Policy, gamma: float, seeds: list[int]) -> Any:
    """Discounted reward of deviating minus that of staying, on the same starts and shocks; one mean for each seed."""
    market.episode_length = None  # one episode, as long as discounting lets anything count
    horizon = math.ceil(math.log(GAIN_HORIZON_WEIGHT) / math.log(gamma)) if gamma > 0 else 1
    totals: dict[str, list[float]] = {"deviate": [], "stay": []}
    for seed in seeds:
        for name, policy in (("deviate", deviator), ("stay", stayer)):
            observations, total = market.reset(seed)[DEVIATOR], torch.zeros(market.worlds, dtype=torch.float64)
            for t in range(horizon):
                step = market.step({DEVIATOR: policy(observations)})
                observations = step.observations[DEVIATOR]
                total += gamma**t * step.rewards[DEVIATOR][:, 0].double().cpu()
            totals[name].append(float(total.mean()))
    return np.array(totals["deviate"]) - np.array(totals["stay"])


# -- the document ------------------------------------------------------------------------------------------------------


def _document(
    experiment: Experiment, answer: str | None, metrics: list[Metric], figures: list[Figure]
) -> dict[str, Any]:
    judged = [m for m in metrics if m.passed is not None]
    return {
        "format": FORMAT,
        "experiment": experiment.name,
        "digest": experiment.digest,
        "market": experiment.market.name,
        "answer": answer,
        "algorithm": experiment.algorithm.name,
        "seed": experiment.seed,
        "agent_steps": experiment.iterations * experiment.env_steps_per_iteration * experiment.agents,
        "evaluation_seeds": experiment.certificate.seeds,
        "passed": all(m.passed for m in judged) if judged else None,
        "metrics": [_plain(m) for m in metrics],
        "figures": [_figure(f) for f in figures],
        "made_with": {
            "rl_markets": __version__, "torch": torch.__version__, "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        },
    }  # fmt: skip


def _number(value: float | None) -> float | str | None:
    """JSON has no NaN: a figure that could not be computed is the text `NaN`."""
    return value if value is None or math.isfinite(value) else str(value).replace("nan", "NaN")


def _plain(metric: Metric) -> dict[str, Any]:
    controls = {name: _number(value) for name, value in metric.controls.items()}
    numbers = {name: _number(getattr(metric, name)) for name in ("value", "low", "high", "answer", "limit")}
    return {"name": metric.name, "label": metric.label, "unit": metric.unit, **numbers,
            "passed": metric.passed, "controls": controls, "note": metric.note}  # fmt: skip


def _figure(figure: Figure) -> dict[str, Any]:
    lines = [
        {"label": line.label, "style": line.style, "x": line.x, "y": [_number(y) for y in line.y]}
        for line in figure.lines
    ]
    return {"title": figure.title, "x_label": figure.x_label, "y_label": figure.y_label,
            "log_x": figure.log_x, "log_y": figure.log_y, "lines": lines}  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    """A certificate from its file."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
