"""Figures as tables on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.speed.rounds import Row, met
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
    rows = [_cells(row) for row in found["rows"]]
    if rows:
        table = Table(title=title, title_justify="left")
        headings = max(rows, key=len)
        for name in headings:
            table.add_column(name)
        for cells in rows:
            table.add_row(*(cells.get(name, "") for name in headings))
        out.print(table)
    for note in found.get("notes", ()):
        out.print(note, highlight=False)


def _cells(row: Row) -> dict[str, str]:
    """Heading -> text; a figure of ours alone has fewer."""
    figure: Callable[[float], str] = short
    beside: dict[str, str] = {}
    if row["ratio"] is not None:
        figure = _times
        beside = {
            "theirs": short(row["theirs"]),
            "beside": row["against"],
            "ratio": _times(row["ratio"]),
        }
    spread = f"{figure(row['lowest'])} to {figure(row['highest'])}"
    target = _target(row, figure)
    return (
        {"": row["what"], "ours": short(row["ours"])}
        | beside
        | {"lowest to highest": spread, "target": target}
    )


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 30 else f"{ratio:.2f}x"


def _target(row: Row, figure: Callable[[float], str]) -> str:
    reached = met(row)
    if reached is None:
        return ""
    return (
        f"{'>=' if row['at_least'] else '<='} {figure(row['target'])} "
        f"{'met' if reached else 'missed'}"
    )
