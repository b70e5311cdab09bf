"""The README's tables: every shipped experiment trained over seeds, `python -m rl_markets.results docs/results`.

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
EXPERIMENTS: dict[str, tuple[int, ...]] = {
    f"{economy}{learner}": (0, 1, 2) for economy in ECONOMIES for learner in ("", "-sac")
}
EXPERIMENTS["households-rbc-sac"] = (0,)  # minutes, and off its limits: the curve shows it
SHOWN = ("policy_error/consumption_share", "policy_error/labour", "welfare_loss", "best_response_gain/exact")


def main(folder: Path) -> None:
    """Trains everything and writes the tables."""
    quiet_ray()
    folder.mkdir(parents=True, exist_ok=True)
    for name in EXPERIMENTS:
        write(name, train(name), folder)
    for economy in ECONOMIES:
        write_text(folder / f"{economy}-curves.svg", report.svg(curves(folder, economy)))
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
    """The runs' certificates as one document; the first one's policy functions become pictures in `folder`."""
    seeds = []
    for run in runs:
        certificate = evaluation.read(run.certificate)
        figures = {m["name"]: m for m in certificate["metrics"]}
        rows = read_rows(run)
        seeds.append({
            "seed": certificate["seed"], "passed": certificate["passed"], "seconds": round(rows[-1]["seconds"], 1),
            "metrics": figures, "curve": curve(rows),
        })  # fmt: skip
    for figure in evaluation.read(runs[0].certificate)["figures"][:2]:
        write_text(folder / f"{name}-{figure['title'].lower().replace(' ', '-')}.svg", report.svg(figure))
    return {
        "experiment": name, "command": f"rl-markets train tune_configs/{name}.yaml -o seed=SEED",
        "agent_steps": certificate["agent_steps"], "made_with": certificate["made_with"], "seeds": seeds,
    }  # fmt: skip


def curve(rows: list[dict[str, float]]) -> list[list[float]]:
    """Where the known answer was looked at: agent steps, seconds of training, distance in %."""
    looks = [row for row in rows if math.isfinite(row["distance"])]
    return [[int(r["agent_steps"]), round(r["seconds"], 1), float(f"{r['distance']:.4g}")] for r in looks]


def curves(folder: Path, economy: str) -> dict[str, Any]:
    """PPO's and SAC's distance from one economy's answer against agent steps, as a figure of the report."""
    lines = []
    for name, label, style in ((economy, "PPO", "ours"), (f"{economy}-sac", "SAC", "control")):
        for seed in json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["seeds"]:
            steps, _, y = zip(*seed["curve"], strict=True)
            x = [n / 1e6 for n in steps]
            lines.append({"label": f"{label}, seed {seed['seed']}", "style": style, "x": x, "y": y})
    return {"title": economy, "x_label": "agent steps, millions", "y_label": "distance from the answer, %",
            "log_x": False, "log_y": True, "lines": lines}  # fmt: skip


def table(folder: Path) -> str:
    """All experiments as one Markdown table: median over seeds, and the range; NaN where it failed."""
    lines = ["| market | figure | learned: median (range) | answer | limit | constant actions | log-linear | untrained |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name in EXPERIMENTS:
        found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for metric in SHOWN:
            lines.append(_row(name, [seed["metrics"][metric] for seed in found["seeds"]]))
    return "\n".join(lines)


def _row(name: str, metrics: list[dict[str, Any]]) -> str:
    values, first = [float(m["value"]) for m in metrics], metrics[0]
    middle = math.nan if any(math.isnan(v) for v in values) else median(values)
    span = f"{report.figure(min(values))} to {report.figure(max(values))}"
    controls = [
        report.figure(first["controls"].get(c)) for c in ("constant actions", "log-linear", "untrained network")
    ]
    label = f"{first['label']}, {first['unit']}"
    cells = [
        f"`{name}`",
        label,
        f"**{report.figure(middle)}** ({span})",
        report.figure(first["answer"]),
        report.figure(first["limit"]),
    ]
    return "| " + " | ".join([*cells, *controls]) + " |"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/results"))
