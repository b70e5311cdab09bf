"""The README's tables: shipped experiments trained over seeds, `python -m rl_markets.results docs/results [NAME ...]`.

Writes one JSON and the pictures of each experiment, and the table into the project's README, between its two markers; a
test compares them.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from statistics import median
from typing import Any

from rl_markets import evaluation, report
from rl_markets.experiment import load
from rl_markets.quiet import quiet_ray
from rl_markets.runs import RunFolder, read_rows
from rl_markets.store import write_text

BEGIN, END = "<!-- results: made by `make results` -->", "<!-- end of results -->"
ECONOMIES = ("households-full-depreciation", "households-rbc")
LEARNERS = {"": "PPO", "-sac": "SAC", "-td3": "TD3", "-ddpg": "DDPG", "-analytic": "analytic gradient"}
EXPERIMENTS: dict[str, tuple[int, ...]] = {
    **{f"{ECONOMIES[0]}{learner}": (0, 1, 2) for learner in LEARNERS},
    **{f"{ECONOMIES[1]}{learner}": (0, 1, 2) for learner in ("", "-analytic")},
    "households-rbc-sac": (0,),  # minutes, and off its limits: the curve shows it
    "households-3x3": (0, 1, 2),
    "krusell-smith": (0, 1, 2),
}
SIMPLE = ("constant actions", "constant share", "equal shares")
"""Controls that are a simple rule."""
PAGE, PICTURES = "households.md", 6
PICTURED = ("households-rbc", "households-rbc-analytic", "households-3x3", "krusell-smith")
"""Experiments whose pictures are kept."""


def main(folder: Path, names: list[str]) -> None:
    """Trains these experiments, or all, and writes the tables."""
    quiet_ray()
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or EXPERIMENTS:
        write(name, train(name), folder)
    finish(folder)


def finish(folder: Path) -> None:
    """Curves, page and the README's table, from the documents in `folder`."""
    for economy in ECONOMIES:
        write_text(folder / f"{economy}-curves.svg", report.svg(curves(folder, economy)))
    write_text(folder / PAGE, page(folder))
    fill_readme(folder)


def write(name: str, runs: list[RunFolder], folder: Path) -> None:
    """The document of one experiment, as `NAME.json`."""
    write_text(folder / f"{name}.json", json.dumps(document(name, runs, folder), indent=1))


def fill_readme(folder: Path) -> None:
    """Puts the table between the markers of the project's README."""
    readme = Path("README.md")
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    write_text(readme, f"{before}{BEGIN}\n{table(folder)}\n{END}{rest.partition(END)[2]}")


def train(name: str) -> list[RunFolder]:
    """One experiment over all seeds."""
    from rl_markets import workflow

    file = Path("tune_configs") / f"{name}.yaml"
    return [workflow.train(load(file, [f"seed={seed}"]), Path("runs")) for seed in EXPERIMENTS[name]]


def document(name: str, runs: list[RunFolder], folder: Path) -> dict[str, Any]:
    """The runs' certificates as one document; the first one's figures become pictures in `folder`."""
    seeds = []
    for run in runs:
        certificate = evaluation.read(run.certificate)
        figures = {m["name"]: m for m in certificate["metrics"]}
        rows = read_rows(run)
        seeds.append({
            "seed": certificate["seed"], "passed": certificate["passed"], "seconds": round(rows[-1]["seconds"], 1),
            "metrics": figures, "curve": curve(rows),
        })  # fmt: skip
    pictures = evaluation.read(runs[0].certificate)["figures"][:PICTURES]
    for i, figure in enumerate(pictures if name in PICTURED else []):
        write_text(folder / f"{name}-picture-{i + 1}.svg", report.svg(figure))
    return {
        "experiment": name, "command": f"rl-markets train tune_configs/{name}.yaml -o seed=SEED",
        "agent_steps": certificate["agent_steps"], "made_with": certificate["made_with"], "seeds": seeds,
    }  # fmt: skip


def curve(rows: list[dict[str, float]]) -> list[list[float]]:
    """Where the known answer was looked at: agent steps, seconds of training, distance in %."""
    looks = [row for row in rows if math.isfinite(row["distance"])]
    return [[int(r["agent_steps"]), round(r["seconds"], 1), float(f"{r['distance']:.4g}")] for r in looks]


