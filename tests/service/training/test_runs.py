"""Run folders and their logs."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl_markets.errors import ExperimentError
from rl_markets.experiment import Experiment, parse
from rl_markets.training import metrics
from rl_markets.training.metrics_log import MetricsLog, read_rows
from rl_markets.training.run_folder import RunFolder

CONTENT = {
    "name": "1e5",
    "summary": "1e-4",
    "market": {"name": "households", "worlds": 4, "parameters": {"households": 3}},
    "policies": {"household": {"groups": ["households"]}},
    "algorithm": {"name": "ppo"},
    "training": {"agent_steps": 10_000},
}


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return parse(CONTENT, "tests")


@pytest.fixture
def run(experiment: Experiment, tmp_path: Path) -> RunFolder:
    return RunFolder.create(experiment, tmp_path / "runs")


def test_run_holds_the_experiment_as_it_ran(run: RunFolder, experiment: Experiment) -> None:
    assert RunFolder.open(run.path).experiment == experiment
    assert run.experiment.digest == experiment.digest
    assert run.checkpoints.keep == experiment.training.keep_checkpoints


def test_run_of_a_larger_machine_opens(tmp_path: Path) -> None:
    training = {"agent_steps": 10**9, "runners": 5000}
    large = parse(CONTENT | {"training": training}, "tests")
    assert RunFolder.create(large, tmp_path).experiment == large


def test_latest_points_to_the_newest_run(
    run: RunFolder, experiment: Experiment, tmp_path: Path
) -> None:
    latest = tmp_path / "runs" / "latest"
    assert RunFolder.open(latest).path == run.path.resolve()
    others = [RunFolder.create(experiment, tmp_path / "runs") for _ in range(3)]
    assert len({run.path, *(other.path for other in others)}) == 4
    assert RunFolder.open(latest).path == others[-1].path.resolve()
    assert not Path(os.readlink(latest)).is_absolute()


def test_a_real_folder_called_latest_is_left_alone(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    RunFolder.create(experiment, tmp_path)
    assert not (tmp_path / "latest").is_symlink()


def test_a_run_never_shares_a_folder(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(self: Path, **_: Any) -> None:
        raise FileExistsError

    monkeypatch.setattr(Path, "mkdir", taken)
    with pytest.raises(FileExistsError, match="exists already"):
        RunFolder.create(experiment, tmp_path)


def test_folder_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("gone")
    for path in (tmp_path, tmp_path / "latest"):
        message = r"holds no run \(expected experiment.yaml in it\)"
        with pytest.raises(ExperimentError, match=message):
            RunFolder.open(path)


def row(experiment: Experiment, iteration: int, **figures: float) -> dict[str, float]:
    """A row of distinct figures."""
    columns = metrics.columns(experiment)
    numbers = {name: iteration + i / 7 for i, name in enumerate(columns)}
    counters = {
        "iteration": iteration,
        "env_steps": 100 * iteration,
        "agent_steps": 300 * iteration,
    }
    return numbers | counters | figures


def logged(run: RunFolder, experiment: Experiment, iterations: range, resume_at: int = 0) -> None:
    log = MetricsLog(run, experiment, resume_at)
    for iteration in iterations:
        log.write(row(experiment, iteration))
    log.close()


def json_rows(run: RunFolder) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_rows_are_read_as_they_were_written(run: RunFolder, experiment: Experiment) -> None:
    assert read_rows(run) == []
    logged(run, experiment, range(1, 4))
    rows = [row(experiment, iteration) for iteration in range(1, 4)]
    assert read_rows(run) == rows
    assert json_rows(run) == rows
    assert isinstance(read_rows(run)[0]["iteration"], int)


def test_resuming_drops_later_rows(run: RunFolder, experiment: Experiment) -> None:
    logged(run, experiment, range(1, 6))
    logged(run, experiment, range(3, 4), resume_at=2)
    rows = [row(experiment, iteration) for iteration in range(1, 4)]
    assert read_rows(run) == rows
    assert json_rows(run) == rows


def test_row_cut_off_anywhere_is_ignored(run: RunFolder, experiment: Experiment) -> None:
    logged(run, experiment, range(1, 3))
    path = run.path / "metrics.csv"
    lines = run.path / "metrics.jsonl"  # written afterwards: the second row never came to it
    lines.write_bytes(lines.read_bytes().splitlines(keepends=True)[0])
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        assert read_rows(run) == [row(experiment, 1)]
    logged(run, experiment, range(2, 4), resume_at=1)
    assert [kept["iteration"] for kept in read_rows(run)] == [1, 2, 3]


@pytest.mark.parametrize(
    "garbage", [b"\0" * 40, b"\0" * 40 + b"\n", b"\xff\xfe\n", b"a,b\n", b"\n\n", b'"', b"3\n"]
)
def test_garbage_at_the_end_is_ignored(
    run: RunFolder, experiment: Experiment, garbage: bytes
) -> None:
    logged(run, experiment, range(1, 3))
    with (run.path / "metrics.csv").open("ab") as file:
        file.write(garbage)
    assert read_rows(run) == [row(experiment, 1), row(experiment, 2)]


@pytest.mark.parametrize("file", ["metrics.csv", "metrics.jsonl"])
def test_a_damaged_row_is_mended_and_said(
    run: RunFolder, experiment: Experiment, file: str
) -> None:
    """Four hundred single bits: rows used to be lost in silence, or to change a number."""
    logged(run, experiment, range(1, 31))
    rows = [row(experiment, iteration) for iteration in range(1, 31)]
    path = run.path / file
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    silent = 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        said: list[str] = []
        assert read_rows(run, said.append) == rows
        silent += not said
    header = len(whole.splitlines()[0])
    allowed = 400 if file == "metrics.jsonl" else 400 * 3 * header / len(whole)
    assert silent <= allowed, "only damage to the names of columns needs no word"
    path.write_bytes(damaged)
    said = []
    MetricsLog(run, experiment, 30, said.append).close()
    assert path.read_bytes() == whole


def test_rows_that_are_lost_in_both_files_are_named(run: RunFolder, experiment: Experiment) -> None:
    logged(run, experiment, range(1, 6))
    for name, kept in (("metrics.csv", [0, 1, 3, 4]), ("metrics.jsonl", [0, 2, 3])):
        lines = (run.path / name).read_text().splitlines(keepends=True)
        (run.path / name).write_text("".join(lines[i] for i in kept))
    said: list[str] = []
    assert [found["iteration"] for found in read_rows(run, said.append)] == [1, 3, 4]
    assert any("iteration 2 lost, and in metrics.jsonl, too" in line for line in said)


def test_what_is_no_number_is_empty_or_null(run: RunFolder, experiment: Experiment) -> None:
    log = MetricsLog(run, experiment)
    log.write(
        row(experiment, 1, distance=math.nan, seconds=math.inf, episode_return=np.float64(0.5))
    )
    log.close()
    with (run.path / "metrics.csv").open(newline="") as file:
        (text,) = csv.DictReader(file)
    assert (text["distance"], text["seconds"], text["episode_return"]) == ("", "inf", "0.5")
    (plain,) = json_rows(run)
    assert (plain["distance"], plain["seconds"], plain["episode_return"]) == (None, None, 0.5)
    (read,) = read_rows(run)
    assert math.isnan(read["distance"])
    assert read["seconds"] == math.inf


def test_column_that_an_older_version_had_not_is_empty(
    run: RunFolder, experiment: Experiment
) -> None:
    (run.path / "metrics.csv").write_text("iteration,env_steps,agent_steps\n1,10,30\n")
    logged(run, experiment, range(2, 3), resume_at=1)
    first, second = read_rows(run)
    assert (first["agent_steps"], second) == (30, row(experiment, 2))
    assert math.isnan(first["distance"])
