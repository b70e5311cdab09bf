"""A run has one writer: a second process is refused in one line, a dead one's lock taken over."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rl_markets.errors import ExperimentError
from rl_markets.lock import LOCK, only_writer
from tests.support.running import command, tiny

HOLDS = """
import sys, time
from pathlib import Path
from rl_markets.lock import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """A process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_writer_is_refused_and_a_killed_one_forgotten(tmp_path: Path) -> None:
    process = holder(tmp_path)
    expected = f"process {process.pid} on {socket.gethostname()} .* writes it"
    with pytest.raises(ExperimentError, match=expected), only_writer(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with only_writer(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    with only_writer(tmp_path):
        pass


def test_a_writer_that_fails_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), only_writer(tmp_path):
        raise ZeroDivisionError
    with only_writer(tmp_path):
        pass


@pytest.mark.parametrize("alive", [True, False])
def test_without_locks_the_text_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    def unsupported(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    process = holder(tmp_path)
    if not alive:
        process.kill()
        process.wait()
    monkeypatch.setattr(fcntl, "flock", unsupported)
    if alive:
        with pytest.raises(ExperimentError, match="writes it"), only_writer(tmp_path):
            pass
        process.kill()
        process.wait()
    with only_writer(tmp_path):
        pass


@pytest.mark.parametrize("what", ["resume", "evaluate", "report"])
def test_commands_leave_a_run_alone_that_another_writes(tmp_path: Path, what: str) -> None:
    """Two processes used to write one run, rows and checkpoints of both, and exit as if fine."""
    run = tmp_path / "run"
    (run / "policy").mkdir(parents=True)
    (run / "experiment.yaml").write_text(yaml.safe_dump(tiny()))
    (run / "certificate.json").write_text("{}")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    process = holder(run)
    done = command(what, str(run), cwd=tmp_path)
    process.kill()
    process.wait()
    assert done.returncode == 2, done.stderr
    assert f"process {process.pid} on" in done.stderr
    assert done.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in before} == before
