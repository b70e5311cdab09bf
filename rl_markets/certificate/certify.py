"""Certification: the exported policies are judged by the market's answer key, in the market itself,
and by deviators."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from rich.console import Console

from rl_markets.certificate import document
from rl_markets.certificate.best_path import best_path_gain
from rl_markets.certificate.best_response import deviation_gain
from rl_markets.certificate.document import Certificate
from rl_markets.certificate.in_play import loss_in_play
from rl_markets.envs.answer_key import AnswerKey, Assessment, Metric
from rl_markets.envs.market import Policy, PolicyFunction
from rl_markets.errors import ExperimentError
from rl_markets.experiment import Experiment
from rl_markets.exported import LoadedPolicy, fingerprint, load
from rl_markets.fixed_policies import profile
from rl_markets.judged import as_judged, known_answer
from rl_markets.policies.actors import build_actor
from rl_markets.rllib.build import one_world
from rl_markets.training.run_folder import RunFolder

EVALUATION_SEED = 1_000_000
"""Evaluation seeds count from here, far from the training seeds."""
DEVIATION_AGENT_STEPS = 500_000
"""Training of a deviator where nothing else tells what an agent could gain."""


def certify(run: RunFolder, console: Console) -> Certificate:
    """Examines the exported policies of a run and writes `certificate.json`.

    What is judged is the exported file, so that the certificate holds for what is served.
    """
    experiment = run.experiment
    loaded = load(run.path)
    check_policy(run, loaded)
    seeds = [EVALUATION_SEED + i for i in range(experiment.certificate.seeds)]
    trained = profile(experiment, loaded, one_world(experiment))
    answer = known_answer(experiment, trained)
    console.print("certificate: examining the trained policies")
    control = untrained(experiment, loaded, trained)
    assessment = assess(experiment, answer, trained, control, seeds)
    metrics = list(assessment.metrics)
    known = {metric.name for metric in metrics}
    for group in experiment.learning_groups:
        lines = {f"loss_in_play/{group}", f"best_response_gain/in_play/{group}"}
        by_others = bool(lines & known) or (answer is not None and answer.complete)
        steps = _deviation_steps(experiment, by_others)
        if steps:
            console.print(f"certificate: training a deviating agent in group {group}")
            metrics.append(deviation_gain(run, experiment, loaded, group, control, seeds, steps))
        elif not by_others:
            metrics.append(_nobody_looked(group))
    name = None if answer is None else answer.name
    examined = replace(assessment, metrics=metrics)
    certificate = document.issue(experiment, name, examined, fingerprint(run.path))
    document.write(run.certificate, certificate)
    return certificate


def check_policy(run: RunFolder, loaded: LoadedPolicy) -> None:
    """The exported policies are those of this run's experiment.

    Raises:
        ExperimentError: they are another's.
    """
    told = loaded.spec.get("digest")
    if told != run.experiment.digest:
        raise ExperimentError(
            f"{run.policy}: trained by another experiment (sha256 {str(told)[:12]}) than "
            f"{run.experiment_file} holds ({run.experiment.digest[:12]}), or by the same with "
            "another seed; a certificate would be for somebody else's policy"
        )


def check_certificate(run: RunFolder, certificate: Certificate) -> None:
    """A run's certificate is of its experiment and of its exported policies.

    Raises:
        ExperimentError: it is another's.
    """
    of_another = certificate.digest != run.experiment.digest
    if run.policy.is_dir():
        of_another |= certificate.policy != fingerprint(run.path)
    if of_another:
        raise ExperimentError(
            f"{run.certificate}: of another run, whose experiment or policies are not those here; "
            "`rl-markets evaluate` makes it again"
        )


def certificate_of(
    experiment: Experiment,
    answer: AnswerKey,
    policies: Mapping[str, PolicyFunction],
    control: Mapping[str, PolicyFunction],
    seeds: list[int],
) -> Certificate:
    """What is said of any profile, trained or not: nothing is exported, and no deviator trained.

    Args:
        experiment: as it is judged.
        answer: the judge.
        policies: group -> what it follows.
        control: group -> a policy that knows nothing, from which stakes are counted.
        seeds: of evaluation.
    """
    profile, nothing = (
        {group: Policy(policy) for group, policy in given.items()} for given in (policies, control)
    )
    found = assess(experiment, answer, profile, nothing, seeds)
    return document.issue(experiment, answer.name, found)


def assess(
    experiment: Experiment,
    answer: AnswerKey | None,
    policies: dict[str, Policy],
    control: dict[str, Policy],
    seeds: list[int],
) -> Assessment:
    """What the answer key says, and what play in the market itself says.

    Where no answer is known as some groups do not learn, what the answer would be if all did is
    told for information.
    """
    if answer is None:
        return _for_information(experiment, policies, control, seeds)
    found = answer.assess(policies, control, seeds)
    lines = in_market(experiment, answer, policies, control, seeds)
    return replace(found, metrics=[*lines, *found.metrics])


def _for_information(
    experiment: Experiment,
    policies: dict[str, Policy],
    control: dict[str, Policy],
    seeds: list[int],
) -> Assessment:
    """The lines of the answer where everybody learns, without limits; none where it is unknown."""
    everybody = experiment.answer_key()
    if everybody is None:
        return Assessment([])
    found = everybody.assess(policies, control, seeds)
    note = f"for information: the {everybody.name} is the answer where all groups learn"
    return replace(found, metrics=[replace(m, limit=None, note=note) for m in found.metrics])


def in_market(
    experiment: Experiment,
    answer: AnswerKey,
    policies: dict[str, Policy],
    control: dict[str, Policy],
    seeds: list[int],
) -> list[Metric]:
    """A line for each learning group: what the answer, or the best path, gains in one's place.

    None where the answer key says so itself.
    """
    if answer.complete:
        return []
    judged = as_judged(experiment)
    metrics = []
    for group in experiment.learning_groups:
        line = loss_in_play(judged, answer, group, policies, control, seeds)
        if line is None:
            limit = answer.tolerance(group)
            if limit is not None:
                line = best_path_gain(judged, group, policies, limit, seeds)
        if line is not None:
            metrics.append(line)
    return metrics


def _deviation_steps(experiment: Experiment, examined: bool) -> int:
    """How long a deviator is trained: as long as the file says, else where it must be."""
    given = experiment.certificate.deviation_agent_steps
    if given is not None:
        return given
    return 0 if examined else DEVIATION_AGENT_STEPS


def _nobody_looked(group: str) -> Metric:
    """The line of a group of which nobody said what its agents could gain."""
    return Metric(
        f"best_response_gain/trained/{group}",
        f"gain of a trained deviator, {group}",
        math.nan,
        answer=0.0,
        limit=0.0,
        note="no deviator was trained: certificate.deviation_agent_steps is 0",
    )


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
