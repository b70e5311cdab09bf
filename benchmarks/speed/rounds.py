"""How it is measured: per CPU second of this process, sides in turns, medians over the rounds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

OURS = "ours"
STOCK = "RLlib's own"
"""Names of the sides."""

Say = Callable[[str], None]
"""Takes a line of progress."""

Work = Callable[[], int]
"""Does a piece of work, and says how much it was."""

Row = dict[str, Any]
"""A line of a table and of the JSON file; see `compared`, `absolute` and `cost`."""


def rate(work: Work, seconds: float) -> float:
    """Units of `work` for each CPU second of this process."""
    done = 0
    started = time.process_time()
    while (spent := time.process_time() - started) < seconds or not done:
        done += work()
    return done / spent


def fastest(sides: Mapping[int, Work], seconds: float) -> int:
    """Whose work goes fastest, after a piece to warm up."""
    rates = {}
    for name, work in sides.items():
        work()
        rates[name] = rate(work, seconds)
    return max(rates, key=rates.__getitem__)


def in_turns(
    sides: Mapping[str, Work], seconds: float, rounds: int, say: Say
) -> dict[str, list[float]]:
    """The rates of all sides, one for each round; who comes first comes last in the next."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(1, rounds + 1):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            rates[name].append(rate(sides[name], seconds))
        latest = ", ".join(f"{name} {measured[-1]:.4g}/s" for name, measured in rates.items())
        say(f"round {turn}/{rounds}: {latest}")
    return rates


def compared(
    what: str, against: str, ours: list[float], theirs: list[float], target: float | None
) -> Row:
    """Rates of both sides; each round's ratio is of rates measured one after the other."""
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    return {
        "what": what,
        "against": against,
        "ours": median(ours),
        "theirs": median(theirs),
        "ratio": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        "target": target,
        "at_least": True,
    }


def absolute(what: str, ours: list[float], target: float | None, *, at_least: bool = True) -> Row:
    """A value of ours alone."""
    return {
        "what": what,
        "against": None,
        "ours": median(ours),
        "theirs": None,
        "ratio": None,
        "lowest": min(ours),
        "highest": max(ours),
        "target": target,
        "at_least": at_least,
    }


def cost(
    what: str, against: str, ours: list[float], theirs: list[float], target: float | None
) -> Row:
    """CPU microseconds a unit, from rates: the smaller the better."""
    our_cost, their_cost = ([1e6 / r for r in rates] for rates in (ours, theirs))
    return {**compared(what, against, our_cost, their_cost, target), "at_least": False}


def met(row: Row) -> bool | None:
    """Whether a row's value reaches its target; None where it has none."""
    if row["target"] is None:
        return None
    value = row["ours"] if row["ratio"] is None else row["ratio"]
    return bool(value >= row["target"] if row["at_least"] else value <= row["target"])
