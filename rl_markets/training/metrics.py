"""The name of every metric: flat, stable, with unit and meaning. CSV, JSON lines and TensorBoard
use these and no others."""

from __future__ import annotations

import math
from typing import Any

from rl_markets.experiment import Experiment

Row = dict[str, float]
"""One iteration: metric -> value, NaN where it is missing."""

RUN: dict[str, str] = {
    "iteration": "training iterations so far",
    "env_steps": "world steps so far, over all runners",
    "agent_steps": "steps so far, summed over agents and worlds",
    "seconds": "wall-clock seconds of training so far, over all resumes",
    "agent_steps_per_second": "agent steps per second of this iteration",
    "distance": "distance from the known answer, % (empty where it was not looked at)",
    "episode_return": "mean undiscounted return per agent of recently finished episodes",
    "market_share": "share of this iteration spent in the market's dynamics",
    "policy_share": "share of this iteration spent acting and recording",
    "learner_share": "share of this iteration spent learning",
    "framework_share": "share of this iteration spent elsewhere: RLlib, weight transfer, "
    "bookkeeping",
}
"""Metrics of the whole run."""


def columns(experiment: Experiment) -> list[str]:
    """All columns of `metrics.csv`, in order: the run's, then `policy/metric` for each policy."""
    metrics = experiment.learner_spec.metrics
    return list(RUN) + [f"{policy}/{metric}" for policy in experiment.learned for metric in metrics]


def flatten(
    result: dict[str, Any], experiment: Experiment, *, seconds: float, distance: float | None
) -> Row:
    """One row from RLlib's nested result of one iteration; NaN where a metric is missing."""
    runners = result.get("env_runners", {})
    learners = result.get("learners", {})
    env_steps = int(runners.get("num_env_steps_sampled_lifetime", 0))
    sampled = float(runners.get("num_env_steps_sampled", 0)) * experiment.agents
    elapsed = float(result.get("time_this_iter_s", math.nan))
    workers = max(1, experiment.training.runners)
    market = float(runners.get("market_seconds", math.nan)) / workers
    acting = float(runners.get("sample_seconds", math.nan)) / workers - market
    learning = float(learners.get("__all_modules__", {}).get("learn_seconds", math.nan))
    row: Row = {
        "iteration": int(result["training_iteration"]),
        "env_steps": env_steps,
        "agent_steps": env_steps * experiment.agents,
        "seconds": seconds,
        "agent_steps_per_second": sampled / elapsed,
        "distance": math.nan if distance is None else distance,
        "episode_return": float(runners.get("episode_return", math.nan)),
        "market_share": market / elapsed,
        "policy_share": acting / elapsed,
        "learner_share": learning / elapsed,
        "framework_share": max(0.0, 1 - (market + acting + learning) / elapsed),
    }
    for policy in experiment.learned:
        found = learners.get(policy, {})
        row |= {
            f"{policy}/{name}": float(found.get(name, math.nan))
            for name in experiment.learner_spec.metrics
        }
    return row
