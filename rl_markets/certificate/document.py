"""The certificate as a record, and as the JSON document that it is kept in."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rl_markets import __version__
from rl_markets.envs.answer_key import Assessment, Line, Metric, Plot
from rl_markets.errors import CorruptError
from rl_markets.experiment import Experiment
from rl_markets.store import write_text

FORMAT = 1


@dataclass(frozen=True)
class MadeWith:
    """What a certificate was made with: versions, and the machine."""

    rl_markets: str
    torch: str
    python: str
    machine: str

    @classmethod
    def here(cls) -> MadeWith:
        """This process."""
        return cls(
            rl_markets=__version__,
            torch=torch.__version__,
            python=platform.python_version(),
            machine=f"{platform.machine()}, {os.cpu_count()} CPUs",
        )


@dataclass(frozen=True)
class Certificate:
    """How far a trained market is from its known answer, and what any agent could still gain.

    Attributes:
        experiment, digest, market, algorithm, seed: what was run.
        answer: the known answer's name, or None where none is known.
        agent_steps: length of training.
        evaluation_seeds: how many.
        metrics: the lines; those with a limit are judged.
        plots: the pictures, as data.
        methods: controls that solve the problem in another way, and may pass.
        made_with: versions and machine.
        policy: fingerprint of the exported policies; empty where nothing was exported.
    """

    experiment: str
    digest: str
    market: str
    answer: str | None
    algorithm: str
    seed: int
    agent_steps: int
    evaluation_seeds: int
    metrics: list[Metric]
    plots: list[Plot]
    methods: tuple[str, ...]
    made_with: MadeWith
    policy: str = ""

    @property
    def judged(self) -> list[Metric]:
        """The lines that have a limit."""
        return [metric for metric in self.metrics if metric.limit is not None]

    @property
    def missed(self) -> list[Metric]:
        """The lines that miss their limits."""
        return [metric for metric in self.judged if metric.passed is False]

    @property
    def unexamined(self) -> list[Metric]:
        """The lines that have a limit and no value."""
        return [metric for metric in self.judged if not metric.examined]

    @property
    def passed(self) -> bool | None:
        """Whether what was learned is certified.

        False where a line misses its limit. None, not examined, where a line has no value, or no
        answer is known to hold it against.
        """
        if self.missed:
            return False
        if self.answer is None or self.unexamined or not self.judged:
            return None
        return True

    @property
    def passing_controls(self) -> list[str]:
        """Controls that meet every limit, and are not the answer: such limits say little."""
        names = dict.fromkeys(name for metric in self.judged for name in metric.controls)
        return [name for name in names if name not in self.methods and self._passes(name)]

    def _passes(self, control: str) -> bool:
        held = [m for m in self.judged if control in m.controls]
        within = all(m.controls[control] <= (m.limit or 0.0) for m in held)
        return within and not all(_at_the_answer(m, m.controls[control]) for m in held)


def _at_the_answer(metric: Metric, value: float) -> bool:
    """Whether a value is the answer's own, but for a hundredth of the limit."""
    answer = metric.answer or 0.0
    return abs(value - answer) <= 0.01 * abs((metric.limit or 0.0) - answer)


def issue(
    experiment: Experiment, answer: str | None, assessment: Assessment, policy: str = ""
) -> Certificate:
    """The certificate of an experiment, made here and now."""
    return Certificate(
        experiment=experiment.name,
        digest=experiment.digest,
        market=experiment.market.name,
        answer=answer,
        algorithm=experiment.algorithm.name,
        seed=experiment.seed,
        agent_steps=experiment.iterations * experiment.agent_steps_per_iteration,
        evaluation_seeds=experiment.certificate.seeds,
        metrics=assessment.metrics,
        plots=assessment.plots,
        methods=assessment.methods,
        made_with=MadeWith.here(),
        policy=policy,
    )


# -- as JSON ---------------------------------------------------------------------------------------


