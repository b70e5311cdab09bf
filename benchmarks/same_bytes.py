"""Proof that a change of the code changed nothing that it makes.

    OLD_COMMAND="OLD/.venv/bin/python -m rl_markets"
    python benchmarks/same_bytes.py record before.json --command "$OLD_COMMAND" --root OLD
    python benchmarks/same_bytes.py record after.json
    python benchmarks/same_bytes.py compare before.json after.json

`record` runs the command line as a person does: a short training of every shipped experiment
(`--smoke`), the commands for one's own data, and a table of bad experiment files. It writes down a
hash of the exported weights, every metric and every value of the certificate (all but what depends
on the clock), the report page, and every line that refused a bad file. Only the command line is
used, so that two revisions with different layouts can be compared.
"""

from __future__ import annotations

import argparse
import copy
import csv
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).resolve().parents[1]
CLOCKED = {"seconds", "agent_steps_per_second", "learner_share"}
CLOCKED |= {"market_share", "policy_share", "framework_share"}
"""Metrics that depend on the machine and the clock."""
TIMES = re.compile(r"<h2>Where the time went</h2>.*?<h2>", flags=re.S)
"""The report's section that depends on the clock, and the heading behind it."""

CHECKS = """
import contextlib, io, json, sys
from rl_markets.cli import main
answers = {}
for path in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["rl-markets", "check", path]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code
        except Exception as error:
            code = f"{type(error).__name__}: {error}"
    answers[path] = [code, out.getvalue(), err.getvalue()]
json.dump(answers, sys.stdout)
"""
"""Checks many files in one process, each through the command line's own entry."""


class Runner:
    """The command line of one revision.

    Args:
        command: what stands for `rl-markets`, such as `.venv/bin/python -m rl_markets`.
        root: the revision's folder, which holds its `tune_configs`.
    """

    def __init__(self, command: str, root: Path) -> None:
        interpreter, *rest = shlex.split(command)
        self.command = [os.path.abspath(interpreter), *rest]  # runs happen in other folders
        self.root = root.resolve()

    def __call__(self, *arguments: str | Path, cwd: Path) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of one command."""
        command = [*self.command, *map(str, arguments)]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def python(self, program: str, text: str, cwd: Path) -> str:
        """What a program prints in this revision's interpreter."""
        command = [self.command[0], "-c", program]
        done = subprocess.run(
            command, cwd=cwd, input=text, capture_output=True, text=True, check=True
        )
        return done.stdout


def sha256(data: bytes | str) -> str:
    """The first 16 digits of the hash: enough to tell two files apart, short enough to read."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


# -- experiments -----------------------------------------------------------------------------------


def trained(run: Runner, file: Path) -> dict[str, Any]:
    """What a short run of an experiment leaves behind, without what depends on the clock."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # through a link, so that the paths of both revisions read alike
        shipped = folder / "shipped"
        shipped.symlink_to(file.parent)
        code, out, err = run("train", shipped / file.name, "--smoke", "--runs", "runs", cwd=folder)
        if code:
            return {"failed": [code, _timeless(out, folder), _timeless(err, folder)]}
        results = folder / "runs" / "latest"
        certificate = json.loads((results / "certificate.json").read_text())
        certificate.pop("made_with")
        report = TIMES.sub("<h2>", (results / "report.html").read_text())
        policy = sorted((results / "policy").iterdir())
        # TensorBoard's files have the time and the process in their names
        files = [p for p in results.rglob("*") if p.is_file() and "tfevents" not in p.name]
        return {
            "experiment": sha256((results / "experiment.yaml").read_bytes()),
            "weights": {p.name: sha256(p.read_bytes()) for p in policy},
            "metrics": _metrics(results / "metrics.csv"),
            "certificate": certificate,
            "report": sha256(_timeless(report, folder)),
            "files": sorted(str(p.relative_to(results)) for p in files),
            "printed": _timeless(out, folder),
        }


def _timeless(text: str, folder: Path) -> str:
    """Text without paths, dates and speeds."""
    text = text.replace(str(folder.resolve()), "TMP").replace(str(folder), "TMP")
    text = re.sub(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", "DATE", text)
    text = re.sub(r"[\d.]+[kMG]?/s\b", "SPEED", text)
    return re.sub(r"\d+ (s|min) left", "CLOCK", text)


def _metrics(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name not in CLOCKED} for row in rows]


# -- bad files -------------------------------------------------------------------------------------

WRONG: dict[str, Any] = {
    "gone": None,
    "text": "qqq",
    "list": [1],
    "section": {"qqq": 1},
    "minus one": -1,
    "nought": 0,
    "huge": 2**70,
    "fraction": 0.5,
    "not a number": float("nan"),
    "yes": True,
}
"""What each field of an experiment file is replaced by, in turn; `gone` removes it."""

