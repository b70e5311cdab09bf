"""Tiny experiments, and the command line as a person runs it."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TINY: dict[str, Any] = {
    "name": "tiny",
    "market": {
        "name": "households",
        "worlds": 4,
        "parameters": {
            "households": 3,
            "delta": 1.0,
            "episode_length": 5,
            "initial_capital": [0.01, 0.1],
        },
    },
    "policies": {"household": {"groups": ["households"], "hidden": [8]}},
    "algorithm": {"name": "ppo", "parameters": {"epochs": 2, "minibatches": 3}},
    "training": {
        "agent_steps": 4 * 8 * 3 * 6,
        "rollout_length": 8,
        "evaluate_every": 2,
        "checkpoint_every": 2,
    },
    "certificate": {"seeds": 2, "deviation_agent_steps": 0},
}


def tiny(**sections: dict[str, Any]) -> dict[str, Any]:
    """The tiny experiment with some fields replaced: `tiny(training={"runners": 1})`."""
    data = copy.deepcopy(TINY)
    for section, fields in sections.items():
        data[section] = {**data[section], **fields} if isinstance(fields, dict) else fields
    return data


def command(
    *arguments: str | Path, cwd: Path | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Runs `rl-markets` as a person does."""
    line = [sys.executable, "-m", "rl_markets", *map(str, arguments)]
    return subprocess.run(
        line, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=os.environ, check=False
    )
