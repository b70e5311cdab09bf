"""A few attacks of every kind, the same in every run; `make attack` tries thousands."""

from __future__ import annotations

import os
import random
import time

import pytest

from rl_markets.errors import ExperimentError, MarketError
from tests.attack.__main__ import KINDS
from tests.attack.judge import Case, SilentError, judge

FEW = {"experiment files": 60, "markets": 8, "policy folders": 25, "data files": 25, "crashes": 5}


@pytest.mark.parametrize("kind", KINDS)
def test_attacks_are_held(kind: str) -> None:
    cases, _ = KINDS[kind]
    outcomes = [judge(case) for case in cases(random.Random(2026), FEW[kind])]
    assert [outcome for outcome in outcomes if not outcome.held] == []
    assert len(outcomes) == FEW[kind]


def test_the_same_seed_tries_the_same() -> None:
    for cases, _ in KINDS.values():
        one, two = ([c.name for c in cases(random.Random(5), 3)] for _ in range(2))
        assert one == two


def _refused() -> str:
    raise ExperimentError("file: field: what was expected")


def _silent() -> str:
    raise SilentError("wrong")


def _broken() -> str:
    raise KeyError("bug")


def _unexplained() -> str:
    raise MarketError("in its own words")


def _ended() -> str:
    os._exit(0)


def _hanging() -> str:
    time.sleep(60)
    return ""


@pytest.mark.parametrize(
    ("attempt", "verdict", "held"),
    [
        (_refused, "refused", True),
        (str, "accepted", True),
        (_silent, "silent", False),
        (_broken, "traceback", False),
        (_unexplained, "traceback", False),
        (_ended, "died", False),
        (_hanging, "hang", False),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_the_judge_tells_what_holds(attempt, verdict: str, held: bool) -> None:  # type: ignore[no-untyped-def]
    outcome = judge(Case("x", "x", attempt, seconds=1))
    assert (outcome.verdict, outcome.held) == (verdict, held)