def curves(folder: Path, economy: str) -> dict[str, Any]:
    """Every learner's distance from one economy's answer against agent steps, as a figure of the report."""
    styles = ("ours", "control", "third", "fourth", "fifth")
    lines = []
    for (suffix, label), style in zip(LEARNERS.items(), styles, strict=True):
        if f"{economy}{suffix}" not in EXPERIMENTS:
            continue
        for seed in _found(folder, f"{economy}{suffix}")["seeds"]:
            steps, _, y = zip(*seed["curve"], strict=True)
            x = [n / 1e6 for n in steps]
            lines.append({"label": f"{label}, seed {seed['seed']}", "style": style, "x": x, "y": y})
    return {"title": economy, "x_label": "agent steps, millions", "y_label": "distance from the answer, %",
            "log_x": False, "log_y": True, "lines": lines}  # fmt: skip


def _found(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return found


def table(folder: Path) -> str:
    """A row for each experiment: the largest of its mean policy errors and its best-response gain, median over seeds."""
    head = ("experiment", "seeds certified", "policy error, %", "a simple rule's", "untrained", "best-response gain, %")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in EXPERIMENTS:
        seeds = _found(folder, name)["seeds"]
        errors = [max(_policy_errors(seed), key=lambda m: float(m["value"])) for seed in seeds]
        gains = [seed["metrics"].get("best_response_gain/exact") for seed in seeds]
        cells = [
            f"`{name}`",
            f"{sum(bool(seed['passed']) for seed in seeds)} of {len(seeds)}",
            _spread([float(m["value"]) for m in errors]),
            _control(errors[0], SIMPLE),
            _control(errors[0], ("untrained network",)),
            _spread([float(m["value"]) for m in gains]) if all(gains) else "not computed",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _policy_errors(seed: dict[str, Any]) -> list[dict[str, Any]]:
    """The mean errors that are judged."""
    return [m for n, m in seed["metrics"].items() if n.startswith("policy_error/") and m["limit"] is not None]


def page(folder: Path) -> str:
    """All judged figures of all experiments as Markdown, with commands, seeds and the machine."""
    made = _found(folder, next(iter(EXPERIMENTS)))["made_with"]
    lines = [
        "# Households: what was learned, beside what is known",
        "",
        f"Made by `make results` with rl-markets {made['rl_markets']}, torch {made['torch']}, Python {made['python']}, "
        f"{made['machine']}. Each figure is the median over the seeds, with their range; seconds are those of training by "
        "the clock, with other work on the machine. *Simple rule* is the best constant one, *untrained* the same "
        "network before training, which must fail.",
    ]
    for name in EXPERIMENTS:
        found = _found(folder, name)
        seconds = [float(seed["seconds"]) for seed in found["seeds"]]
        lines += [
            "",
            f"## {name}",
            "",
            f"`{found['command']}`, seeds {', '.join(str(seed['seed']) for seed in found['seeds'])}; "
            f"{found['agent_steps']:,} agent steps, {_spread(seconds)} s.",
            "",
            "| figure | learned | answer | limit | simple rule | log-linear | untrained |",
            "|---|---|---|---|---|---|---|",
        ]
        for key, first in found["seeds"][0]["metrics"].items():
            if first["limit"] is not None or first["answer"] not in (None, 0.0):
                lines.append(_row([seed["metrics"][key] for seed in found["seeds"]]))
        pictures = sorted(folder.glob(f"{name}-picture-*.svg"))
        lines += ["", *(f"![{p.stem}]({p.name})" for p in pictures)]
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    middle = math.nan if any(math.isnan(v) for v in values) else median(values)
    return f"**{report.figure(middle)}** ({report.figure(min(values))} to {report.figure(max(values))})"


def _control(metric: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((report.figure(metric["controls"][n]) for n in names if n in metric["controls"]), "")


def _row(metrics: list[dict[str, Any]]) -> str:
    first = metrics[0]
    label = f"{first['label']}, {first['unit']}" if first["unit"] else first["label"]
    controls = [_control(first, names) for names in (SIMPLE, ("log-linear",), ("untrained network",))]
    cells = [
        label,
        _spread([float(m["value"]) for m in metrics]),
        report.figure(first["answer"]),
        report.figure(first["limit"]),
    ]
    return "| " + " | ".join([*cells, *controls]) + " |"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/results"), sys.argv[2:])
