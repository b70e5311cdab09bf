"""Whatever breaks, and whenever: one line says what, and no exit code says that all went well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rl_markets.errors import RunFailedError
from rl_markets.experiment.yaml_file import dump_yaml
from rl_markets.training.trainer import explained
from tests.support.fatal import MENDED
from tests.support.running import ROOT, command, tiny

pytestmark = pytest.mark.slow

LATE = 2500
"""Steps of the environment after which training with --smoke is over."""

TRAINING = 1800
"""Steps after which laws have been looked at, in a process of their own."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def write(folder: Path, how: str, after: int, **training: Any) -> Path:
    """An experiment on an environment that breaks."""
    parameters = {"env": "tests.support.fatal:Fatal", "arguments": {"how": how, "after": after}}
    market = {"name": "pettingzoo", "worlds": 4, "parameters": parameters}
    data = tiny(market=market, training=training)
    data["market"] = market
    data["policies"] = {"firm": {"groups": ["agents"], "hidden": [8]}}
    data["certificate"] = {"seeds": 2, "deviation_agent_steps": 20_000}
    path = folder / "e.yaml"
    path.write_text(dump_yaml(data))
    return path


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("exit", "a step called sys.exit(0)"),
        ("_exit", "a step: os._exit(0) was called"),
        ("c-exit", "ended its process with exit code 0 (does it call os._exit?)"),
        ("segfault", "was ended by SIGSEGV"),
        ("interrupt", "KeyboardInterrupt"),
        ("os-error", "ConnectionError: simulator went away"),
        ("nan", "rewards of group 'agents': nan"),
    ],
)
def test_a_market_that_breaks_at_once_starts_no_run(folder: Path, how: str, said: str) -> None:
    done = command("train", write(folder, how, 3), cwd=folder)
    assert done.returncode == 1, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("rl-markets: the market is broken: ")
    assert said in last
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("how", "said"),
    [("_exit", "ExitCalled: os._exit(0) was called"), ("os-error", "ConnectionError: simulator")],
)
def test_what_was_trained_is_safe_whatever_breaks_after_training(
    folder: Path, how: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = command("train", write(folder, how, LATE), cwd=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("rl-markets: the certificate failed (the policy is safe in ")
    assert said in last
    assert "the disk" not in last
    assert (folder / "runs" / "latest" / "policy" / "policy.json").is_file()
    assert not (folder / "runs" / "latest" / "certificate.json").exists()
    monkeypatch.setenv(MENDED, "1")
    again = command("evaluate", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert (folder / "runs" / "latest" / "certificate.json").is_file()


@pytest.mark.parametrize(
    ("runners", "how", "said"),
    [
        (0, "_exit", "a step: os._exit(0) was called"),
        (1, "_exit", "a step: os._exit(0) was called"),
        (1, "interrupt", "KeyboardInterrupt"),
    ],
)
def test_a_market_that_ends_its_process_in_training_ends_in_a_line(
    folder: Path, runners: int, how: str, said: str
) -> None:
    training = {"agent_steps": 2 * 2 * TRAINING, "checkpoint_every": 50, "runners": runners}
    done = command("train", write(folder, how, TRAINING, **training), cwd=folder, timeout=200)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("rl-markets: iteration ")
    assert said in done.stderr.splitlines()[-1]


def test_a_crash_in_training_names_the_line_that_crashed(folder: Path) -> None:
    file = write(folder, "segfault", TRAINING, agent_steps=2 * 2 * TRAINING, checkpoint_every=50)
    done = command("train", file, cwd=folder)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr
    assert 'fatal.py", line ' in done.stderr


def test_a_crash_of_a_runner_is_told_and_costs_a_fragment(folder: Path) -> None:
    training = {"agent_steps": 2 * 2 * TRAINING, "checkpoint_every": 50, "runners": 1}
    done = command("train", write(folder, "segfault", TRAINING, **training), cwd=folder)
    assert "a runner's process died; no step is lost" in done.stdout


def _exits() -> None:
    os._exit(0)


def _interrupts() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("break_off", "said"),
    [
        (sys.exit, "SystemExit"),
        (_exits, "ExitCalled: os._exit(0) was called"),
        (_interrupts, "KeyboardInterrupt"),
        (lambda: next(iter([])), "StopIteration"),
        (lambda: 1 / 0, "ZeroDivisionError: division by zero"),
    ],
    ids=lambda value: getattr(value, "__name__", "said"),
)
def test_whatever_ends_a_phase_is_explained(break_off: Callable[[], Any], said: str) -> None:
    """As on the command line, where Ctrl-C has a handler of its own."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        with pytest.raises(RunFailedError) as failure, explained("the phase failed"):
            break_off()
    finally:
        signal.signal(signal.SIGINT, before)
    assert str(failure.value).startswith(f"the phase failed: {said}")
    assert os._exit.__module__ in ("posix", "nt"), "it is the system's again"


def test_ctrl_c_passes_where_nobody_handles_it() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), explained("the phase failed"):
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)


def ended_while_waiting(file: Path, number: signal.Signals) -> tuple[int, str]:
    """Sends a signal once the environment says that it waits: exit code, and all that was said."""
    line = [sys.executable, "-m", "rl_markets", "train", str(file)]
    process = subprocess.Popen(
        line, cwd=file.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said = []
    for text in process.stdout:
        said.append(text)
        if text == "waiting\n":
            process.send_signal(number)
            break
    said.append(process.communicate(timeout=60)[0])
    return process.returncode, "".join(said)


def test_sigterm_while_it_is_certified_is_told_and_the_policy_is_safe(folder: Path) -> None:
    file = write(folder, "wait", LATE, step_seconds=100)
    code, said = ended_while_waiting(file, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, said
    assert "the policy is safe in" in said
    assert said.splitlines()[-1] == "rl-markets: SIGTERM: ended"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts_is_told(folder: Path, number: signal.Signals) -> None:
    """Steps count from the construction on: the market is still being looked at."""
    code, said = ended_while_waiting(write(folder, "wait", 3, step_seconds=100), number)
    assert code == 128 + number, said
    assert said.splitlines()[-1] == f"rl-markets: {number.name}: ended"


def test_a_cluster_that_does_not_answer_is_told_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    done = command("train", write(folder, "wait", 10**9), cwd=folder, timeout=60)
    assert done.returncode == 1
    assert "RAY_ADDRESS = '127.0.0.1:9': no cluster answers" in done.stderr.splitlines()[-1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_gpus_that_are_not_there_are_not_waited_for(folder: Path) -> None:
    file = write(folder, "wait", 10**9, learners=1, gpus_per_learner=1)
    done = command("train", file, cwd=folder, timeout=100)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "training.gpus_per_learner: 1 learners want 1 GPUs, this machine has" in last
