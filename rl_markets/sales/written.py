"""How a CSV file is written: between columns, before decimals, and its dates; told, or found out.

Nothing is guessed that could be read in two ways; what was found out is said.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rl_markets.errors import CsvError, ExperimentError
from rl_markets.experiment.columns import csv_rows
from rl_markets.say import Say

SEPARATORS = (",", ";", "\t", "|")
NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
DATES = ("%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%Y%m%d")
"""Formats that are recognised, to be suggested."""

_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+(?:[eE][-+]?[0-9]+)?")
_POINT = re.compile(r"[-+]?[0-9]*\.[0-9]+(?:[eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Written:
    """How a file is written; None where the file is to tell.

    Attributes:
        separator: between columns.
        decimal: `.` or `,`, before decimals.
        dates: the format of its dates, as of `datetime.strptime`; None for 2026-01-31.
    """

    separator: str | None = None
    decimal: str | None = None
    dates: str | None = None

    def __post_init__(self) -> None:
        if self.separator is not None and len(self.separator) != 1:
            raise ExperimentError(
                f"--separator {self.separator}: expected one character, or the word tab"
            )
        if self.decimal not in (None, ".", ","):
            raise ExperimentError(f"--decimal {self.decimal}: expected . or ,")
        if self.decimal is not None and self.decimal == self.separator:
            raise ExperimentError(f"--decimal {self.decimal}: is what --separator says, too")
        if self.dates is not None and not _understood(self.dates):
            raise ExperimentError(
                f"--date-format {self.dates}: expected a format of days, such as %d.%m.%Y"
            )

    @property
    def example(self) -> str:
        """A date as the file writes it."""
        return datetime.date(2026, 1, 31).strftime(self.dates or "%Y-%m-%d")

    def date(self, text: str) -> datetime.date | None:
        """The day, or None where it is none."""
        assert self.dates is not None
        try:
            return datetime.datetime.strptime(text, self.dates).date()
        except ValueError:
            return None

    def number(self, text: str) -> str:
        """A number with a point before its decimals, as it is read."""
        if self.decimal != ",":
            return text
        return text.replace(",", ".") if "." not in text else f"{text} (with a point)"


def _understood(dates: str) -> bool:
    """Whether a format tells a day, and back again."""
    day = datetime.date(2026, 1, 31)
    try:
        return datetime.datetime.strptime(day.strftime(dates), dates).date() == day
    except ValueError:
        return False


def found_out(
    path: Path, written: Written, wanted: Sequence[str], numbers: Sequence[str], say: Say
) -> Written:
    """What is left open, from the file.

    Args:
        path: the file.
        written: what is known.
        wanted: names of columns that the header should hold.
        numbers: those of them that hold numbers.
        say: told in a line what was found out.

    Raises:
        ExperimentError: numbers could be read in two ways.
        CsvError: it is no text.
    """
    separator = written.separator or _separator(path, wanted)
    decimal = written.decimal
    if decimal is None:
        decimal = "." if separator == "," else _decimal(path, separator, numbers)
    if written.separator is None and separator != ",":
        between = NAMES.get(separator, repr(separator))
        before = "commas" if decimal == "," else "points"
        say(f"{path.name}: read with {between} between columns and {before} before decimals")
    return Written(separator, decimal, written.dates)


def _separator(path: Path, wanted: Sequence[str]) -> str:
    """The one by which the header has most of the columns that are wanted, then most columns."""

    def found(separator: str) -> tuple[int, int]:
        try:
            _, header = next(csv_rows(path, separator), (0, []))
        except CsvError:
            return (0, 0)
        names = [name.strip() for name in header]
        return len(set(names) & set(wanted)), len(names)

    return max(SEPARATORS, key=found)  # commas, where nothing speaks against them


def _decimal(path: Path, separator: str, numbers: Sequence[str]) -> str:
    """What stands before decimals, in a file whose columns are not separated by commas."""
    first: dict[str, int] = {}
    for line, cell in _cells(path, separator, numbers):
        if _COMMA.fullmatch(cell):
            first.setdefault(",", line)
        elif _POINT.fullmatch(cell):
            first.setdefault(".", line)
    if len(first) == 2:
        raise ExperimentError(
            f"{path.name}: line {first[',']} has a comma in a number, line {first['.']} a point; "
            "say by --decimal which of them stands before decimals"
        )
    return next(iter(first), ".")


def _cells(path: Path, separator: str, names: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Line and text of each cell of some columns."""
    rows = csv_rows(path, separator)
    _, header = next(rows, (0, []))
    places = [i for i, name in enumerate(header) if name.strip() in names]
    for line, row in rows:
        for place in places:
            if place < len(row):
                yield line, row[place].strip()


def formats_of(text: str) -> list[str]:
    """The formats in which a text could be a day."""
    return [
        dates for dates in DATES if len(text) <= 10 and Written(dates=dates).date(text) is not None
    ]
