"""Whatever a file may hold: it parses and survives a dump, or is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.errors import ExperimentError
from rl_markets.experiment import Experiment, load, parse
from rl_markets.experiment.sections import Section
from rl_markets.experiment.yaml_file import dump_yaml, parse_yaml
from rl_markets.policies.ppo.parameters import PPOParameters
from tests.support.experiment_files import EXAMPLE, content, refusal


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiments")


def section_paths(model: type[BaseModel], prefix: str = "") -> list[str]:
    """The path of every field of a model, sections included."""
    paths = []
    for name, info in model.model_fields.items():
        paths.append(prefix + name)
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            paths += section_paths(info.annotation, f"{prefix}{name}.")
    return paths


PATHS = [
    *section_paths(Experiment),
    *(f"policies.household{key}" for key in ("", ".groups", ".hidden", ".activation")),
    *(f"market.parameters.{name}" for name in HouseholdsParameters.model_fields),
    *(f"algorithm.parameters.{name}" for name in PPOParameters.model_fields),
]
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-2, 3)
    | st.sampled_from([2**63, 2**64, 10**400])
    | st.floats()
    | st.text(max_size=10)
    | st.dates()
    | st.binary(max_size=3)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | LEAVES, inner, max_size=4)
    ),
    max_leaves=8,
)


def outcome(call: Callable[[], Experiment]) -> Experiment | str:
    """The experiment, or the line with which it is refused."""
    try:
        return call()
    except ExperimentError as error:
        return str(error)


def check_parse(data: dict[str, Any]) -> None:
    """Parses, or refuses in one line; what parses survives dump and load."""
    result = outcome(lambda: parse(data, "here"))
    if isinstance(result, str):
        assert result.isprintable()
        assert result.startswith("here: ")
    else:
        again = parse(parse_yaml(dump_yaml(result.model_dump(mode="json"))), "again")
        assert (again, again.digest) == (result, result.digest)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(PATHS), VALUES)
def test_any_value_at_any_path(path: str, value: Any) -> None:
    data = content(EXAMPLE)
    keys = path.split(".")
    section = data
    for key in keys[:-1]:
        section = section.setdefault(key, {})
    section[keys[-1]] = value
    check_parse(data)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(list(Experiment.model_fields)) | st.text(max_size=3), VALUES, max_size=5
    )
)
def test_any_mapping(data: dict[str, Any]) -> None:
    check_parse(content(EXAMPLE) | data)
    check_parse(data)


PIECES = (
    *(
        "a",
        "name",
        "1e5",
        "0x",
        "2020-01-01",
        "~",
        "\\",
        "\t",
        "\0",
        "\u2028",
        "\n",
        "  ",
        "'",
        '"',
        "#",
        "@",
        "%",
        ",",
    ),
    *(
        ": ",
        "- ",
        "? ",
        "[",
        "]",
        "{",
        "}",
        "&x ",
        "*x",
        "<<: ",
        "!!int ",
        "!!set ",
        "!!binary ",
        "|",
        ">",
        "---",
        "...",
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=20))
def test_any_text_as_file_and_as_override(folder: Path, text: str) -> None:
    path = folder / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    refusal(lambda: load(path), path)
    result = outcome(lambda: load(EXAMPLE, [text]))
    assert isinstance(result, Experiment) or result.isprintable()
