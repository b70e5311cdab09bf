"""Lists from CSV files: read once, and complete in the run."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from rl_markets.envs import registry
from rl_markets.envs.spec import MarketSpec
from rl_markets.experiment import columns, load
from rl_markets.experiment.columns import read_column
from rl_markets.experiment.yaml_file import dump_yaml, parse_yaml
from rl_markets.training.run_folder import RunFolder
from tests.support.columns import FIELD, KAPPA, with_parameters
from tests.support.experiment_files import EXAMPLE, content, refusal
from tests.support.running import ROOT

LAMBDA = [1.1, 1, 0.7, 1.2]


# -- what is read ----------------------------------------------------------------------------------


def test_columns_are_the_same_experiment_as_lists(folder: Path) -> None:
    lists = load(with_parameters(folder, capital_productivity=KAPPA, labour_productivity=LAMBDA))
    kappa = {"file": "types.csv", "column": "kappa"}
    lambda_ = {"file": str(folder / "types.csv"), "column": "lambda"}
    experiment = load(
        with_parameters(folder, capital_productivity=kappa, labour_productivity=lambda_)
    )
    assert experiment == lists
    assert experiment.digest == lists.digest
    assert experiment.market.parameters["capital_productivity"] == KAPPA


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
            assert parameters["capital_productivity"] == [0.5, 1.5]
            assert parameters["labour_productivity"] == [0.5, 1.5]
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
    column_read = read_column(tmp_path / "a.csv", column)
    assert column_read == expected
    assert [type(number) for number in column_read] == [type(number) for number in expected]


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
    completed = columns.with_columns(data, folder / "experiment.yaml")
    assert completed["market"]["parameters"]["arguments"] == arguments


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
    """Any numbers, in any place among columns of text.

    With comments and blank lines anywhere between.
    """
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
    column = read_column(file, "the numbers" if others else None)
    assert [(type(x), repr(x)) for x in column] == [(type(x), repr(x)) for x in numbers]


# -- the way a person runs it ----------------------------------------------------------------------


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """`rl-markets check`, and a last line that says which heavy packages it has imported."""
    code = (
        "import json, sys\n"
        "from rl_markets import cli\n"
        "sys.argv = ['rl-markets', 'check', *json.loads(sys.argv[1])]\n"
        "try:\n    cli.main()\n"
        "finally:\n    heavy = {'torch', 'ray', 'numpy', 'pandas'} & set(sys.modules)\n"
        "    print('heavy:', sorted(heavy))\n"
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
