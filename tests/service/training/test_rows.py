"""Training as an iterator: in a thread, without console, signals or a folder."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from rl_markets.experiment import parse
from rl_markets.training import metrics
from rl_markets.training.metrics import Row
from rl_markets.training.trainer import Trainer
from tests.support.running import tiny

pytestmark = pytest.mark.usefixtures("ray_once")
TIMED = {"seconds", "agent_steps_per_second"}


def untimed(rows: list[Row]) -> list[Row]:
    """Rows without what depends on the clock."""
    return [
        {n: v for n, v in row.items() if n not in TIMED and not n.endswith("_share")}
        for row in rows
    ]


def in_a_thread(call: Any) -> Any:
    """What `call` returns in a thread that is not the main one, where signals cannot be set."""
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    thread.join()
    assert answers, "the call raised"
    return answers[0]


def trained() -> list[Row]:
    with Trainer(parse(tiny(), "test")) as trainer:
        return list(trainer.rows())


def test_rows_come_in_any_thread_and_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = in_a_thread(trained)
    experiment = parse(tiny(), "test")
    assert len(rows) == experiment.iterations
    assert list(rows[0]) == metrics.columns(experiment)
    assert list(tmp_path.iterdir()) == []
    again = trained()
    assert repr(untimed(again)) == repr(untimed(rows))


def test_rows_go_on_from_a_checkpoint_with_the_same_bytes(tmp_path: Path) -> None:
    """Stopped after two rows, saved, restored elsewhere: the rest is what it would have been."""
    whole = trained()
    with Trainer(parse(tiny(), "test")) as first:
        for row in first.rows():
            if row["iteration"] == 2:
                first.save(tmp_path)
                break
    with Trainer(parse(tiny(), "test")) as second:
        second.restore(tmp_path)
        rest = list(second.rows())
    assert repr(untimed(rest)) == repr(untimed(whole[2:]))


def test_policies_are_those_that_act_now() -> None:
    with Trainer(parse(tiny(), "test")) as trainer:
        assert set(trainer.policies()) == {"households"}
