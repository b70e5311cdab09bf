"""A long run: memory stays flat, nothing is left behind, and a user sees our lines alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import pytest
import yaml

from tests.support.running import tiny

MARK = "RL_MARKETS_SOAK"
ITERATIONS = int(os.environ.get("RL_MARKETS_SOAK_ITERATIONS", "1200"))
GROWTH = 8 * 2**20
"""Bytes that the resident set may grow by in the second half.

One leaked rollout an iteration would be twice that.
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "learner", ["ppo", "sac", *(["td3"] if "RL_MARKETS_SOAK_ITERATIONS" in os.environ else [])]
)
def test_a_long_run_leaks_nothing(tmp_path: Path, learner: str) -> None:
    file = tmp_path / "soak.yaml"
    home = tmp_path / "home"
    home.mkdir()
    file.write_text(yaml.safe_dump(_experiment(learner)))
    process = _started(file, home)
    sizes: list[tuple[int, int]] = []
    log = next(iter(_wait_for(tmp_path / "runs", "soak/*/metrics.csv", process)))
    while process.poll() is None:
        sizes.append((log.read_bytes().count(b"\n"), _resident(process.pid)))
        time.sleep(0.25)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert err == ""
    assert not [text for text in out.splitlines() if not _ours(text)]
    training = [(rows, size) for rows, size in sizes if 1 < rows <= ITERATIONS and size]
    early = [size for rows, size in training if 0.4 * ITERATIONS < rows < 0.6 * ITERATIONS]
    late = [size for rows, size in training if rows > 0.8 * ITERATIONS]
    assert len(early) > 3
    assert len(late) > 3
    assert median(late) - median(early) < GROWTH, (median(early), median(late))
    assert not _left_running()
    names = {path.name for path in tmp_path.iterdir()}
    left = {name for name in names if not name.startswith("torchinductor_")}  # torch's own cache
    assert left == {"home", "runs", "soak.yaml"}
    assert not (home / "ray_results").exists()
    checkpoints = list((log.parent / "checkpoints").iterdir())
    assert len(checkpoints) == 3


def _started(file: Path, home: Path) -> subprocess.Popen[str]:
    """Training in a process that carries the run's mark."""
    folder = file.parent
    line = [sys.executable, "-m", "rl_markets", "train", str(file), "--runs", str(folder / "runs")]
    marked = {"HOME": str(home), MARK: str(folder), "TMPDIR": str(folder), "RAY_TMPDIR": "/tmp"}
    return subprocess.Popen(
        line,
        env=os.environ | marked,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


def _experiment(learner: str) -> dict[str, object]:
    """Rollouts of about 15 kB, so that keeping them would show."""
    replaying = {"updates": 1, "batch_size": 32, "capacity": 5000}
    algorithm = {"ppo": {"epochs": 1, "minibatches": 1}, "sac": replaying, "td3": replaying}
    data = tiny(
        training={
            "agent_steps": 4 * 8 * 3 * ITERATIONS,
            "checkpoint_every": 100,
            "evaluate_every": 50,
        }
    )
    return {
        **data,
        "name": "soak",
        "algorithm": {"name": learner, "parameters": algorithm[learner]},
    }


def _wait_for(folder: Path, pattern: str, process: subprocess.Popen[str]) -> list[Path]:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if paths := list(folder.glob(pattern)):
            return paths
        time.sleep(0.1)
    raise AssertionError(f"no {pattern}: {process.communicate()}")


def _resident(pid: int) -> int:
    """Bytes; 0 once it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return 0


def _left_running() -> list[str]:
    """Processes that carry the run's mark, some seconds after its end."""
    for _ in range(40):
        processes = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                marked = f"{MARK}=".encode() in (folder / "environ").read_bytes()
                if marked and int(folder.name) != os.getpid():
                    line = (folder / "cmdline").read_bytes()
                    processes.append(line.replace(b"\0", b" ").decode())
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        if not processes:
            return []
        time.sleep(0.5)
    return processes


def _ours(line: str) -> bool:
    """Whether a line is one of ours: progress, what goes wrong, the certificate, where things are.

    So short a training with so few updates does go wrong.
    """
    starts = (
        r"soak: \d+ iterations into |iteration \d+(/\d+|, policy \w+)?: |certificate|[┏┡│└┃]|"
        r"(Not c|C)ertified|run: |report: "
    )
    return re.match(starts, line) is not None
