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
from rl_markets.runs import read_rows
from rl_markets.store import write_text

BEGIN, END = "<!-- results: made by `make results` -->", "<!-- end of results -->"
SEEDS = (0, 1, 2)
EXPERIMENTS = ("households-full-depreciation", "households-rbc")
SHOWN = ("policy_error/consumption_share", "policy_error/labour", "welfare_loss", "best_response_gain/exact")


def main(folder: Path) -> None:
    """Trains everything and writes the tables."""
    quiet_ray()
    folder.mkdir(parents=True, exist_ok=True)
    for name in EXPERIMENTS:
        document = train(name, folder)
        write_text(folder / f"{name}.json", json.dumps(document, indent=1))
    readme = Path("README.md")
    before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    write_text(readme, f"{before}{BEGIN}\n{table(folder)}\n{END}{rest.partition(END)[2]}")


def train(name: str, folder: Path) -> dict[str, Any]:
    """One experiment over all seeds: its certificates' figures and the seconds of training."""
    from rl_markets import workflow

    seeds = []
    for seed in SEEDS:
        run = workflow.train(load(Path("tune_configs") / f"{name}.yaml", [f"seed={seed}"]), Path("runs"))
        certificate, last = evaluation.read(run.certificate), read_rows(run)[-1]
        figures = {m["name"]: m for m in certificate["metrics"]}
        seeds.append({"seed": seed, "passed": certificate["passed"], "seconds": last["seconds"], "metrics": figures})
        for figure in certificate["figures"][:2]:
            if seed == SEEDS[0]:
                write_text(folder / f"{name}-{figure['title'].lower().replace(' ', '-')}.svg", report.svg(figure))
    return {"experiment": name, "agent_steps": certificate["agent_steps"], "made_with": certificate["made_with"],
            "command": f"rl-markets train tune_configs/{name}.yaml -o seed=SEED", "seeds": seeds}  # fmt: skip


def table(folder: Path) -> str:
    """All experiments as one Markdown table: median over seeds, and the range; NaN where it failed."""
    lines = ["| market | figure | learned: median (range) | answer | limit | constant actions | log-linear | untrained |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name in EXPERIMENTS:
        document = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for metric in SHOWN:
            lines.append(_row(name, [seed["metrics"][metric] for seed in document["seeds"]]))
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
