"""A user's log as typed columns, from CSV or parquet.

What is wrong with a cell is said in one line that names it.
"""

from __future__ import annotations

import datetime
import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rl_markets.envs.registry import did_you_mean
from rl_markets.errors import CsvError, ExperimentError
from rl_markets.experiment.columns import csv_rows
from rl_markets.sales.written import Written, formats_of, found_out
from rl_markets.say import Say, to_nobody

MAX_ROWS = 2_000_000
PARQUET = (".parquet", ".pq")
LARGEST = 1e15
"""Of a number: whole ones beyond are not exact, and products of larger ones overflow."""

_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Rule:
    """What a column holds.

    Attributes:
        name: how it is called here; the file may call it otherwise.
        kind: `period` is a whole number or an ISO date.
        least, above: smallest number, and whether it is itself excluded.
        most: largest number.
        required: whether the file must have the column; cells of other columns may be empty.
    """

    name: str
    kind: Literal["text", "number", "whole", "period"] = "number"
    least: float = -math.inf
    above: bool = False
    most: float = math.inf
    required: bool = True

    @property
    def expected(self) -> str:
        """In words."""
        if self.kind == "text":
            return "text"
        if self.kind == "period":
            return "a whole number or a date such as 2026-01-31"
        noun = "whole number" if self.kind == "whole" else "number"
        if math.isfinite(self.most):
            return f"a {noun} {'above' if self.above else 'from'} {self.least:g} to {self.most:g}"
        if self.least == 0:
            return f"a positive {noun}" if self.above else f"a {noun} of 0 or more"
        return f"a {noun}" if self.least == -math.inf else f"a {noun} of {self.least:g} or more"

    def parse(self, cell: Any) -> Any:
        """The cell's value, or None where it is not what was expected.

        NaN for an empty cell of a column that may have them.
        """
        text = "" if cell is None else str(cell).strip()
        if self.kind == "text":
            return text or None
        if not text or (isinstance(cell, float) and math.isnan(cell)):
            return None if self.required else math.nan
        if self.kind == "period":
            return _period(cell, text)
        # `float` alone would take `1_000`, `infinity` and digits of other scripts, too.
        number = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not (math.isfinite(number) and self.least <= number <= self.most):
            return None
        if abs(number) > LARGEST:
            return None
        if self.above and number == self.least:
            return None
        if self.kind == "whole":
            return None if number % 1 else int(number)
        return number


def _period(cell: Any, text: str) -> int | datetime.date | None:
    if isinstance(cell, datetime.datetime):
        return cell.date() if cell.time() == datetime.time() else None
    if isinstance(cell, datetime.date):
        return cell
    if re.fullmatch(r"[-+]?[0-9]{1,15}(?:\.0*)?", text):  # as many digits as a float holds
        return int(float(text))
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):  # `fromisoformat` knows weeks, too
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return None


@dataclass(frozen=True, eq=False)
class Table:
    """Typed columns, and where each row stands in the file.

    Attributes:
        source: the file's name.
        columns: a rule's name -> the values, one for each row.
        lines: the number of each row in the file.
        unit: what that number counts: `line`, or `row` of a parquet file.
    """

    source: str
    columns: dict[str, list[Any]]
    lines: list[int]
    unit: str
    written: Written

    def where(self, row: int, column: str | None = None) -> str:
        """`sales.csv line 17, column price`."""
        place = f"{self.source} {self.unit} {self.lines[row]}"
        return f"{place}, column {column}" if column else place


def bad(where: str, actual: Any, expected: str) -> ExperimentError:
    """The error of one cell."""
    text = " ".join(str(actual).split())[:40] or "nothing"
    return ExperimentError(f"{where}: found {text}, expected {expected}")


def read_table(
    path: Path,
    rules: Sequence[Rule],
    named: Mapping[str, str] | None = None,
    written: Written | None = None,
    say: Say = to_nobody,
) -> Table:
    """The columns that the rules ask for; others are not looked at.

    Args:
        path: CSV with a header line, or parquet by its ending.
        rules: the columns.
        named: how the file calls a column, where it is not by the rule's name.
        written: how a CSV file is written, as far as it is known.
        say: told in a line what was found out of that.

    Raises:
        ExperimentError: one line: file, line, column, what was found, what is expected.
    """
    named = dict(named or {})
    known = [rule.name for rule in rules]
    if unknown := [name for name in named if name not in known]:
        raise ExperimentError(
            f"--column {unknown[0]}: unknown column{did_you_mean(unknown[0], known)}"
        )
    is_parquet = path.suffix.lower() in PARQUET
    written = written or Written()
    try:
        if not is_parquet:
            wanted = {named.get(rule.name, rule.name): rule for rule in rules}
            numbers = [name for name, rule in wanted.items() if rule.kind in ("number", "whole")]
            written = found_out(path, written, list(wanted), numbers, say)
        rows = _parquet(path) if is_parquet else _csv(path, written.separator or ",")
        _, header = next(rows)
        used = _used(path.name, [str(name).strip() for name in header], rules, named)
        columns: dict[str, list[Any]] = {rule.name: [] for rule, _ in used}
        table = Table(path.name, columns, [], "row" if is_parquet else "line", written)
        for number, cells in rows:
            table.lines.append(number)  # before its cells are read, so that errors can name it
            _append(table, used, cells, len(header), named)
    except CsvError as error:
        raise ExperimentError(str(error)) from None
    if not table.lines:
        raise ExperimentError(f"{path.name}: only a header, expected rows below it")
    return table


