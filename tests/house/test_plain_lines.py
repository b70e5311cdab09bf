"""How plain the code is must not get worse: counts that were brought down once stay down."""

from __future__ import annotations

import pytest

from tests.house.measure import FLOORS, counts, measured
from tests.support.source import ROOT

MOST = {
    "lines over 100": 0,
    "parameters as text": 0,
    "tuple assignments": 0,
}
"""The most that a floor may have."""

SKIPS = 20
"""`fmt: skip` in the whole tree: tables of numbers only."""


@pytest.mark.parametrize("floor", ["envs", "policies", "rl_markets"])
@pytest.mark.parametrize("name", MOST)
def test_a_floor_stays_plain(floor: str, name: str) -> None:
    assert measured(ROOT, floor)[name] <= MOST[name]


def test_the_formatter_is_obeyed() -> None:
    assert sum(measured(ROOT, floor)["fmt: skip"] for floor in FLOORS) <= SKIPS


def test_functions_and_files_stay_readable() -> None:
    """Shipped functions over 60 lines, and files over 500, are split by meaning."""
    for floor in ("envs", "policies", "rl_markets"):
        found = measured(ROOT, floor)
        assert found["longest function"] <= 60, floor
        assert found["longest file"] <= 500, floor


def test_the_counts_count() -> None:
    text = "\n".join(
        [
            "a, b = 1, 2",
            "x = p['clip']  # fmt: " + "skip",
            "y = 1  # " + "long " * 30,
            "def f(z: Any) -> int:  # type: " + "ignore",
            "    return z",
        ]
    )
    found = counts(text)
    assert found["tuple assignments"] == 1
    assert found["parameters as text"] == 1
    assert found["fmt: skip"] == found["lines over 100"] == found["type: ignore"] == 1
    assert found["Any"] == 1
