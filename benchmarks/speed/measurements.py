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
from rl_markets.errors import ExperimentError
from rl_markets.progress import console
from rl_markets.rllib.build import ray_session
from rl_markets.store import write_text


@dataclass(frozen=True)
class Measurement:
    """A measurement: the module `benchmarks.speed.NAME` has `measure(seconds, say) -> {"rows":
    [...], ...}`.

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
    def measure(self) -> Callable[[float, Callable[[str], None]], dict[str, Any]]:
        """The function, imported when it is asked for."""
        found: Any = import_module(f"benchmarks.speed.{self.name}").measure
        return found  # type: ignore[no-any-return]


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
    chosen = [m for m in MEASUREMENTS if (m.name in only if only else not m.asked)]
    figures = _measured(chosen, seconds)
    if output is not None:
        write_text(output, json.dumps(_plain(figures), indent=1, allow_nan=False))


def _plain(value: Any) -> Any:
    """NaN as text, which JSON has no number for."""
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def _measured(chosen: Sequence[Measurement], seconds: float) -> dict[str, Any]:
    out = tables.wide(console())
    figures = dict[str, Any]()
    with ray_session(economy.experiment()) if any(m.ray for m in chosen) else nullcontext():
        for measurement in chosen:
            out.print(f"measuring {measurement.title}", highlight=False)
            found = measurement.measure(
                seconds, lambda line: out.print(f"  {line}", highlight=False)
            )
            tables.show(out, measurement.title, found)
            figures[measurement.name] = found
    return figures
