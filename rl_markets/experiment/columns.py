"""A market's lists from files.

`{file: types.csv, column: kappa}` stands for the numbers in the column of a CSV file. It is read
once, when the experiment file is: the experiment holds the numbers and needs the CSV file no more.
"""

from __future__ import annotations

import csv
import difflib
import math
import re
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rl_markets.envs.registry import MARKETS, did_you_mean, find
from rl_markets.errors import CsvError, ExperimentError, FieldError
from rl_markets.experiment.validation import first_line, plain, validate

MAX_ROWS = 1_000_000
"""Of a CSV file; as many as a market may have households."""

_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")
_SCALARS = (int, float, str, bool, type(None))


class Column(BaseModel):
    """In the place of a list of numbers: the column of a CSV file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    file: str = Field(description="path of the CSV file, relative to the experiment file's folder")
    column: str | None = Field(
        None, description="the column's name; null where the file has only one"
    )


def with_columns(data: dict[str, Any], source: str | Path) -> dict[str, Any]:
    """An experiment's `data` with the lists that its market's parameters leave to files.

    Args:
        data: what the experiment file holds, right or wrong; what is wrong otherwise stays for
            `parse` to say.
        source: the experiment file, in whose folder relative paths start.

    Raises:
        ExperimentError: one line: source, field, CSV file, its line, what was found, what is
            expected.
    """
    market = data.get("market")
    if not isinstance(market, dict) or not isinstance(market.get("parameters"), dict):
        return data
    try:
        model = find(MARKETS, str(market.get("name"))).parameters
    except LookupError:
        return data
    try:
        parameters = plain(market["parameters"], "market.parameters")
        parameters = _section(model, parameters, "market.parameters", Path(source).parent)
    except FieldError as error:
        raise ExperimentError(f"{source}: {error}") from None
    return data | {"market": market | {"parameters": parameters}}


# -- which values are columns ----------------------------------------------------------------------


def _section(
    model: type[BaseModel], values: dict[str, Any], path: str, folder: Path
) -> dict[str, Any]:
    """The values of a model, and of the models in it, with columns read."""
    annotations: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        for key in (name, field.validation_alias):
            if isinstance(key, str):
                annotations[key] = field.annotation
    return {
        key: _value(annotations.get(key), value, f"{path}.{key}", folder)
        for key, value in values.items()
    }


def _value(annotation: Any, value: Any, path: str, folder: Path) -> Any:
    """The value of a field, with columns read; what is wrong with it stays as it is."""
    if not isinstance(value, dict):
        return value
    members = _members(annotation)
    if "file" in value and _wants_a_list(members):
        return _numbers(value, path, folder)
    models = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
    return _section(models[0], value, path, folder) if len(models) == 1 else value


def _members(annotation: Any) -> list[Any]:
    """The types that an annotation allows, without what is annotated to them."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return _members(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return [member for argument in arguments for member in _members(argument)]
    return [annotation]


def _wants_a_list(members: list[Any]) -> bool:
    """Whether a list is allowed and no mapping is: what allows a mapping gets it as it stands."""
    kinds = [typing.get_origin(member) or member for member in members]
    lists = [kind for kind in kinds if kind in (list, tuple, Sequence)]
    return bool(lists) and all(kind in (*lists, *_SCALARS, typing.Literal) for kind in kinds)


# -- the files -------------------------------------------------------------------------------------


def _numbers(reference: dict[str, Any], path: str, folder: Path) -> list[int | float]:
    """What a `{file: ..., column: ...}` at `path` stands for."""
    try:
        column = validate(Column, reference)
        return read_column(folder / column.file, column.column)
    except ValidationError as error:
        raise FieldError(first_line(Column, error, prefix=f"{path}.")) from None
    except CsvError as error:
        raise FieldError(f"{path}: {error}") from None


