"""Small experiments on the Cournot market of the examples, whose groups have policies each."""

from __future__ import annotations

from typing import Any

from rl_markets.training.run_folder import RunFolder


def cournot_experiment(**policies: dict[str, Any]) -> dict[str, Any]:
    """A small Cournot market; the two groups share nothing unless told otherwise."""
    return {
        "name": "cournot",
        "market": {"name": "cournot", "worlds": 8, "parameters": {"episode_length": 5}},
        "policies": policies
        or {"old": {"groups": ["incumbents"]}, "new": {"groups": ["entrants"]}},
        "algorithm": {"name": "ppo", "parameters": {"gamma": 0.5, "epochs": 2, "minibatches": 2}},
        "training": {"agent_steps": 4 * 8 * 8 * 3, "rollout_length": 8, "checkpoint_every": 2},
        "certificate": {"seeds": 2, "deviation_agent_steps": 0},
    }


def built_algorithm(experiment: Any) -> Any:
    from rl_markets.rllib.build import algorithm_config

    return algorithm_config(experiment).build_algo()


def metric_names(run: RunFolder) -> set[str]:
    import json

    return {m["name"] for m in json.loads(run.certificate.read_text())["metrics"]}
