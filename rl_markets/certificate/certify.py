"""The certificate: how far a trained market is from its known answer, and what any agent could
still gain."""

from __future__ import annotations

import json
import math
import os
import platform
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from rl_markets import __version__
from rl_markets.certificate.best_response import deviation_gain
from rl_markets.envs.answer_key import Assessment, Figure, Metric
from rl_markets.envs.market import Policy
from rl_markets.experiment import Experiment
from rl_markets.exported import LoadedPolicy, load
from rl_markets.fixed_policies import profile
from rl_markets.policies.actors import build_actor
from rl_markets.rllib.build import one_world
from rl_markets.store import write_text
from rl_markets.training.run_folder import RunFolder

FORMAT = 1
EVALUATION_SEED = 1_000_000
"""Evaluation seeds count from here, far from the training seeds."""


def certify(run: RunFolder, console: Console) -> dict[str, Any]:
    """Examines the exported policies of a run and writes `certificate.json`.

    What is judged is the exported file, so that the certificate holds for what is served.
    """
    experiment = run.experiment
    loaded = load(run.path)
    seeds = [EVALUATION_SEED + i for i in range(experiment.certificate.seeds)]
    market = one_world(experiment)
    answer = experiment.answer_key()
    console.print("certificate: examining the trained policies", highlight=False)
    trained = profile(experiment, loaded, market)
    assessment = (
        Assessment([])
        if answer is None
        else answer.assess(trained, untrained(experiment, loaded, trained), seeds)
    )
    metrics = list(assessment.metrics)
    if experiment.certificate.deviation_agent_steps:
        for group in (group for section in experiment.learned.values() for group in section.groups):
            console.print(
                f"certificate: training a deviating agent in group {group}", highlight=False
            )
            metrics.append(deviation_gain(run, experiment, loaded, group, seeds))
    certificate = _document(
        experiment, None if answer is None else answer.name, metrics, assessment.figures
    )
    write_text(run.certificate, json.dumps(certificate, indent=1, allow_nan=False))
    return certificate


def untrained(
    experiment: Experiment, loaded: LoadedPolicy, trained: dict[str, Policy]
) -> dict[str, Policy]:
    """Group -> the same network before training: the control that must fail. What never learned
    stays what it is."""
    found = dict(trained)
    for name, section in experiment.learned.items():
        actor = build_actor(
            loaded.actors[name].spec, torch.Generator().manual_seed(experiment.seed)
        ).requires_grad_(False)
        found |= dict.fromkeys(section.groups, actor.policy)
    return found


# -- the document ----------------------------------------------------------------------------------


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
        "agent_steps": experiment.iterations * experiment.agent_steps_per_iteration,
        "evaluation_seeds": experiment.certificate.seeds,
        "passed": all(m.passed for m in judged) if judged else None,
        "metrics": [_plain(m) for m in metrics],
        "figures": [_figure(f) for f in figures],
        "made_with": {
            "rl_markets": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        },
    }


def _number(value: float | None) -> float | str | None:
    """JSON has no NaN: a figure that could not be computed is the text `NaN`."""
    return value if value is None or math.isfinite(value) else str(value).replace("nan", "NaN")


def _plain(metric: Metric) -> dict[str, Any]:
    controls = {name: _number(value) for name, value in metric.controls.items()}
    numbers = {
        name: _number(getattr(metric, name)) for name in ("value", "low", "high", "answer", "limit")
    }
    return {
        "name": metric.name,
        "label": metric.label,
        "unit": metric.unit,
        **numbers,
        "passed": metric.passed,
        "controls": controls,
        "note": metric.note,
    }


def _figure(figure: Figure) -> dict[str, Any]:
    lines = [
        {"label": line.label, "style": line.style, "x": line.x, "y": [_number(y) for y in line.y]}
        | ({} if line.upper is None else {"upper": [_number(y) for y in line.upper]})
        for line in figure.lines
    ]
    return {
        "title": figure.title,
        "x_label": figure.x_label,
        "y_label": figure.y_label,
        "log_x": figure.log_x,
        "log_y": figure.log_y,
        "lines": lines,
    }


def read(path: Path) -> dict[str, Any]:
    """A certificate from its file."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document