NO_EXPERIMENTS = ["", "[]", "3", "a: [", "a: 1\na: 2\n", "\t", "name: x\n", "- a\n- b\n"]
NO_EXPERIMENTS += ["&a [*a]", "!!python/name:os.x"]
"""Texts that are no experiments at all."""


def paths(value: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where a value of a section stands, sections themselves included."""
    if prefix:
        yield prefix
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*prefix, key))


def changed(content: dict[str, Any], path: tuple[str, ...], kind: str) -> dict[str, Any]:
    """The content with the field at `path` replaced, removed, or misspelt."""
    copied = copy.deepcopy(content)
    section = copied
    for key in path[:-1]:
        section = section[key]
    if kind == "misspelt":
        section[path[-1] + "x"] = section.pop(path[-1])
    elif kind == "gone":
        section.pop(path[-1])
    else:
        section[path[-1]] = WRONG[kind]
    return copied


def refused(run: Runner, files: list[Path]) -> dict[str, Any]:
    """What `check` says of every bad file: exit code, stdout and stderr."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in files:
            content = yaml.safe_load(file.read_text(encoding="utf-8"))
            for path in paths(content):
                for kind in (*WRONG, "misspelt"):
                    text = yaml.safe_dump(changed(content, path, kind))
                    (folder / f"{file.stem}|{'.'.join(path)}|{kind}.yaml").write_text(text)
        for number, text in enumerate(NO_EXPERIMENTS):
            (folder / f"no-experiment-{number}.yaml").write_text(text)
        bad = sorted(path.name for path in folder.glob("*.yaml"))
        return dict(json.loads(run.python(CHECKS, json.dumps(bad), folder)))


# -- one's own data --------------------------------------------------------------------------------


def sales(path: Path, seed: int) -> None:
    """A log of sales of two products by exponential demand."""
    rng = np.random.default_rng(seed)
    lines = ["product,period,price,sales,stock,cost"]
    for period in range(120):
        for product in ("coffee", "tea"):
            price = float(rng.choice([400, 450, 500, 550, 600]))
            sold = min(40, int(rng.poisson(90 * np.exp(-0.004 * price))))
            lines.append(f"{product},{period},{price:g},{sold},40,200")
    path.write_text("\n".join(lines) + "\n")


def decisions(path: Path, seed: int) -> None:
    """A log of decisions in seasons of 6 periods and 5 units, at four prices chosen at random."""
    rng = np.random.default_rng(seed)
    prices = [400.0, 500.0, 600.0, 700.0]
    lines = ["season,period,stock,choice,price,sales,reward,propensity"]
    for season in range(300):
        stock = 5
        for period in range(6):
            choice = int(rng.integers(4))
            sold = min(stock, int(rng.poisson(6 * np.exp(-prices[choice] / 500))))
            price = prices[choice]
            row = (season, period, stock, choice, price, sold, sold * price, 0.25)
            lines.append(",".join(f"{value:g}" for value in row))
            stock -= sold
            if stock == 0:
                break
    path.write_text("\n".join(lines) + "\n")


SEASON = """
name: season
market:
  name: pricing
  parameters:
    periods: 6
    list_price: [1000]
    demand: {family: exponential, size: [6.0], slope: [0.002]}
    stock: {units: [5]}
    levels: [0.4, 0.5, 0.6, 0.7]
policies:
  seller: {groups: [seller]}
algorithm: {name: dqn}
training: {agent_steps: 10000}
"""


GOOD_LOGS = {
    "calibrate": "calibrate sales.csv",
    "calibrate season": "calibrate sales.csv --product tea --stock 20 --periods 30 --out tea.yaml",
    "calibrate again": "calibrate sales.csv",
    "offline": "offline decisions.csv season.yaml --export learned",
}
"""Commands in their order: `calibrate again` meets the file that `calibrate` wrote."""

DAMAGE = ((2, 1, "May"), (3, 2, "-3"), (4, 3, "nan"), (5, 4, ""), (1, 2, "1e400"))
"""Line, column, and what stands there in a damaged log."""


def own_data(run: Runner) -> dict[str, Any]:
    """What `calibrate` and `offline` print and write, for good logs and for damaged ones."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sales(folder / "sales.csv", seed=0)
        decisions(folder / "decisions.csv", seed=1)
        (folder / "season.yaml").write_text(SEASON)
        answers: dict[str, Any] = {}
        for title, command in GOOD_LOGS.items():
            answers[title] = run(*command.split(), cwd=folder)
        answers |= _damaged(run, folder, "calibrate", "sales.csv")
        answers |= _damaged(run, folder, "offline", "decisions.csv", "season.yaml")
        files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        answers["files"] = {str(p.relative_to(folder)): sha256(p.read_bytes()) for p in files}
    return answers


def _damaged(run: Runner, folder: Path, command: str, log: str, *rest: str) -> dict[str, Any]:
    """What a command says of a log with one wrong cell, for each of `DAMAGE`."""
    answers = {}
    lines = (folder / log).read_text().splitlines()
    for row, column, value in DAMAGE:
        cells = lines[row].split(",")
        cells[column] = value
        damaged = [*lines[:row], ",".join(cells), *lines[row + 1 :]]
        (folder / f"bad-{log}").write_text("\n".join(damaged) + "\n")
        title = f"{command} {row} {column} {value}"
        answers[title] = run(command, f"bad-{log}", *rest, cwd=folder)
        # written where the log was good enough; the next `calibrate` would refuse to replace it
        (folder / "bad-sales.yaml").unlink(missing_ok=True)
    return answers


HELPED = ("train", "check", "evaluate", "calibrate", "offline", "resume", "report")
SCREENS = ["--help", "markets", "train nowhere.yaml", "evaluate nowhere", "report nowhere"]
SCREENS += ["resume nowhere", "check", "check --market qqq", *(f"{name} --help" for name in HELPED)]


def screens(run: Runner) -> dict[str, Any]:
    """What the command line says of itself."""
    return {screen: run(*screen.split(), cwd=run.root) for screen in SCREENS}


# -- the two commands ------------------------------------------------------------------------------

PARTS = ("experiments", "bad files", "own data", "screens")
"""What is recorded."""


def record(run: Runner, only: list[str], parts: list[str]) -> dict[str, Any]:
    """Everything that must stay the same."""
    shipped = sorted((run.root / "tune_configs").glob("*.yaml"))
    files = [file for file in shipped if not only or file.stem in only]
    recorded: dict[str, Any] = {}
    if "experiments" in parts:
        recorded["experiments"] = {}
        for file in files:
            print(f"training {file.stem}", file=sys.stderr, flush=True)
            recorded["experiments"][file.stem] = trained(run, file)
    if "bad files" in parts:
        print("bad files", file=sys.stderr, flush=True)
        recorded["bad files"] = refused(run, files)
    if "own data" in parts:
        print("own data", file=sys.stderr, flush=True)
        recorded["own data"] = own_data(run)
    if "screens" in parts:
        recorded["screens"] = screens(run)
    return recorded


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Where two records differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [*before, *(key for key in after if key not in before)]
        gone = object()  # equal to nothing that a record holds
        return [
            line
            for key in keys
            for line in differences(before.get(key, gone), after.get(key, gone), f"{path}/{key}")
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [line for i, (b, a) in pairs for line in differences(b, a, f"{path}/{i}")]
    return [] if before == after else [f"{path}: {before!r:.400} -> {after!r:.400}"]


def compare(before: dict[str, Any], after: dict[str, Any]) -> int:
    """Prints the table of experiments and what differs; 1 where anything does.

    Only what both recorded is compared.
    """
    both = [part for part in PARTS if part in before and part in after]
    before, after = ({part: recorded[part] for part in both} for recorded in (before, after))
    if "experiments" in both:
        print("| experiment | hash before | hash after | same |\n|---|---|---|---|")
        for name in before["experiments"]:
            experiments = (recorded["experiments"].get(name) for recorded in (before, after))
            old, new = (sha256(json.dumps(e, sort_keys=True)) for e in experiments)
            print(f"| `{name}` | {old} | {new} | {'yes' if old == new else '**no**'} |")
    print("\ncompared: " + ", ".join(f"{len(before[part])} {part}" for part in both))
    lines = differences(before, after)
    print(f"differences: {len(lines)}", *lines[:60], sep="\n")
    return 1 if lines else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="action", required=True)
    recorder = commands.add_parser("record")
    recorder.add_argument("output", type=Path)
    recorder.add_argument("--command", default=f"{sys.executable} -m rl_markets")
    recorder.add_argument("--root", type=Path, default=ROOT)
    recorder.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    recorder.add_argument(
        "--only", action="append", default=[], help="an experiment's name; may be repeated"
    )
    comparer = commands.add_parser("compare")
    comparer.add_argument("before", type=Path)
    comparer.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.action == "compare":
        before = json.loads(arguments.before.read_text())
        after = json.loads(arguments.after.read_text())
        return compare(before, after)
    os.environ["COLUMNS"] = "120"  # the terminal's width, so that tables break alike
    runner = Runner(arguments.command, arguments.root)
    recorded = record(runner, arguments.only, arguments.parts)
    arguments.output.write_text(json.dumps(recorded, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