def _append(
    table: Table,
    used: list[tuple[Rule, int]],
    cells: Sequence[Any],
    width: int,
    named: Mapping[str, str],
) -> None:
    """Parses the cells of the table's last line into its columns."""
    row = len(table.lines) - 1
    if row >= MAX_ROWS:
        raise ExperimentError(f"{table.where(row)}: expected at most {MAX_ROWS} rows")
    if len(cells) != width:
        raise bad(table.where(row), f"{len(cells)} cells", f"{width} as in the header")
    for rule, index in used:
        value = rule.parse(_read(cells[index], rule, table.written))
        if value is None:
            cell = "" if cells[index] is None else cells[index]
            where = table.where(row, named.get(rule.name, rule.name))
            raise bad(where, cell, _expected(cell, rule, table.written))
        table.columns[rule.name].append(value)


def _read(cell: Any, rule: Rule, written: Written) -> Any:
    """A cell of a CSV file as if it were written the usual way."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if rule.kind == "period" and written.dates is not None:
        return written.date(text) or "no such date"
    return written.number(text) if rule.kind in ("number", "whole") else cell


def _expected(cell: Any, rule: Rule, written: Written) -> str:
    """What a cell should hold, and how to read what it does hold."""
    text = str(cell).strip()
    if rule.kind == "period":
        if written.dates is not None:
            return f"a date such as {written.example}"
        if formats := formats_of(text):
            return f"{rule.expected}; read its days by --date-format {' or '.join(formats)}"
    if rule.kind in ("number", "whole") and written.decimal != "," and "," in text:
        return f"{rule.expected}; read commas before decimals by --decimal ,"
    return rule.expected + (f" of at most {LARGEST:g}" if _huge(cell) else "")


def _huge(cell: Any) -> bool:
    """Whether it would do, were it smaller."""
    text = str(cell).strip()
    return bool(_NUMBER.fullmatch(text)) and abs(float(text)) > LARGEST


def _used(
    source: str, header: list[str], rules: Sequence[Rule], named: Mapping[str, str]
) -> list[tuple[Rule, int]]:
    """The rules whose columns are there, and where."""
    used = []
    for rule in rules:
        name = named.get(rule.name, rule.name)
        if header.count(name) > 1:
            raise ExperimentError(
                f"{source}: {header.count(name)} columns are called {name!r}, expected one"
            )
        if name in header:
            used.append((rule, header.index(name)))
        elif rule.required or rule.name in named:
            near = difflib.get_close_matches(name, header, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ExperimentError(
                f"{source}: no column {name!r}{hint}; name it by --column {rule.name}=NAME, "
                f"one of: {', '.join(header)[:200]}"
            )
    return used


def _csv(path: Path, separator: str) -> Iterator[tuple[int, Sequence[Any]]]:
    """The header and then the rows, each with the line on which it starts."""
    rows = csv_rows(path, separator)
    first = next(rows, None)
    if first is None:
        raise ExperimentError(
            f"{path}: is empty, expected a header line with the names of its columns"
        )
    yield first
    yield from rows


def _parquet(path: Path) -> Iterator[tuple[int, Sequence[Any]]]:
    """The header, then the rows, counted from 1."""
    try:  # here, since pyarrow is not needed for CSV
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise ExperimentError(
            f"{path}: parquet needs the package pyarrow; or give the log as CSV"
        ) from None
    try:
        file = parquet.ParquetFile(path)
    except FileNotFoundError:
        raise ExperimentError(f"{path}: no such file") from None
    except (OSError, ArrowException) as error:
        problem = str(error).splitlines()[0]
        raise ExperimentError(f"{path}: cannot be read as parquet: {problem}") from None
    yield 0, file.schema_arrow.names
    number = 0
    batches = file.iter_batches()
    while True:
        try:  # whatever is broken, and not only said so by the footer, shows here
            batch = next(batches, None)
            columns = [] if batch is None else [column.to_pylist() for column in batch.columns]
        except (OSError, ArrowException, ValueError, OverflowError) as error:
            problem = (str(error).splitlines() or [""])[0]
            raise ExperimentError(
                f"{path}: cannot be read as parquet after row {number}: {problem}"
            ) from None
        if batch is None:
            return
        for cells in zip(*columns, strict=True):
            number += 1
            yield number, cells
