"""Lists from CSV files: read once, complete in the run, or refused in one line that names file and
line."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from rl_markets.envs import registry
from rl_markets.envs.spec import MarketSpec
from rl_markets.experiment import columns, load, parse
from rl_markets.experiment.columns import read_column
from rl_markets.experiment.yaml_file import dump_yaml, parse_yaml
from rl_markets.training.run_folder import RunFolder
from tests.support.experiment_files import EXAMPLE, content, refusal
from tests.support.running import ROOT

FIELD = "market.parameters.capital_productivity"
KAPPA = [0.92, 0.98, 1, 1.09]
LAMBDA = [1.1, 1, 0.7, 1.2]
TYPES = "id,kappa,lambda\na,0.92,1.1\nb,0.98,1\nc,1,.7\nd,1.09,12e-1\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an experiment of 20 households, and `types.csv` beside it."""
    data = content(EXAMPLE)
    data["market"]["parameters"]["households"] = 20
    (tmp_path / "experiment.yaml").write_text(dump_yaml(data), encoding="utf-8")
    (tmp_path / "types.csv").write_text(TYPES, encoding="utf-8")
    return tmp_path


def with_parameters(folder: Path, **parameters: Any) -> Path:
    """The folder's experiment with some of its market's parameters replaced."""
    data = content(folder / "experiment.yaml")
    data["market"]["parameters"] |= parameters
    (folder / "changed.yaml").write_text(dump_yaml(data), encoding="utf-8")
    return folder / "changed.yaml"


# -- what is read ----------------------------------------------------------------------------------


def test_columns_are_the_same_experiment_as_lists(folder: Path) -> None:
    lists = load(with_parameters(folder, capital_productivity=KAPPA, labour_productivity=LAMBDA))
    columns = (
        {"file": "types.csv", "column": "kappa"},
        {"file": str(folder / "types.csv"), "column": "lambda"},
    )
    found = load(
        with_parameters(folder, capital_productivity=columns[0], labour_productivity=columns[1])
    )
    assert found == lists
    assert found.digest == lists.digest
    assert found.market.parameters["capital_productivity"] == KAPPA


def test_overrides_and_smoke_read_beside_the_experiment_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "elsewhere").mkdir()
    (folder / "one.csv").write_text("kappa\n0.5\n1.5\n")
    overrides = [
        f"{FIELD}={{file: one.csv}}",
        "market.parameters.labour_productivity={file: one.csv, column: null}",
    ]
    monkeypatch.chdir(folder / "elsewhere")
    for path in (folder / "experiment.yaml", Path("..", "experiment.yaml")):
        for smoke in (False, True):
            parameters = load(path, overrides, smoke=smoke).market.parameters
            assert (
                parameters["capital_productivity"]
                == parameters["labour_productivity"]
                == [0.5, 1.5]
            )
    apart = load(folder / "experiment.yaml", [f"{FIELD}.file=types.csv", f"{FIELD}.column=lambda"])
    assert apart.market.parameters["capital_productivity"] == LAMBDA


def test_shared_mappings_and_pairs_are_read_too(folder: Path) -> None:
    (folder / "one.csv").write_text("x\n2\n3.5\n")
    shared = {"file": "one.csv"}
    path = with_parameters(folder, capital_productivity=shared, initial_capital=shared)
    assert "*id001" in path.read_text()
    parameters = load(path).market.parameters
    assert parameters["initial_capital"] == parameters["capital_productivity"] == [2, 3.5]


def test_a_run_holds_the_numbers_and_needs_the_file_no_more(folder: Path) -> None:
    experiment = load(folder / "experiment.yaml", [f"{FIELD}={{file: types.csv, column: kappa}}"])
    run = RunFolder.create(experiment, folder / "runs")
    (folder / "types.csv").unlink()
    assert content(run.experiment_file)["market"]["parameters"]["capital_productivity"] == KAPPA
    assert run.experiment == experiment
    assert run.experiment.digest == experiment.digest


