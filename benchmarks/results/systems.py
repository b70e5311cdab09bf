"""The README's table: one row a system, beside the best simple rule and what else one would do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.results.documents import middle, read
from benchmarks.results.page import put
from rl_markets.certificate.tables import shown

BEGIN = "<!-- systems: made by `make results` -->"
END = "<!-- end of systems -->"
HEAD = (
    "system",
    "off the known answer",
    "best simple rule",
    "instead",
    "seeds certified",
    "CPU seconds",
)


@dataclass(frozen=True)
class System:
    """A row.

    Attributes:
        experiment: whose results it shows.
        title: what is learned.
        metrics: the row's value is the largest of these.
        unit: what the values are in.
        simple: the control that is the best simple rule.
        instead: the control that a user would take in place of learning, or None.
        named: how it is called.
    """

    experiment: str
    title: str
    metrics: tuple[str, ...]
    unit: str
    simple: str | None
    instead: str | None = None
    named: str = ""


POLICY_ERRORS = ("policy_error/consumption_share", "policy_error/labour")
SYSTEMS = (
    System(
        "households-rbc",
        "twenty households in a business cycle",
        POLICY_ERRORS,
        "%",
        "constant actions",
        "log-linear",
        "perturbation of the known equations",
    ),
    System(
        "households-3x3",
        "nine different households who move prices",
        ("capital_shares",),
        "points",
        "equal shares",
    ),
    System(
        "krusell-smith",
        "fifty households with unemployment risk",
        ("policy_error/consumption_share",),
        "%",
        "constant share",
    ),
    System(
        "fiscal",
        "a government that taxes twenty households",
        (*POLICY_ERRORS, "policy_error/tax_rate"),
        "%",
        "constant actions",
        "myopic government",
        "a government that looks at today only",
    ),
    System(
        "pricing-gvr",
        "a season with stock and a deadline",
        ("shortfall",),
        "%",
        "best fixed price",
        "fit-then-plan, 10 logged seasons",
        "regression, then dynamic programming",
    ),
    System(
        "pricing-points",
        "a points programme",
        ("shortfall",),
        "%",
        "best constant offer",
        "no points",
        "no points at all",
    ),
    System(
        "pricing-duopoly",
        "two learning sellers",
        ("best_response_gain/exact",),
        "%",
        "one level for all products",
        "list prices",
        "list prices",
    ),
    System(
        "pricing-rival",
        "a seller against a scripted rival",
        ("shortfall",),
        "%",
        "best fixed price",
        "best for today",
        "the best price for today",
    ),
)
"""At most eight, so that they fit a screen."""


def fill_readme(folder: Path, readme: Path) -> None:
    """Puts the table between the markers of the project's README."""
    put(readme, BEGIN, table(folder), END)


def table(folder: Path) -> str:
    """The rows as Markdown; medians over seeds, with their range."""
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    lines += [f"| {' | '.join(_cells(system, folder))} |" for system in SYSTEMS]
    return "\n".join(lines)


def _cells(system: System, folder: Path) -> list[str]:
    seeds = read(folder, system.experiment)["seeds"]
    worst = [_worst(system, seed) for seed in seeds]
    values = [float(metric["value"]) for metric in worst]
    passed = sum(bool(seed["passed"]) for seed in seeds)
    seconds = middle([float(seed["cpu_seconds"]) for seed in seeds])
    return [
        f"[{system.title}](tune_configs/{system.experiment}.yaml)",
        _spread(values, system.unit),
        _control(system, worst[0], system.simple),
        _instead(system, worst[0]),
        f"{passed} of {len(seeds)}",
        f"{seconds:.0f}",
    ]


def _worst(system: System, seed: dict[str, Any]) -> dict[str, Any]:
    """The largest of the system's metrics; NaN, which fails, is larger than all."""
    metrics: list[dict[str, Any]] = [
        seed["metrics"][name] for name in system.metrics if name in seed["metrics"]
    ]
    return max(metrics, key=lambda m: math.inf if math.isnan(float(m["value"])) else m["value"])


def _spread(values: list[float], unit: str) -> str:
    """The median in bold, its range, and the unit; what is 0 but for rounding is 0."""
    low, median, high = (
        shown(value if abs(value) >= 5e-6 else 0.0)
        for value in (min(values), middle(values), max(values))
    )
    return f"**{median} {unit}** ({low} to {high})"


def _control(system: System, metric: dict[str, Any], control: str | None) -> str:
    if control is None or control not in metric["controls"]:
        return ""
    return f"{shown(metric['controls'][control])} {system.unit}"


def _instead(system: System, metric: dict[str, Any]) -> str:
    value = _control(system, metric, system.instead)
    return f"{value}: {system.named}" if value else ""
