"""The program as a person runs it: train, kill it in every way, resume, damage its files."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from rl_markets.training.metrics_log import read_rows
from rl_markets.training.run_folder import RunFolder
from tests.support.running import command, tiny

ITERATIONS = 60


@pytest.fixture
def experiment_file(tmp_path: Path) -> Path:
    """Sixty short iterations with a checkpoint every five."""
    data = tiny(
        training={
            "agent_steps": 4 * 8 * 3 * ITERATIONS,
            "checkpoint_every": 5,
            "keep_checkpoints": 4,
        }
    )
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def start(file: Path, runs: Path) -> subprocess.Popen[str]:
    """`rl-markets train` in the background."""
    line = [sys.executable, "-m", "rl_markets", "train", str(file), "--runs", str(runs)]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def wait_for_checkpoint(runs: Path, process: subprocess.Popen[str], iteration: int) -> RunFolder:
    """Waits until the run has written the checkpoint of `iteration`."""
    until = time.monotonic() + 200
    while time.monotonic() < until:
        assert process.poll() is None, process.communicate()[0]
        if (runs / "latest" / "checkpoints" / f"{iteration:08d}").is_dir():
            return RunFolder.open(runs / "latest")
        time.sleep(0.02)
    raise AssertionError("no checkpoint in time")


def weights(run: RunFolder) -> bytes:
    return (run.policy / "household.safetensors").read_bytes()


@pytest.mark.timeout(900)
def test_killed_damaged_and_resumed_ends_as_if_nothing_had_happened(
    experiment_file: Path, tmp_path: Path
) -> None:
    """`kill -9` in mid-training, then a flipped bit in the newest checkpoint.

    The one before is used and it is said.
    """
    whole = command("train", experiment_file, "--runs", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    expected = RunFolder.open(tmp_path / "whole" / "latest")
    process = start(experiment_file, tmp_path / "killed")
    run = wait_for_checkpoint(tmp_path / "killed", process, 15)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not run.certificate.exists()
    newest = run.checkpoints.iterations()[-1]
    damaged = next(run.checkpoints.path(newest).rglob("module_state.pkl"))
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    resumed = command("resume", run.path)
    assert resumed.returncode == 0, resumed.stderr
    assert f"checkpoint {newest:08d} refused" in resumed.stdout
    assert damaged.name in resumed.stdout
    assert f"resuming {run.path} after iteration {newest - 5}" in resumed.stdout
    assert weights(run) == weights(expected)
    assert [r["env_steps"] for r in read_rows(run)] == [r["env_steps"] for r in read_rows(expected)]
    losses, known = (
        [row["household/policy_loss"] for row in read_rows(x)] for x in (run, expected)
    )
    assert losses == known
    again = command("resume", run.path)
    assert again.returncode == 0
    assert "finished already" in again.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_a_checkpoint(
    experiment_file: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start(experiment_file, tmp_path / "runs")
    run = wait_for_checkpoint(tmp_path / "runs", process, 5)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == code, output
    last = read_rows(run)[-1]["iteration"]
    assert run.checkpoints.iterations()[-1] == last
    assert f"{number.name} at iteration {last}: checkpoint written" in output
    assert "Traceback" not in output


def test_every_checkpoint_damaged_is_an_error_that_names_them(
    experiment_file: Path, tmp_path: Path
) -> None:
    process = start(experiment_file, tmp_path / "runs")
    run = wait_for_checkpoint(tmp_path / "runs", process, 5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for iteration in run.checkpoints.iterations():
        (run.checkpoints.path(iteration) / "run.json").unlink()
    failed = command("resume", run.path)
    assert failed.returncode == 1
    assert "run.json: missing" in failed.stdout
    assert "no checkpoint is whole" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["resume", "nowhere"], "nowhere: holds no run"),
        (["evaluate", "nowhere"], "nowhere: holds no run"),
        (["report", "nowhere"], "nowhere: holds no run"),
        (["train", "nowhere.yaml"], "nowhere.yaml: no such file"),
    ],
)
def test_a_wrong_path_is_one_line(arguments: list[str], expected: str, tmp_path: Path) -> None:
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


def test_markets_and_learners_are_listed() -> None:
    done = command("markets")
    assert done.returncode == 0
    assert "households" in done.stdout
    assert "ppo" in done.stdout


BROKEN = """
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.spec import MarketSpec

class Strike(Households):
    steps = 0
    def transition(self, state, actions, noise):
        Strike.steps += 1
        if Strike.steps > 10:
            raise ArithmeticError("nobody came to work")
        return super().transition(state, actions, noise)

SPEC = MarketSpec(
    "strike", "a market that breaks", HouseholdsParameters, "strike:Strike",
    lambda parameters: {"households": parameters.households}, "beta", global_state=True,
)
"""


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody else's package, installed beside ours.

    Its market is found by its entry point.
    """
    site = tmp_path / "site"
    info = site / "strike-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "strike.py").write_text(BROKEN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strike\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[rl_markets.markets]\nstrike = strike:SPEC\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    return site


@pytest.mark.parametrize("runners", [0, 1])
def test_somebody_elses_market_is_found_and_its_failure_shown(
    third_party: Path, tmp_path: Path, runners: int
) -> None:
    """In this process or in an actor: the market's own traceback, exit code 1."""
    data = tiny(market={"name": "strike"}, training={"runners": runners})
    file = tmp_path / "strike.yaml"
    file.write_text(yaml.safe_dump(data))
    assert "strike" in command("markets").stdout
    assert command("check", file).returncode == 0
    failed = command("train", file, "--runs", tmp_path / "runs")
    assert failed.returncode == 1
    assert 'raise ArithmeticError("nobody came to work")' in failed.stderr
    assert "ArithmeticError: nobody came to work" in failed.stderr.splitlines()[-1]
    assert re.search("iteration [0-9]+ failed|the market is broken", failed.stderr.splitlines()[-1])
