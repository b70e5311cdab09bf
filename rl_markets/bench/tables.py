"""Figures as tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from rl_markets.bench.rounds import Row, met
from rl_markets.progress import short

WIDTH = 120
"""Where the output is not a terminal."""


def wide(out: Console) -> Console:
    """A console on which tables fit."""
    if not out.is_terminal:
        out.width = WIDTH
    return out


def show(out: Console, title: str, found: dict[str, Any]) -> None:
    """A measurement's rows as a table, and its notes below."""
    if found["rows"]:
        table = Table(
            "", "ours", "theirs", "", "ratio", "lowest to highest", "target", title=title, title_justify="left"
        )
        for row in found["rows"]:
            table.add_row(*_cells(row))
        out.print(table)
    for note in found.get("notes", ()):
        out.print(note, highlight=False)


def _cells(row: Row) -> list[str]:
    figure, theirs = short if row["ratio"] is None else _times, row["theirs"]
    return [
        row["what"],
        short(row["ours"]),
        "" if theirs is None else short(theirs),
        row["against"] or "",
        "" if row["ratio"] is None else _times(row["ratio"]),
        f"{figure(row['lowest'])} to {figure(row['highest'])}",
        _target(row, figure),
    ]


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 30 else f"{ratio:.2f}x"


def _target(row: Row, figure: Any) -> str:
    reached = met(row)
    if reached is None:
        return ""
    return f"{'>=' if row['at_least'] else '<='} {figure(row['target'])} {'met' if reached else 'missed'}"