def write(path: Path, certificate: Certificate) -> None:
    """Keeps a certificate in a file."""
    c = certificate
    content = {
        "format": FORMAT,
        "experiment": c.experiment,
        "digest": c.digest,
        "market": c.market,
        "answer": c.answer,
        "algorithm": c.algorithm,
        "seed": c.seed,
        "agent_steps": c.agent_steps,
        "evaluation_seeds": c.evaluation_seeds,
        "passed": c.passed,
        "metrics": [metric_as_json(metric) for metric in c.metrics],
        "figures": [_plot_as_json(plot) for plot in c.plots],
        "methods": list(c.methods),
        "made_with": vars(c.made_with),
        "policy": c.policy,
    }
    content["sha256"] = _sha256(content)
    write_text(path, json.dumps(content, indent=1, allow_nan=False))


def _sha256(content: dict[str, Any]) -> str:
    """Of all but itself."""
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read(path: Path) -> Certificate:
    """The certificate in a file.

    Raises:
        CorruptError: it is not what was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        whole = content["sha256"] == _sha256(content)
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise CorruptError(
            f"{path}: changed since it was written; `rl-markets evaluate` makes it again"
        )
    return Certificate(
        experiment=content["experiment"],
        digest=content["digest"],
        market=content["market"],
        answer=content["answer"],
        algorithm=content["algorithm"],
        seed=content["seed"],
        agent_steps=content["agent_steps"],
        evaluation_seeds=content["evaluation_seeds"],
        metrics=[_metric(entry) for entry in content["metrics"]],
        plots=[_plot(entry) for entry in content["figures"]],
        methods=tuple(content.get("methods", ())),
        made_with=MadeWith(**content["made_with"]),
        policy=content["policy"],
    )


def metric_as_json(metric: Metric) -> dict[str, Any]:
    """One line of a certificate as JSON."""
    m = metric
    return {
        "name": m.name,
        "label": m.label,
        "unit": m.unit,
        "value": _as_json(m.value),
        "low": _as_json(m.low),
        "high": _as_json(m.high),
        "answer": _as_json(m.answer),
        "limit": _as_json(m.limit),
        "passed": m.passed,
        "controls": {name: _as_json(value) for name, value in m.controls.items()},
        "note": m.note,
        "who": m.who,
    }


def _metric(entry: dict[str, Any]) -> Metric:
    return Metric(
        name=entry["name"],
        label=entry["label"],
        value=float(entry["value"]),
        unit=entry["unit"],
        low=_number(entry["low"]),
        high=_number(entry["high"]),
        answer=_number(entry["answer"]),
        controls={name: float(value) for name, value in entry["controls"].items()},
        limit=_number(entry["limit"]),
        note=entry["note"],
        who=entry.get("who", ""),
    )


def _plot_as_json(plot: Plot) -> dict[str, Any]:
    return {
        "title": plot.title,
        "x_label": plot.x_label,
        "y_label": plot.y_label,
        "log_x": plot.log_x,
        "log_y": plot.log_y,
        "lines": [_line_as_json(line) for line in plot.lines],
    }


def _line_as_json(line: Line) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "label": line.label,
        "style": line.style,
        "x": line.x,
        "y": [_as_json(y) for y in line.y],
    }
    if line.upper is not None:
        entry["upper"] = [_as_json(y) for y in line.upper]
    return entry


def _plot(entry: dict[str, Any]) -> Plot:
    return Plot(
        title=entry["title"],
        x_label=entry["x_label"],
        y_label=entry["y_label"],
        lines=[_line(line) for line in entry["lines"]],
        log_x=entry["log_x"],
        log_y=entry["log_y"],
    )


def _line(entry: dict[str, Any]) -> Line:
    upper = entry.get("upper")
    return Line(
        label=entry["label"],
        x=entry["x"],
        y=[float(y) for y in entry["y"]],
        style=entry["style"],
        upper=None if upper is None else [float(y) for y in upper],
    )


def _as_json(value: float | None) -> float | str | None:
    """JSON has no NaN: a value that could not be computed is the text `NaN`."""
    return value if value is None or math.isfinite(value) else str(value).replace("nan", "NaN")


def _number(value: float | str | None) -> float | None:
    return None if value is None else float(value)
