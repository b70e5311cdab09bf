"""What a person waits for: from the command to the first iteration, and its memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import rl_markets
from benchmarks.speed import economy
from benchmarks.speed.rounds import Say, absolute

FILE = Path(rl_markets.__file__).parent / "tune_configs" / "households-rbc.yaml"
FIRST = "iteration 1/"
METRICS = {
    "wall": "wall-clock seconds to the first iteration",
    "cpu": "CPU seconds, with the checkpoint of the interruption",
    "memory": "peak memory, MiB",
}


def measure(seconds: float, say: Say) -> dict[str, Any]:
    """`rl-markets train`, stopped after an iteration, once a round; `seconds` does not matter."""
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for turn in range(1, economy.SIZE.rounds + 1):
        with tempfile.TemporaryDirectory() as runs:
            command = [sys.executable, "-m", "rl_markets", "train", str(FILE), "--runs", runs]
            latest = started(command)
        for name, value in latest.items():
            values[name].append(value)
        told = ", ".join(f"{name} {value:.4g}" for name, value in latest.items())
        say(f"round {turn}/{economy.SIZE.rounds}: {told}")
    return {"rows": [absolute(what, values[name], None) for name, what in METRICS.items()]}


def started(command: list[str]) -> dict[str, float]:
    """`METRICS` of one run, interrupted after its first iteration.

    They are of the process that samples and learns.

    Raises:
        RuntimeError: where it ends in another way.
    """
    start = time.perf_counter()
    wall = float("nan")
    output = list[str]()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        output.append(line)
        if line.startswith(FIRST):
            wall = time.perf_counter() - start
            process.send_signal(signal.SIGTERM)
    # not `process.wait`: this tells what the child used, too
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 128 + signal.SIGTERM:
        raise RuntimeError("rl-markets train failed:\n" + "".join(output))
    kibibytes = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)  # bytes on macOS
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "memory": kibibytes / 1024}
