"""Speed, side by side in one run: ours against RLlib's own, Stable-Baselines3, plain torch and JAX, on one economy;
and the pricing market beside worlds written by hand and RLlib's own DQN.

Figures are per CPU second of this process, so that a busy machine does not change them much; the sides take turns, and
each ratio is of figures measured one after the other. All sides have the same networks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rl_markets.experiment_errors import ExperimentError


@dataclass(frozen=True)
class Measurement:
    """A measurement: the module `rl_markets.bench.NAME` has `measure(seconds, say) -> {"rows": [...], ...}`.

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
        found: Any = import_module(f"rl_markets.bench.{self.name}").measure
        return found  # type: ignore[no-any-return]


MEASUREMENTS = (
    Measurement("start_up", "start-up of `rl-markets train`, a process of its own", ray=False),
    Measurement("market_alone", "the market alone", ray=False),
    Measurement("ppo", "PPO: agent steps per CPU second"),
    Measurement("sac", "SAC: per CPU second"),
    Measurement("sb3", "Stable-Baselines3: agent steps per CPU second of training"),
    Measurement("separate", "a policy for each household: CPU microseconds per agent step of PPO"),
    Measurement("scaling", "scaling: CPU microseconds per agent step of PPO"),
    Measurement("pricing_alone", "the pricing market alone: market steps per CPU second", ray=False),
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
        from rl_markets.store import write_text

        write_text(output, json.dumps(_plain(figures), indent=1, allow_nan=False))


def _plain(value: Any) -> Any:
    """NaN as text, which JSON has no number for."""
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def _measured(chosen: Sequence[Measurement], seconds: float) -> dict[str, Any]:
    from rl_markets.bench import economy, tables
    from rl_markets.progress import console
    from rl_markets.rllib.build import ray_session

    out, figures = tables.wide(console()), dict[str, Any]()
    with ray_session(economy.experiment()) if any(m.ray for m in chosen) else nullcontext():
        for measurement in chosen:
            out.print(f"measuring {measurement.title}", highlight=False)
            found = measurement.measure(seconds, lambda line: out.print(f"  {line}", highlight=False))
            tables.show(out, measurement.title, found)
            figures[measurement.name] = found
    return figures
