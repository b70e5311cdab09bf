"""A run that goes wrong says so while it runs: each thing once, with what to change."""

from __future__ import annotations

import math

import pytest

from rl_markets.experiment import parse
from rl_markets.training.watch import LOOKS, WINDOW, Watch
from tests.support.running import tiny


def watch() -> Watch:
    data = tiny()
    data["training"]["agent_steps"] *= 1000
    return Watch(parse(data, "test"))


def rows(name: str, values: list[float], distance: float = math.nan) -> list[dict[str, float]]:
    return [
        {"iteration": i, "distance": distance, name: value} for i, value in enumerate(values, 1)
    ]


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("household/value_explained", [-2.3] * WINDOW, "raise critic_learning_rate"),
        ("household/critic_explained", [-0.1] * WINDOW, "critic_steps"),
        ("household/saturated", [0.9] * WINDOW, "at a bound"),
        ("household/entropy", [2.8, *[-9.0] * WINDOW], "entropy collapsed"),
        ("household/entropy", [2.2, *[0.001] * WINDOW], "entropy collapsed"),
        ("household/value_explained", [0.4] * 3 * WINDOW, None),
        ("household/value_explained", [-2.3] * (WINDOW - 1), None),
        ("household/entropy", [2.8, *[-0.4] * WINDOW], None),
        ("household/saturated", [0.1] * WINDOW, None),
    ],
)
def test_a_metric_that_is_wrong_is_named_once(
    name: str, values: list[float], said: str | None
) -> None:
    watching = watch()
    repeated = values if said is None else values * 2
    lines = [line for row in rows(name, repeated) for line in watching.look(row)]
    if said is None:
        assert lines == []
        return
    (line,) = lines
    assert said in line
    assert "policy household" in line


def test_a_distance_that_rises_for_good_is_named() -> None:
    watching = watch()
    distances = [9.0, 4.0, 2.0, *[8.0] * LOOKS]
    looked = [{"iteration": i, "distance": d} for i, d in enumerate(distances, 1)]
    lines = [line for row in looked for line in watching.look(row)]
    assert len(lines) == 1
    assert "rose from 2 % to 8 %" in lines[0]


def test_a_distance_that_swings_back_is_not() -> None:
    watching = watch()
    distances = [9.0, 2.0, 8.0, 8.0, 2.1] * 3
    looked = [{"iteration": i, "distance": d} for i, d in enumerate(distances, 1)]
    assert [line for row in looked for line in watching.look(row)] == []