def read_column(file: Path, column: str | None) -> list[int | float]:
    """The numbers of a column, from the top down; whole ones without point or exponent are `int`.

    Args:
        file: CSV with a header line.
        column: its name; None where the file has only one.

    Raises:
        CsvError: one line: file, line, what was found, what is expected.
    """
    numbers: list[int | float] = []
    rows = csv_rows(file)
    line, header = next(rows, (0, []))
    if not header:
        raise CsvError(f"{file}: is empty, expected a header line with the names of its columns")
    index = _index([name.strip() for name in header], column, f"{file}, line {line}")
    for line, row in rows:
        where = f"{file}, line {line}"
        if len(numbers) == MAX_ROWS:
            raise CsvError(f"{where}: expected at most {MAX_ROWS} rows")
        if len(row) != len(header):
            raise CsvError(
                f"{where}: row of {len(row)}, expected {len(header)} cells as in the header"
            )
        numbers.append(_number(row[index].strip(), where))
    if not numbers:
        raise CsvError(f"{file}, line {line}: is only a header, expected rows of numbers below it")
    return numbers


def _index(names: list[str], column: str | None, where: str) -> int:
    """The place of the column among `names`; that of the only one where none is asked for."""
    known = ", ".join(names)
    if len(known) > 200:
        known = known[:197] + "..."
    if column is None:
        if len(names) > 1:
            raise CsvError(
                f"{where}: {len(names)} columns, expected `column` to name one of: {known}"
            )
        if _NUMBER.fullmatch(names[0]):  # no header: the first number would be lost
            raise CsvError(f"{where}: {names[0][:40]!r}: expected a header line, not yet a number")
        return 0
    if column not in names:
        near = did_you_mean(column, difflib.get_close_matches(column, names, n=1))
        raise CsvError(f"{where}: no column {column[:40]!r}{near}; expected one of: {known}")
    if names.count(column) > 1:
        raise CsvError(
            f"{where}: {names.count(column)} columns are called {column[:40]!r}, expected one"
        )
    return names.index(column)


def _number(cell: str, where: str) -> int | float:
    if _WHOLE.fullmatch(cell):
        return int(cell)
    number = float(cell) if _NUMBER.fullmatch(cell) else math.nan
    if not math.isfinite(number):
        raise CsvError(f"{where}: {cell[:40]!r}: expected a finite number")
    return number


def csv_rows(file: Path, separator: str = ",") -> Iterator[tuple[int, list[str]]]:
    """The line on which each row starts, and its cells, separated by `separator`.

    Raises:
        CsvError: one line: file, line, and what is no text or no CSV.
    """
    reader = csv.reader(_lines(file), strict=True, skipinitialspace=True, delimiter=separator)
    while True:
        line = reader.line_num + 1  # before the row is read: in quotes it may go over many lines
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise CsvError(f"{file}, line {line}: not CSV: {error}") from None
        if row:
            yield line, row


def _lines(file: Path) -> Iterator[str]:
    """The lines of a file; comments and blank ones are empty, so that they are still counted."""
    with _open(file) as lines:
        for number, line in enumerate(lines, 1):
            if not line.isascii() and any("\udc80" <= c <= "\udcff" for c in line):
                raise CsvError(f"{file}, line {number}: cannot be read as text, expected UTF-8")
            yield "\n" if line.startswith("#") or not line.strip() else line


def _open(file: Path) -> typing.TextIO:
    """The file as text; bytes that are not UTF-8 become surrogates, which `_lines` refuses."""
    try:
        # Files alone: a pipe could keep us waiting, a device go on for ever.
        if file.is_file() or not file.exists():
            return file.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except FileNotFoundError:
        raise CsvError(f"{file}: no such file") from None
    except (OSError, ValueError) as error:
        raise CsvError(f"{file}: cannot be read as text: {error}") from None
    kind = "folder" if file.is_dir() else "device or pipe"
    raise CsvError(f"{file}: is a {kind}, expected a CSV file")