def test_the_example_in_the_reference_runs(folder: Path) -> None:
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(yaml|csv)\n(.*?)```", page, re.DOTALL))
    (folder / "types.csv").write_text(blocks["csv"], encoding="utf-8")
    data = content(EXAMPLE) | parse_yaml(blocks["yaml"])
    (folder / "documented.yaml").write_text(dump_yaml(data), encoding="utf-8")
    parameters = load(folder / "documented.yaml").market.parameters
    assert parameters["capital_productivity"] == [0.92, 0.98, 1.01, 1.09]
    assert parameters["labour_productivity"] == [1.1, 1.0, 0.7, 1.2]
    (override,) = re.findall(r"`-o (market\..*)`", page)
    experiment = load(folder / "experiment.yaml", shlex.split(override))
    assert experiment.market.parameters["capital_productivity"] == [0.92, 0.98, 1.01, 1.09]


TEXTS: dict[str, tuple[bytes, str | None, list[float]]] = {
    "plain": (b"kappa\n1\n2.5\n", None, [1, 2.5]),
    "no-end-of-line": (b"kappa\n1\n2.5", None, [1, 2.5]),
    "windows": (b"a,kappa\r\n,1\r\n\r\n,2.5\r\n", "kappa", [1, 2.5]),
    "old-mac": (b"a,kappa\r,1\r#\r\r,2.5\r", "kappa", [1, 2.5]),
    "byte-order-mark": (b"\xef\xbb\xbfkappa\n1\n", "kappa", [1]),
    "comments-and-blanks": (b"# first\n\n \t\n#,,,\nkappa\n#7\n1\n\n2.5\n#\n", None, [1, 2.5]),
    "spaces": (b" kappa , lambda\n 1 , 2\n", "kappa", [1]),
    "quotes": (b'"a ""b"", c",kappa\n"1", "x\n,y"\n', 'a "b", c', [1]),
    "signs-and-exponents": (
        b"k\n-1\n+2\n1e-3\n-2.E+3\n.5\n007\n",
        None,
        [-1, 2, 1e-3, -2000.0, 0.5, 7],
    ),
    "other-columns-hold-anything": ("name,k\nMüller,1\nnan,2\n,3\n".encode(), "k", [1, 2, 3]),
    "numbers-name-columns": (b"1,2\n3,4\n", "2", [4]),
    "nameless-column": (b"k,\n1,2\n", "", [2]),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_that_is_a_column(case: str, tmp_path: Path) -> None:
    text, column, expected = TEXTS[case]
    (tmp_path / "a.csv").write_bytes(text)
    found = read_column(tmp_path / "a.csv", column)
    assert found == expected
    assert [type(number) for number in found] == [type(number) for number in expected]


# -- what is refused -------------------------------------------------------------------------------

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
    assert (
        expected.replace("FIELD", FIELD).replace("FILE", f"{FIELD}: {folder / 'types.csv'}")
        in message
    )
    assert len(message) < 800 + 3 * len(str(folder))


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.csv")
    path = with_parameters(folder, capital_productivity={"file": "pipe.csv"})
    assert "pipe.csv: is a device or pipe" in refusal(lambda: load(path), path)


def test_a_file_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any, **keywords: Any) -> Any:
        raise PermissionError(
            13, "Permission denied"
        )  # a file's mode does not stop root, who may run this test

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(
        ValueError, match=r"types\.csv: cannot be read as text: .*Permission denied"
    ):
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


# -- which parameters ------------------------------------------------------------------------------


class Shop(BaseModel):
    """A section of a market's parameters; `file` and `column` are its own."""

    file: str = "own"
    column: str = "own"
    prices: list[float] = [1.0]


class BazaarParameters(BaseModel):
    """Somebody else's market: lists of many kinds, and mappings that have a `file` of their own."""

    model_config = ConfigDict(extra="forbid")
    numbers: list[float] = [1.0]
    whole: list[int] = [1]
    bare: list = [1]  # type: ignore[type-arg]
    sequence: Sequence[float] = (1.0,)
    pair: tuple[float, float] = (1.0, 2.0)
    any_tuple: tuple[float, ...] = (1.0,)
    optional: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] | None = None
    one_or_more: float | list[float] = 1.0
    named: list[float] = Field([1.0], alias="lambda")
    shop: Shop = Shop()
    mapping: dict[str, Any] = {}
    anything: Any = None
    list_or_mapping: list[float] | dict[str, str] = [1.0]
    list_or_shop: list[float] | Shop = [1.0]


@pytest.fixture
def bazaar(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """A folder whose experiments may name the market `bazaar`, and whose `x.csv` holds 1 and 2."""
    spec = MarketSpec(
        "bazaar", "many kinds", BazaarParameters, "nowhere:Market", lambda p: {"trader": 2}
    )
    points = {
        registry.MARKETS: [SimpleNamespace(name=spec.name, load=lambda: spec)],
        registry.LEARNERS: [],
    }
    monkeypatch.setattr(registry, "entry_points", lambda group: points[group])
    (folder / "x.csv").write_text("x\n1\n2\n")
    return folder


def bazaar_parameters(folder: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    data = content(EXAMPLE) | {
        "market": {"name": "bazaar", "worlds": 4, "parameters": parameters},
        "policies": {"trader": {"groups": ["trader"]}},
        "algorithm": {"name": "ppo", "parameters": {"gamma": 0.9}},
        "training": {"agent_steps": 10**6, "rollout_length": 16},
    }
    (folder / "bazaar.yaml").write_text(dump_yaml(data), encoding="utf-8")
    return load(folder / "bazaar.yaml").market.parameters


LISTS = [
    "numbers",
    "whole",
    "bare",
    "sequence",
    "pair",
    "any_tuple",
    "optional",
    "one_or_more",
    "lambda",
]
MAPPINGS = ["shop", "mapping", "anything", "list_or_mapping", "list_or_shop"]


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_every_kind_are_read(bazaar: Path, name: str) -> None:
    assert bazaar_parameters(bazaar, {name: {"file": "x.csv"}}) == {name: [1, 2]}


@pytest.mark.parametrize("name", MAPPINGS)
@pytest.mark.parametrize(
    "value", [{"file": "x.csv"}, {"file": "x.csv", "column": "x"}], ids=["file", "column"]
)
def test_a_parameter_that_takes_mappings_keeps_its_own(
    bazaar: Path, name: str, value: dict[str, str]
) -> None:
    assert bazaar_parameters(bazaar, {name: value}) == {name: value}


def test_sections_within_the_parameters_are_searched(bazaar: Path) -> None:
    shop = {"file": "x.csv", "prices": {"file": "x.csv", "column": "x"}}
    assert bazaar_parameters(bazaar, {"shop": shop}) == {
        "shop": {"file": "x.csv", "prices": [1, 2]}
    }
    shop["prices"] = {"file": "none.csv"}
    message = refusal(lambda: bazaar_parameters(bazaar, {"shop": shop}), bazaar)
    assert f"market.parameters.shop.prices: {bazaar}/none.csv: no such file" in message


def test_whole_numbers_are_wanted_where_the_market_wants_them(bazaar: Path) -> None:
    (bazaar / "x.csv").write_text("x\n1\n2.0\n")
    message = refusal(lambda: bazaar_parameters(bazaar, {"whole": {"file": "x.csv"}}), bazaar)
    assert "market.parameters.whole.1 = 2.0: expected a whole number" in message


def test_arguments_of_a_foreign_env_stay_untouched(folder: Path) -> None:
    arguments = {"file": "types.csv", "column": "kappa"}
    data = content(EXAMPLE)
    data["market"] = {
        "name": "pettingzoo",
        "parameters": {"env": "nowhere:Env", "arguments": arguments},
    }
    found = columns.with_columns(data, folder / "experiment.yaml")
    assert found["market"]["parameters"]["arguments"] == arguments


# -- whatever a file may hold ----------------------------------------------------------------------

NUMBERS = st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.lists(
    st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), max_size=5), max_size=3
)


@settings(max_examples=200, deadline=None)
@given(
    st.data(),
    st.lists(NUMBERS, min_size=1, max_size=9),
    NAMES,
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_a_writer_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    numbers: list[float],
    others: list[str],
    end: str,
) -> None:
    """Any numbers, in any place among columns of text, with comments and blank lines anywhere
    between."""
    place = data.draw(st.integers(0, len(others)))
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator=end)
    for cell in ["the numbers", *map(repr, numbers)]:
        buffer.write(data.draw(st.sampled_from(["", end, "# no, \"one's" + end, " " + end])))
        writer.writerow([*others[:place], cell, *others[place:]])
    file = tmp_path_factory.getbasetemp() / "written.csv"
    file.write_text(
        buffer.getvalue(), encoding=data.draw(st.sampled_from(["utf-8", "utf-8-sig"])), newline=""
    )
    found = read_column(file, "the numbers" if others else None)
    assert [(type(x), repr(x)) for x in found] == [(type(x), repr(x)) for x in numbers]


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
    found = outcome(file)
    if isinstance(found, str):
        assert found.startswith(str(file))
    else:
        assert found
        assert all(
            math.isfinite(x) and (isinstance(x, float) or x.bit_length() < 64) for x in found
        )


def outcome(file: Path) -> list[int | float] | str:
    """The numbers of a file's only column, or the line with which it is refused."""
    try:
        return read_column(file, None)
    except ValueError as error:
        return str(error)


# -- the way a person runs it ----------------------------------------------------------------------


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`rl-markets check`, and a last line that says which heavy packages it has imported."""
    code = (
        "import json, sys\n"
        "from rl_markets import cli\n"
        "sys.argv = ['rl-markets', 'check', *json.loads(sys.argv[1])]\n"
        "try:\n    cli.main()\n"
        "finally:\n    print('heavy:', sorted({'torch', 'ray', 'numpy', 'pandas'} & "
        "set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, json.dumps([*map(str, arguments)])]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_check_reads_columns_and_imports_nothing_heavy(folder: Path) -> None:
    done = check(folder / "experiment.yaml", "-o", f"{FIELD}={{file: types.csv, column: kappa}}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "20 x households" in done.stdout
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_check_of_a_bad_column_exits_2_with_one_line(folder: Path) -> None:
    done = check(folder / "experiment.yaml", "-o", f"{FIELD}={{file: types.csv, column: id}}")
    assert (done.returncode, done.stdout) == (2, "heavy: []\n")
    expected = f"{FIELD}: {folder}/types.csv, line 2: 'a': expected a finite number"
    assert done.stderr == f"rl-markets: {folder}/experiment.yaml: {expected}\n"
