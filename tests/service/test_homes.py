"""Whatever home a run finds, it works or one line says what to set; it leaves nothing behind, and
nobody else can reach it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rl_markets.experiment.yaml_file import dump_yaml
from rl_markets.rllib import temporary
from tests.support.running import ROOT, command, tiny

pytestmark = pytest.mark.slow

LISTENS = "0A"
"""State of a socket in /proc/net/tcp."""
LOOPBACK = re.compile(r"0100007F|0{24}0100007F|0000000000000000FFFF00000100007F")
"""127.0.0.1, or ::1, as /proc/net writes them."""

LISTENING = """
import os, re
from pathlib import Path
from rl_markets.quiet import quiet_ray
quiet_ray()
from rl_markets.experiment import load
from rl_markets.rllib.session import ray_session
import ray
with ray_session(load({file!r})):
    ray.get(ray.remote(lambda: 0).remote())
    ours = set()
    for fd in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            marked = b"RL_MARKETS_MARK=" in (fd.parents[1] / "environ").read_bytes()
            link = os.readlink(fd) if marked else ""
        except OSError:
            continue
        ours |= set(re.findall(r"socket:.([0-9]+).", link))
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            cells = line.split()
            if cells[9] in ours:
                print(cells[3], cells[1])
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("tmp", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "e.yaml").write_text(dump_yaml(tiny()))
    return tmp_path


def left_by(process: int) -> list[Path]:
    """Temporary folders of a process."""
    return [
        path
        for base in (Path("/tmp"), Path(os.environ["TMPDIR"]))
        for path in base.glob(f"{temporary.PREFIX}{process}-*")
    ]


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux tells who listens")
def test_what_listens_does_so_for_this_machine_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RL_MARKETS_MARK", "1")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code = LISTENING.format(file=str(folder / "e.yaml"))
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    sockets = [text.split() for text in done.stdout.splitlines()]
    listening = [address for state, address in sockets if state == LISTENS]
    assert len(listening) >= 3, "GCS, raylet and a worker"
    for address in listening:
        assert LOOPBACK.fullmatch(address.partition(":")[0]), address
    assert not (folder / "home" / ".ray").exists(), "the token is the session's own"


def test_odd_homes_do_no_harm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No home, temporary files far down, ASCII, and a folder that looks like markup."""
    deep = folder / ("x" * 180)
    deep.mkdir()
    runs = folder / "[b] ü"
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setenv("TMPDIR", str(deep))
    for name, value in {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}.items():
        monkeypatch.setenv(name, value)
    done = command("train", folder / "e.yaml", "--runs", runs, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "[b] \\xfc/tiny/" in done.stdout
    assert done.stdout.isascii()
    assert not list(deep.glob(f"{temporary.PREFIX}*"))
    again = command("report", runs / "latest", cwd=folder)
    assert (again.returncode, again.stderr) == (0, "")


def test_no_place_for_ray_is_told_in_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(folder / ("x" * 180)))
    done = command("train", folder / "e.yaml", cwd=folder)
    assert done.returncode == 1
    assert "set RAY_TMPDIR to a writable folder with a short path" in done.stderr.splitlines()[-1]
    assert not (folder / "runs").exists()


def test_what_a_killed_run_leaves_goes_at_the_next_start(folder: Path) -> None:
    steps = {"agent_steps": 10**9, "checkpoint_every": 10**6}
    (folder / "long.yaml").write_text(dump_yaml(tiny(training=steps)))
    line = [sys.executable, "-m", "rl_markets", "train", "long.yaml"]
    process = subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for text in process.stdout:
        if text.startswith("iteration "):  # both folders are there by now
            break
    assert len(left_by(process.pid)) == 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(left_by(process.pid)) == 2
    done = command("train", folder / "e.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert not left_by(process.pid)


def test_sweeping_takes_nothing_else(tmp_path: Path) -> None:
    mine = temporary.new_folder(tmp_path)
    others = [tmp_path / "rl-markets-x-1", tmp_path / "rl-markets-notes", tmp_path / "other-1-2"]
    gone = tmp_path / f"{temporary.PREFIX}{2**30}-abc"
    for path in (*others, gone):
        path.mkdir()
    file = tmp_path / f"{temporary.PREFIX}{2**30}-file"
    file.touch()
    temporary.sweep(tmp_path)
    assert mine.is_dir()
    assert all(path.is_dir() for path in others)
    assert file.exists()
    assert not gone.exists()
