"""CSV files that hold no list: refused in one line that names file and line."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rl_markets.experiment import columns, load, parse
from rl_markets.experiment.columns import read_column
from rl_markets.experiment.yaml_file import dump_yaml
from tests.support.columns import FIELD, KAPPA, TYPES, with_parameters
from tests.support.experiment_files import EXAMPLE, content, refusal

REFUSED: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "empty": (b"", {}, "FILE: is empty, expected a header line"),
    "only-comments": (b"# soon\n\n", {}, "FILE: is empty, expected a header line"),
    "only-a-header": (
        b"# x\nkappa\n\n",
        {},
        "FILE, line 2: is only a header, expected rows of numbers",
    ),
    "no-header": (
        b"0.98\n1.0\n",
        {},
        "FILE, line 1: '0.98': expected a header line, not yet a number",
    ),
    "not-utf8": (
        b"kappa\n1\n# f\xfcr\n",
        {},
        "FILE, line 3: cannot be read as text, expected UTF-8",
    ),
    "utf16": (
        "kappa\n1\n".encode("utf-16"),
        {},
        "FILE, line 1: cannot be read as text, expected UTF-8",
    ),
    "which-column": (
        b"#\nid,kappa\n1,2\n",
        {},
        "FILE, line 2: 2 columns, expected `column` to name one of: id, kappa",
    ),
    "misspelt-column": (
        b"id,kappa\n1,2\n",
        {"column": "kapa"},
        "FILE, line 1: no column 'kapa' (did you mean 'kappa'?); expected one of: id, kappa",
    ),
    "unknown-column": (
        b"id,kappa\n1,2\n",
        {"column": "q"},
        "FILE, line 1: no column 'q'; expected one of: id, kappa",
    ),
    "semicolons": (
        b"id;kappa\n1;2\n",
        {"column": "kappa"},
        "no column 'kappa' (did you mean 'id;kappa'?)",
    ),
    "column-twice": (
        b"k,k\n1,2\n",
        {"column": "k"},
        "FILE, line 1: 2 columns are called 'k', expected one",
    ),
    "many-columns": (
        b",".join([b"name"] * 999) + b"\n",
        {},
        "999 columns, expected `column` to name one of: name,",
    ),
    "text": (b"kappa\n1\n\nx\n", {}, "FILE, line 4: 'x': expected a finite number"),
    "missing-cell": (
        b"id,kappa\n1,2\n3,\n",
        {"column": "kappa"},
        "FILE, line 3: '': expected a finite number",
    ),
    "quoted-nothing": (b'kappa\n1\n""\n', {}, "FILE, line 3: '': expected a finite number"),
    "nan": (b"kappa\nnan\n", {}, "FILE, line 2: 'nan': expected a finite number"),
    "infinite": (b"kappa\n1\n-inf\n", {}, "FILE, line 3: '-inf': expected a finite number"),
    "too-large": (b"kappa\n1e999\n", {}, "FILE, line 2: '1e999': expected a finite number"),
    "thousand-digits": (b"kappa\n" + b"9" * 5000, {}, "FILE, line 2: '999999"),
    "underscore": (b"kappa\n1_000\n", {}, "FILE, line 2: '1_000': expected a finite number"),
    "other-digits": ("kappa\n١\n".encode(), {}, "FILE, line 2: '١': expected a finite number"),
    "zero-byte": (b"kappa\n1\0\n", {}, "FILE, line 2: '1\\x00': expected a finite number"),
    "decimal-comma": (
        b"kappa\n0,98\n",
        {},
        "FILE, line 2: row of 2, expected 1 cells as in the header",
    ),
    "few-cells": (
        b"id,kappa\n1,2\n#\n3\n",
        {"column": "id"},
        "FILE, line 4: row of 1, expected 2 cells as in the header",
    ),
    "line-of-a-long-row": (
        b'id,k\n"a\nb",1\n"c\nd",x\n',
        {"column": "k"},
        "FILE, line 4: 'x': expected a finite",
    ),
    "open-quote": (b'kappa\n1\n"2\n3\n', {}, "FILE, line 3: not CSV: unexpected end of data"),
    "stray-quote": (b'kappa\n"1"2\n', {}, "FILE, line 2: not CSV: ',' expected after '\"'"),
    "long-cell": (
        b"kappa\n" + b"x" * 200_000,
        {},
        "FILE, line 2: not CSV: field larger than field limit",
    ),
    "market-minds": (b"kappa\n1\n-1\n", {}, "FIELD.1 = -1: expected >= 0"),
    "too-many-types": (b"kappa\n1\n2\n3\n", {}, "FIELD: 3 types do not divide 20 households"),
    "misspelt-key": (
        b"kappa\n1\n",
        {"colum": "kappa"},
        "FIELD.colum: unknown field (did you mean 'column'?)",
    ),
    "unknown-key": (
        b"kappa\n1\n",
        {"q": 1},
        "FIELD.q: unknown field (expected one of: column, file)",
    ),
    "file-number": (b"", {"file": 3}, "FIELD.file = 3: expected text"),
    "file-null": (b"", {"file": None}, "FIELD.file = None: expected text"),
    "column-number": (b"1\n2\n", {"column": 1}, "FIELD.column = 1: expected text"),
    "file-infinite": (b"", {"file": math.inf}, "FIELD.file = inf: expected a finite number"),
    "no-file": (b"", {"file": "none.csv"}, "/none.csv: no such file"),
    "two-lines": (b"", {"file": "a\nb.csv"}, "/a\\nb.csv: no such file"),
    "folder": (b"", {"file": "."}, ": is a folder, expected a CSV file"),
    "no-name": (b"", {"file": ""}, ": is a folder, expected a CSV file"),
    "device": (b"", {"file": "/dev/zero"}, "/dev/zero: is a device or pipe, expected a CSV file"),
    "below-a-file": (b"", {"file": "types.csv/a"}, "types.csv/a: cannot be read as text: "),
    "long-name": (b"", {"file": "a" * 300}, ": cannot be read as text: "),
    "zero-in-name": (b"", {"file": "a\0b"}, ": cannot be read as text: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_mutation_is_refused_in_one_line(case: str, folder: Path) -> None:
    text, changes, expected = REFUSED[case]
    (folder / "types.csv").write_bytes(text)
    path = with_parameters(folder, capital_productivity={"file": "types.csv", **changes})
    message = refusal(lambda: load(path), f"{path}: {FIELD}")
    file = f"{FIELD}: {folder / 'types.csv'}"
    assert expected.replace("FIELD", FIELD).replace("FILE", file) in message
    assert len(message) < 800 + 3 * len(str(folder))


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    path = with_parameters(folder, capital_productivity={"file": "pipe.csv"})
    assert "pipe.csv: is a device or pipe" in refusal(lambda: load(path), path)


def test_a_file_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **keywords: Any) -> Any:
        # A file's mode does not stop root, who may run this test.
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    message = r"types\.csv: cannot be read as text: .*Permission denied"
    with pytest.raises(ValueError, match=message):
        read_column(folder / "types.csv", "kappa")


def test_a_mapping_without_a_file_is_no_column(folder: Path) -> None:
    path = with_parameters(folder, capital_productivity={"column": "kappa"})
    assert f"{FIELD} = {{'column': 'kappa'}}: expected a list" in refusal(lambda: load(path), path)


def test_rows_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert columns.MAX_ROWS == 1_000_000
    monkeypatch.setattr(columns, "MAX_ROWS", 4)
    path = with_parameters(folder, capital_productivity={"file": "types.csv", "column": "kappa"})
    assert load(path).market.parameters["capital_productivity"] == KAPPA
    (folder / "types.csv").write_text("#\n" + TYPES + "\n,1,2")
    message = refusal(lambda: load(path), path)
    assert f"{FIELD}: {folder}/types.csv, line 8: expected at most 4 rows" in message


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no-market": ({"market": ...}, "market: missing"),
    "market-text": ({"market": "households"}, "market = 'households': expected a section"),
    "no-name": (
        {"market": {"parameters": {"capital_productivity": {"file": "a"}}}},
        "market.name: missing",
    ),
    "name-list": (
        {"market": {"name": ["a"], "parameters": {"x": {"file": "a"}}}},
        "market.name = ['a']: expected text",
    ),
    "name-unknown": (
        {"market": {"name": "household", "parameters": {}}},
        "(did you mean 'households'?)",
    ),
    "parameters-list": (
        {"market": {"name": "households", "parameters": [1]}},
        "market.parameters = [1]: expected a",
    ),
    "parameters-file": (
        {"market": {"name": "households", "parameters": {"file": "types.csv"}}},
        "market.parameters.file: unknown field",
    ),
    "unknown-parameter": (
        {"market": {"name": "households", "parameters": {"q": {"file": "types.csv"}}}},
        "market.parameters.q: unknown field",
    ),
    "no-list": (
        {"market": {"name": "households", "parameters": {"alpha": {"file": "types.csv"}}}},
        "market.parameters.alpha = {'file': 'types.csv'}: expected a number",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_experiment_is_told_as_without_columns(case: str, folder: Path) -> None:
    changes, expected = BROKEN[case]
    data = {k: v for k, v in (content(EXAMPLE) | changes).items() if v is not ...}
    (folder / "broken.yaml").write_text(dump_yaml(data), encoding="utf-8")
    assert expected in refusal(lambda: load(folder / "broken.yaml"), folder)


def test_plain_data_reads_no_files(folder: Path) -> None:
    data = content(EXAMPLE)
    data["market"]["parameters"]["capital_productivity"] = {
        "file": str(folder / "types.csv"),
        "column": "kappa",
    }
    assert f"{FIELD} = {{'file': " in refusal(lambda: parse(data, "here"), "here: ")


PIECES = [
    "k",
    "1",
    ".5",
    "-",
    "e9",
    ",",
    '"',
    "\n",
    "\r",
    "#",
    " ",
    "\0",
    "nan",
    "\u2028",
    "é",
    "\ufeff",
]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=12).map(lambda pieces: "".join(pieces).encode())
    | st.binary(max_size=20)
)
@example(b"k\n" + b"1" * 19)
def test_any_bytes_are_finite_numbers_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(text)
    result = outcome(file)
    if isinstance(result, str):
        assert result.startswith(str(file))
    else:
        assert result
        assert all(
            math.isfinite(x) and (isinstance(x, float) or x.bit_length() < 64) for x in result
        )


def outcome(file: Path) -> list[int | float] | str:
    """The numbers of a file's only column, or the line with which it is refused."""
    try:
        return read_column(file, None)
    except ValueError as error:
        return str(error)
