"""The JSON of what was measured: a document for each experiment, and one for each comparison."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results.plan import LEARNERS, PICTURED, Plan, Run
from benchmarks.results.pool import LOOKED_AT, Record, record_of
from rl_markets.certificate import document as certificates
from rl_markets.certificate.document import metric_as_json
from rl_markets.certificate.plots import svg
from rl_markets.experiment.rules import LATEST
from rl_markets.store import write_text
from rl_markets.training.metrics_log import read_rows
from rl_markets.training.run_folder import RunFolder

COMPARISON = "households-by-size"
VARIED = "pricing-varied"
PICTURES = 10
"""Of an experiment, at the most."""


def write_all(plan: Plan, root: Path, folder: Path) -> None:
    """Every document, from the runs below `root`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in plan.experiments:
        runs = [run for run in plan.certified if run.experiment == name]
        write_document(folder, name, document(name, runs, root))
        _pictures(folder, name, _run_folder(runs[0], root))
    write_document(folder, COMPARISON, comparison(plan, root))
    write_document(folder, VARIED, varied(plan, root))


def read(folder: Path, name: str) -> dict[str, Any]:
    """A document."""
    document: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return document


def write_document(folder: Path, name: str, content: dict[str, Any]) -> None:
    write_text(folder / f"{name}.json", json.dumps(content, indent=1, allow_nan=False))


def document(name: str, runs: Sequence[Run], root: Path) -> dict[str, Any]:
    """The certificates of one experiment's runs, and how long they took."""
    seeds = []
    for run in runs:
        folder = _run_folder(run, root)
        record = _record(run, root)
        certificate = certificates.read(folder.certificate)
        rows = read_rows(folder)
        seeds.append(
            {
                "seed": certificate.seed,
                "passed": certificate.passed,
                "seconds": round(rows[-1]["seconds"], 1),
                "cpu_seconds": round(record.cpu_seconds, 1),
                "peak_mib": round(record.peak_mib),
                "metrics": {m.name: metric_as_json(m) for m in certificate.metrics},
                "curve": curve(rows),
            }
        )
    # the last certificate stands for all of them
    return {
        "experiment": name,
        "command": f"rl-markets train tune_configs/{name}.yaml -o seed=SEED",
        "agent_steps": certificate.agent_steps,
        "made_with": vars(certificate.made_with),
        "seeds": seeds,
    }


def _run_folder(run: Run, root: Path) -> RunFolder:
    return RunFolder.open(root / run.folder / LATEST)


def _record(run: Run, root: Path) -> Record:
    record = record_of(run, root)
    assert record is not None
    return record


def curve(rows: list[dict[str, float]]) -> list[list[float]]:
    """Points `[agent steps, seconds of training, distance in %]` where there is a distance."""
    points = []
    for row in rows:
        if math.isfinite(row["distance"]):
            distance = float(f"{row['distance']:.4g}")
            points.append([int(row["agent_steps"]), round(row["seconds"], 1), distance])
    return points


def _pictures(folder: Path, name: str, run: RunFolder) -> None:
    """The plots of an experiment's first run, in the place of those that were there."""
    for old in folder.glob(f"{name}-picture-*.svg"):
        old.unlink()
    plots = certificates.read(run.certificate).plots if name in PICTURED else []
    for i, plot in enumerate(plots[:PICTURES], 1):
        write_text(folder / f"{name}-picture-{i}.svg", svg(plot))


def comparison(plan: Plan, root: Path) -> dict[str, Any]:
    """Every learner at every number of households: the values of each seed."""
    rows = [
        {
            "households": cell.households,
            "learner": LEARNERS[cell.learner],
            "command": _command(cell.runs[0]),
            "seeds": [_compared_seed(run, root) for run in cell.runs],
        }
        for cell in plan.cells
    ]
    return {"rows": rows}


def varied(plan: Plan, root: Path) -> dict[str, Any]:
    """Every variation's loss against the known answer, in %, and seconds of training, by seed."""
    rows = []
    for variation in plan.varied:
        runs = variation.runs(plan.seeds)
        seeds = [_varied_seed(run, root) for run in runs]
        rows.append({"label": variation.label, "command": _command(runs[0]), "seeds": seeds})
    return {"rows": rows}


def _varied_seed(run: Run, root: Path) -> dict[str, Any]:
    folder = _run_folder(run, root)
    metrics = {m.name: m for m in certificates.read(folder.certificate).metrics}
    return {
        "seed": run.seed,
        "shortfall": metrics["shortfall"].value,
        "seconds": round(read_rows(folder)[-1]["seconds"], 1),
    }


def _command(run: Run) -> str:
    overrides = " ".join(f"-o {setting}" for setting in run.overrides)
    return f"rl-markets train tune_configs/{run.experiment}.yaml -o seed=SEED {overrides}"


def _compared_seed(run: Run, root: Path) -> dict[str, float]:
    record = _record(run, root)
    text = (root / run.folder / LOOKED_AT).read_text(encoding="utf-8")
    values: dict[str, float] = json.loads(text)
    rounded = {name: float(f"{value:.5g}") for name, value in values.items()}
    return {"seed": run.seed, **rounded, "peak_mib": round(record.peak_mib)}


def middle(values: Sequence[float]) -> float:
    """The median; NaN where one of them is."""
    # `median` sorts, and where NaN ends up in the order is anyone's guess
    return math.nan if any(math.isnan(v) for v in values) else median(values)


def by_metric(seeds: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Each metric's values, of the seeds that have it.

    A line may be another one by seed: a best path stands where the exact best response was not
    settled.
    """
    names = dict.fromkeys(name for seed in seeds for name in seed["metrics"])
    return [[seed["metrics"][name] for seed in seeds if name in seed["metrics"]] for name in names]


def of_seeds(values: list[dict[str, Any]], seeds: list[dict[str, Any]]) -> str:
    """How many seeds have a metric, where not all do."""
    return "" if len(values) == len(seeds) else f" ({len(values)} of {len(seeds)} seeds)"
