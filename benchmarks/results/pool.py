"""Training runs side by side, a process for each.

What is finished is kept, so that an interrupted series goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results.plan import Run
from rl_markets import tune_configs
from rl_markets.experiment import Experiment, load
from rl_markets.experiment.rules import LATEST
from rl_markets.store import write_text

RECORD = "record.json"
LOG = "log.txt"
LOOKED_AT = "compared.json"
NICE = 10
"""Training gives way to whatever a person does meanwhile."""


@dataclass(frozen=True)
class Record:
    """What a run's process took.

    Attributes:
        digest: of the experiment.
        seconds: by the clock, start-up and examination included.
        cpu_seconds: of the process.
        peak_mib: its largest resident memory.
    """

    digest: str
    seconds: float
    cpu_seconds: float
    peak_mib: float


class RunsFailedError(RuntimeError):
    """Some runs of a series failed; the message names them and their logs."""


def experiment_of(run: Run) -> Experiment:
    """The experiment that a run trains."""
    return load(_file(run), run.settings)


def _file(run: Run) -> Path:
    return Path(tune_configs.__path__[0]) / f"{run.experiment}.yaml"


def record_of(run: Run, root: Path) -> Record | None:
    """The record of a finished run of the very same experiment, or None.

    It knows the experiment but not the code: whoever changes the code deletes the folder.
    """
    path = root / run.folder / RECORD
    if not path.is_file():
        return None
    record = Record(**json.loads(path.read_text(encoding="utf-8")))
    return record if record.digest == experiment_of(run).digest else None


def carry_out(runs: Sequence[Run], root: Path, workers: int, say: Callable[[str], None]) -> None:
    """Trains what is not finished yet, `workers` at a time.

    Raises:
        ExperimentError: where one is no valid experiment; nothing is trained then.
        RunsFailedError: after all others are done.
    """
    for run in runs:
        experiment_of(run)  # refuses an invalid one before hours are spent on the others
    waiting = [run for run in runs if record_of(run, root) is None]
    finished = len(runs) - len(waiting)
    say(f"{len(runs)} runs, {finished} of them finished before; {workers} at a time")
    started = time.perf_counter()
    failed = list[str]()

    def work(numbered: tuple[int, Run]) -> None:
        i, run = numbered
        try:
            record = _carry_out(run, root)
        except subprocess.CalledProcessError as error:
            log = root / run.folder / LOG
            failed.append(f"{run.folder} (exit code {error.returncode}, see {log})")
            say(f"{run.folder}: failed")
            return
        minutes = (time.perf_counter() - started) / 60
        say(
            f"{i}/{len(waiting)} {run.folder}: {record.seconds:.0f} s, {record.peak_mib:.0f} MiB; "
            f"{minutes:.0f} min so far"
        )

    # threads are enough: each waits for a process of its own
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, enumerate(waiting, 1)))
    if failed:
        raise RunsFailedError(f"{len(failed)} of {len(waiting)} runs failed: {'; '.join(failed)}")


def _carry_out(run: Run, root: Path) -> Record:
    folder = root / run.folder
    folder.mkdir(parents=True, exist_ok=True)
    file = str(_file(run))
    overrides = [word for setting in run.settings for word in ("-o", setting)]
    if not run.certified:
        out = str(folder / LOOKED_AT)
        arguments = ["-m", "benchmarks.results.comparison", out, file, *run.settings]
    elif _unfinished(folder / LATEST, experiment_of(run)):
        arguments = ["-m", "rl_markets", "resume", str(folder / LATEST)]
    else:
        arguments = ["-m", "rl_markets", "train", file, *overrides, "--runs", str(folder)]
    record = _measured([sys.executable, *arguments], folder / LOG, experiment_of(run).digest)
    write_text(folder / RECORD, json.dumps(vars(record), indent=1))
    return record


def _unfinished(folder: Path, experiment: Experiment) -> bool:
    """Whether `folder` holds a run of this very experiment that was interrupted."""
    file = folder / "experiment.yaml"
    certificate = folder / "certificate.json"
    return file.is_file() and not certificate.is_file() and load(file).digest == experiment.digest


def _measured(command: list[str], log: Path, digest: str) -> Record:
    """Runs a command to its end, and says what it took."""
    started = time.perf_counter()
    # a thread for each run: the workers together have the cores
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        # not `process.wait`: this tells what the child used, too
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Record(
        digest,
        seconds=time.perf_counter() - started,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / 1024,  # kibibytes on Linux
    )
