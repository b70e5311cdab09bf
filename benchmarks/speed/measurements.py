"""What is measured, in turns, and how it is printed and kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.speed import economy, tables
from benchmarks.speed.rounds import Say
from rl_markets.errors import ExperimentError
from rl_markets.progress import console
from rl_markets.rllib.session import ray_session
from rl_markets.store import write_text

Measure = Callable[[float, Say], dict[str, Any]]
"""CPU seconds of each value in a round, and who takes lines of progress, to rows and notes."""


@dataclass(frozen=True)
class Measurement:
    """A measurement: the function `measure(seconds, say)` of the module `benchmarks.speed.NAME`.

    It returns `{"rows": [...], ...}`.

    Attributes:
        name: for `--only`.
        title: of its table.
        ray: whether it needs a running Ray.
        asked: measured only where `--only` names it, as it takes long.
    """

    name: str
    title: str
    ray: bool = True
    asked: bool = False

    @property
    def measure(self) -> Measure:
        """The function, imported when it is asked for: what is not measured need not be loaded."""
        function: Measure = import_module(f"benchmarks.speed.{self.name}").measure
        return function


MEASUREMENTS = (
    Measurement("start_up", "start-up of `rl-markets train`, a process of its own", ray=False),
    Measurement("market_alone", "the market alone", ray=False),
    Measurement("ppo", "PPO: agent steps per CPU second"),
    Measurement("sac", "SAC: per CPU second"),
    Measurement("sb3", "Stable-Baselines3: agent steps per CPU second of training"),
    Measurement("separate", "a policy for each household: CPU microseconds per agent step of PPO"),
    Measurement("scaling", "scaling: CPU microseconds per agent step of PPO"),
    Measurement(
        "pricing_alone", "the pricing market alone: market steps per CPU second", ray=False
    ),
    Measurement("pricing_dqn", "DQN of the pricing season: environment steps per CPU second"),
    Measurement("certificate", "certificates: CPU microseconds"),
    Measurement("vectorised", "JAX: agent steps per CPU second", asked=True),
    Measurement("accuracy", "CPU seconds to 1 % of the known answer", asked=True),
)


def run(seconds: float, output: Path | None, only: Sequence[str] = ()) -> None:
    """Measures, prints a table each, and writes JSON if asked.

    Raises:
        ExperimentError: where `only` names none of `MEASUREMENTS`.
    """
    names = [m.name for m in MEASUREMENTS]
    for name in only:
        if name not in names:
            raise ExperimentError(f"--only {name}: expected one of {', '.join(names)}")
    if only:
        measurements = [m for m in MEASUREMENTS if m.name in only]
    else:
        measurements = [m for m in MEASUREMENTS if not m.asked]
    results = _measured(measurements, seconds)
    if output is not None:
        write_text(output, json.dumps(_plain(results), indent=1, allow_nan=False))


def _plain(value: Any) -> Any:
    """NaN as text, which JSON has no number for."""
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def _measured(measurements: Sequence[Measurement], seconds: float) -> dict[str, Any]:
    """Measurement -> its result, each printed as soon as it is there."""
    out = tables.wide(console())

    def say(line: str) -> None:
        out.print(f"  {line}", highlight=False)

    needs_ray = any(measurement.ray for measurement in measurements)
    results = dict[str, Any]()
    with ray_session(economy.experiment()) if needs_ray else nullcontext():
        for measurement in measurements:
            out.print(f"measuring {measurement.title}", highlight=False)
            result = measurement.measure(seconds, say)
            tables.show(out, measurement.title, result)
            results[measurement.name] = result
    return results
