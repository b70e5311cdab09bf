"""Certification: the exported policies are judged by the market's answer key, and by deviators."""

from __future__ import annotations

import torch
from rich.console import Console

from rl_markets.certificate import document
from rl_markets.certificate.best_response import deviation_gain
from rl_markets.certificate.document import Certificate
from rl_markets.envs.answer_key import AnswerKey, Assessment
from rl_markets.envs.market import Policy
from rl_markets.experiment import Experiment
from rl_markets.exported import LoadedPolicy, load
from rl_markets.fixed_policies import profile
from rl_markets.policies.actors import build_actor
from rl_markets.rllib.build import one_world
from rl_markets.training.run_folder import RunFolder

EVALUATION_SEED = 1_000_000
"""Evaluation seeds count from here, far from the training seeds."""


def certify(run: RunFolder, console: Console) -> Certificate:
    """Examines the exported policies of a run and writes `certificate.json`.

    What is judged is the exported file, so that the certificate holds for what is served.
    """
    experiment = run.experiment
    loaded = load(run.path)
    seeds = [EVALUATION_SEED + i for i in range(experiment.certificate.seeds)]
    answer = experiment.answer_key()
    console.print("certificate: examining the trained policies", highlight=False)
    assessment = _assessed(experiment, answer, loaded, seeds)
    metrics = list(assessment.metrics)
    if experiment.certificate.deviation_agent_steps:
        for group in experiment.learning_groups:
            line = f"certificate: training a deviating agent in group {group}"
            console.print(line, highlight=False)
            metrics.append(deviation_gain(run, experiment, loaded, group, seeds))
    name = None if answer is None else answer.name
    certificate = document.issue(experiment, name, metrics, assessment.plots)
    document.write(run.certificate, certificate)
    return certificate


def _assessed(
    experiment: Experiment, answer: AnswerKey | None, loaded: LoadedPolicy, seeds: list[int]
) -> Assessment:
    """What the answer key says; nothing where no answer is known."""
    trained = profile(experiment, loaded, one_world(experiment))
    if answer is None:
        return Assessment([])
    return answer.assess(trained, untrained(experiment, loaded, trained), seeds)


def untrained(
    experiment: Experiment, loaded: LoadedPolicy, trained: dict[str, Policy]
) -> dict[str, Policy]:
    """Group -> the same actor before training: the control that must fail.

    What never learned stays what it is.
    """
    policies = dict(trained)
    for name, section in experiment.learned.items():
        generator = torch.Generator().manual_seed(experiment.seed)
        actor = build_actor(loaded.actors[name].spec, generator).requires_grad_(False)
        policies |= dict.fromkeys(section.groups, actor.policy)
    return policies
