"""What a text must be to be an experiment: YAML without its traps, overrides, the machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_markets.errors import ExperimentError
from rl_markets.experiment import load, parse
from rl_markets.experiment.yaml_file import dump_yaml, parse_yaml
from tests.support.experiment_files import EXAMPLE, content, refusal

pytestmark = pytest.mark.usefixtures("no_cluster")


# -- files that are no experiments -----------------------------------------------------------------

TEXTS = {
    "empty": (b"", "is empty, expected a mapping of sections"),
    "only-a-comment": (b"# soon\n", "is empty, expected a mapping of sections"),
    "list": (b"- a\n- b\n", "expected a mapping of sections, found list"),
    "text": (b"households", "expected a mapping of sections, found str"),
    "png": (b"\x89PNG\r\n\x1a\n", "cannot be read as text: "),
    "zeros": (b"name: a\0", "not YAML: character #x0000: special characters are not allowed"),
    "duplicate-key": (
        b"name: a\nseed: 1\nname: b\n",
        "line 3: not YAML: key 'name' is given twice (lines 1 and 3)",
    ),
    "duplicate-inner-key": (
        b"market:\n  name: a\n  name: b\n",
        "line 3: not YAML: key 'name' is given twice",
    ),
    "bracket": (b"name: a\npolicies: [a, b\n", "line 3: not YAML: expected ',' or ']'"),
    "tab": (b"market:\n\tname: a\n", "line 2: not YAML: "),
    "indentation": (b"market:\n  name: a\n worlds: 3\n", "line 3: not YAML: "),
    "two-documents": (b"name: a\n---\nname: b\n", "line 2: not YAML: but found another document"),
    "python-object": (
        b"name: !!python/object/apply:os.getpid []\n",
        "line 1: not YAML: could not determine",
    ),
    "wrong-tag": (b"seed: !!int abc\n", "line 1: not YAML: 'abc' cannot be read as int"),
    "wrong-bool": (b"seed: !!bool abc\n", "line 1: not YAML: 'abc' cannot be read as bool"),
    "wrong-time": (
        b"seed: !!timestamp abc\n",
        "line 1: not YAML: 'abc' cannot be read as timestamp",
    ),
    "five-thousand-digits": (b"seed: " + b"9" * 5000, "line 1: not YAML: '99999"),
    "number-as-key": (b"1: a\n", "line 1: not YAML: key 1 is not text"),
    "list-as-key": (b"? [a]\n: b\n", "line 1: not YAML: key ['a'] is not text"),
    "mapping-as-key": (b"? {a: 1}\n: b\n", "line 1: not YAML: key {'a': 1} is not text"),
    "set": (b"name: !!set {a}\n", "name = {'a'}: expected text, a number"),
    "recursive": (b"name: &a [*a]\n", "not YAML: an alias stands for what holds it"),
    "thousand-brackets": (b"name: " + b"[" * 1_000, "not YAML: nested too deeply"),
    "half-a-character": (b'summary: "\\ud800"\n', "expected Unicode text"),
    "unknown-alias": (b"name: *a\n", "line 1: not YAML: found undefined alias"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_that_is_no_experiment(case: str, tmp_path: Path) -> None:
    text, expected = TEXTS[case]
    path = tmp_path / "bad.yaml"
    path.write_bytes(text)
    assert expected in refusal(lambda: load(path), path)


def test_missing_file_folder_and_impossible_names(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "no such file" in refusal(lambda: load(tmp_path / "none.yaml"), tmp_path)
    assert "is a folder, expected an experiment file" in refusal(lambda: load(tmp_path), tmp_path)
    assert "cannot be read as text: " in refusal(
        lambda: load(tmp_path / "file" / "a.yaml"), tmp_path
    )
    assert "cannot be read as text: " in refusal(lambda: load(tmp_path / ("a" * 300)), tmp_path)
    assert "cannot be read as text: " in refusal(lambda: load(f"{tmp_path}/a\0b"), tmp_path)
    assert "no such file" in refusal(lambda: load(f"{tmp_path}/two\nlines"), tmp_path)


# -- YAML without its traps ------------------------------------------------------------------------

SCALARS = {
    "1e-4": 1e-4,
    "-2E+3": -2000.0,
    "1.5e3": 1500.0,
    ".5": 0.5,
    "1.": 1.0,
    "600_000": 600_000,
    "-7": -7,
    "true": True,
    "null": None,
    "~": None,
    "'1e-4'": "1e-4",
    "no": "no",
    "off": "off",
    "010": "010",
    "0x10": "0x10",
    "1:30": "1:30",
    "2020-13-45": "2020-13-45",
    "0b_": "0b_",
    "=": "=",
    "1e": "1e",
}


@pytest.mark.parametrize("text", SCALARS)
def test_unquoted_words(text: str) -> None:
    value = parse_yaml(text)
    assert value == SCALARS[text]
    assert type(value) is type(SCALARS[text])


@given(
    st.text(st.characters(codec="utf-8"), max_size=20)
    | st.from_regex(r"[-+.0-9eE_:]{1,8}", fullmatch=True)
)
def test_text_stays_text_through_a_dump(text: str) -> None:
    data = {"name": text, text: [text]}
    assert parse_yaml(dump_yaml(data)) == data


def test_merge_keys_share_sections_but_overrides_do_not(tmp_path: Path) -> None:
    path = tmp_path / "merge.yaml"
    path.write_text(
        EXAMPLE.read_text().replace("parameters:\n    households", "parameters: &p\n    households")
    )
    path.write_text(path.read_text() + "certificate: &c {seeds: 5}\n")
    assert load(path).certificate.seeds == 5
    shared = parse_yaml("a: &x {k: 1}\nb: *x\nc: {<<: *x, k: 2, l: 3}")
    assert shared == {"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 2, "l": 3}}


# -- overrides -------------------------------------------------------------------------------------


def test_overrides_apply_in_order() -> None:
    rate = "algorithm.parameters.learning_rate="
    overrides = ["seed=5", rate + "1e-2", rate + "1e-4", "certificate.seeds=7", " summary=a = b"]
    experiment = load(EXAMPLE, overrides)
    assert experiment.seed == 5
    assert experiment.parameters("household").learning_rate == 1e-4
    assert experiment.certificate.seeds == 7
    assert experiment.summary == "a = b"


def test_override_of_a_shared_section_changes_only_one(tmp_path: Path) -> None:
    path = tmp_path / "shared.yaml"
    data = content(EXAMPLE)
    data["policies"] = {"a": data["policies"]["household"]}
    data["policies"]["b"] = data["policies"]["a"]
    path.write_text(dump_yaml(data))
    assert "*id001" in path.read_text()
    message = refusal(lambda: load(path, ["policies.b.groups=[nobody]"]), path)
    assert "policies.b.groups: market 'households' has no group 'nobody'" in message


OVERRIDES = {
    "seed": "-o seed: expected section.field=value",
    "=3": "-o =3: expected section.field=value",
    "a..b=3": "-o a..b=3: expected section.field=value",
    "training.agentsteps=3": "training.agentsteps: unknown field (did you mean 'agent_steps'?)",
    "trainin.agent_steps=3": "trainin: unknown field (did you mean 'training'?)",
    "training.agent_steps.x=1": "training.agent_steps is a value, not a section",
    "policies.household.groups.0=1": "policies.household.groups is a value, not a section",
    "seed='5'": "seed = '5': expected a whole number",
    "seed=": "seed = None: expected a whole number",
    "seed=[": "'[' is not a YAML value: ",
    "seed={a: 1, a: 2}": "is not a YAML value: key 'a' is given twice",
    "seed=&a [*a]": "an alias stands for what holds it",
    "seed=" + "[" * 1_000: "is not a YAML value: nested too deeply",
    "algorithm.parameters.clip=.nan": "algorithm.parameters.clip = nan: expected a finite number",
    "two\nlines=1": "two\\nlines: unknown field",
    ".".join(["a"] * 5000) + "=1": "nested deeper than 32 levels",
}


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda text: text[:30])
def test_bad_override_is_refused(override: str) -> None:
    assert OVERRIDES[override] in refusal(lambda: load(EXAMPLE, [override]), "")


# -- the machine -----------------------------------------------------------------------------------


def test_a_cluster_or_another_machine_may_be_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    large = ["training.runners=9999", "training.agent_steps=10_000_000_000_000"]
    assert "training.runners" in refusal(lambda: load(EXAMPLE, large), EXAMPLE)
    assert load(EXAMPLE, large, machine=False).training.runners == 9999
    dumped = load(EXAMPLE, large, machine=False).model_dump(mode="json")
    assert parse(dumped, "runner").training.runners == 9999
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert load(EXAMPLE, large).training.runners == 9999


def test_numbers_too_long_to_print_are_refused() -> None:
    message = refusal(lambda: parse({"seed": 10**5000}, "here"), "here: ")
    assert "seed = a whole number of 16610 bits" in message
    as_key: dict[Any, Any] = {10**5000: 1}
    message = refusal(lambda: parse(as_key, "here"), "here: ")
    assert "key a whole number of 16610 bits" in message


def chained(depth: int, line: str) -> str:
    """Each line holds the one before it several times."""
    return "a0: &a0 {x: 1}\n" + "".join(line.format(i=i, j=i - 1) for i in range(1, depth))


BOMBS = {
    "aliases": chained(12, "a{i}: &a{i} [*a{j}, *a{j}, *a{j}, *a{j}, *a{j}, *a{j}, *a{j}]\n"),
    "merges": chained(40, "a{i}: &a{i}\n  <<: [*a{j}, *a{j}, *a{j}]\n"),
    "itself": "a: &a\n  b: [*a]\n",
    "itself, merged": "a: &a\n  <<: *a\n",
    "large": "a: " + "b" * 2**21,
    "many": "a: [" + "1," * 300_000 + "]",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_stands_for_too_much_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """A few hundred bytes used to be expanded for hours."""
    file = tmp_path / "bomb.yaml"
    file.write_text(BOMBS[name])
    with pytest.raises(ExperimentError, match=r"stands for|larger than 1 MB") as caught:
        load(file)
    assert str(caught.value).isprintable()
    with pytest.raises(ExperimentError):
        load(file, machine=False)


def test_aliases_that_stand_for_little_are_read() -> None:
    text = "a: &a {x: [1, 2]}\nb: *a\nc:\n  <<: *a\n  y: 3\n"
    inner = {"x": [1, 2]}
    assert parse_yaml(text) == {"a": inner, "b": inner, "c": inner | {"y": 3}}


def test_a_pipe_is_no_experiment_file(tmp_path: Path) -> None:
    """Reading one waits for ever."""
    file = tmp_path / "pipe.yaml"
    os.mkfifo(file)
    for path in (file, Path("/dev/zero")):
        with pytest.raises(ExperimentError, match="is a pipe or device"):
            load(path)
