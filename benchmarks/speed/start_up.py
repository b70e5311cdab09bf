"""What a person waits for: from the command to the first iteration, and how much memory that
takes."""

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
FIGURES = {
    "wall": "wall-clock seconds to the first iteration",
    "cpu": "CPU seconds, with the checkpoint of the interruption",
    "memory": "peak memory, MiB",
}


def measure(seconds: float, say: Say) -> dict[str, Any]:
    """`rl-markets train`, stopped after an iteration, once for each round; `seconds` does not
    matter."""
    found = []
    for turn in range(1, economy.SIZE.rounds + 1):
        with tempfile.TemporaryDirectory() as runs:
            found.append(
                started([sys.executable, "-m", "rl_markets", "train", str(FILE), "--runs", runs])
            )
        say(
            f"round {turn}/{economy.SIZE.rounds}: "
            + ", ".join(f"{n} {x:.4g}" for n, x in found[-1].items())
        )
    return {
        "rows": [absolute(what, [f[name] for f in found], None) for name, what in FIGURES.items()]
    }


def started(command: list[str]) -> dict[str, float]:
    """One run, interrupted after its first iteration; the figures of the process that samples and
    learns.

    Raises:
        RuntimeError: where it ends in another way.
    """
    began = time.perf_counter()
    first = float("nan")
    said = list[str]()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    for text in process.stdout:
        said.append(text)
        if text.startswith(FIRST):
            first = time.perf_counter() - began
            process.send_signal(signal.SIGTERM)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 128 + signal.SIGTERM:
        raise RuntimeError("rl-markets train failed:\n" + "".join(said))
    kibibytes = used.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return {"wall": first, "cpu": used.ru_utime + used.ru_stime, "memory": kibibytes / 1024}
