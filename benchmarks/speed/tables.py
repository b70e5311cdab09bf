"""Measurements as tables on the terminal."""

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


def show(out: Console, title: str, result: dict[str, Any]) -> None:
    """A measurement's rows as a table, and its notes below."""
    rows = [_cells(row) for row in result["rows"]]
    if rows:
        table = Table(title=title, title_justify="left")
        headings = max(rows, key=len)  # a row of ours alone has some of them
        for name in headings:
            table.add_column(name)
        for cells in rows:
            table.add_row(*(cells.get(name, "") for name in headings))
        out.print(table)
    for note in result.get("notes", ()):
        out.print(note, highlight=False)


def _cells(row: Row) -> dict[str, str]:
    """Heading -> text; a value of ours alone has fewer."""
    cells = {"": row["what"], "ours": short(row["ours"])}
    text: Callable[[float], str] = short
    if row["ratio"] is not None:
        # range and target are those of the ratio, where there is one
        text = _times
        cells["theirs"] = short(row["theirs"])
        cells["beside"] = row["against"]
        cells["ratio"] = _times(row["ratio"])
    cells["lowest to highest"] = f"{text(row['lowest'])} to {text(row['highest'])}"
    cells["target"] = _target(row, text)
    return cells


def _times(ratio: float) -> str:
    return f"{ratio:.0f}x" if ratio >= 30 else f"{ratio:.2f}x"


def _target(row: Row, text: Callable[[float], str]) -> str:
    reached = met(row)
    if reached is None:
        return ""
    bound = ">=" if row["at_least"] else "<="
    return f"{bound} {text(row['target'])} {'met' if reached else 'missed'}"
