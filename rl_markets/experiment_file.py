"""Reading experiment files: YAML without its traps, and `a.b=c` overrides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from rl_markets.experiment_errors import ExperimentError


class _Loader(yaml.SafeLoader):
    """YAML that refuses duplicate keys and reads 1e-4 as a number (YAML 1.1 reads it as text)."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$|^[-+]?[0-9][0-9_]*\.[0-9_]*$|^[-+]?\.[0-9]+$"),
    list("-+0123456789."),
)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        line = key_node.start_mark.line + 1
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} is given twice (lines {seen[key]} and {line})", key_node.start_mark
            )
        seen[key] = line
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text: str) -> Any:
    """The document in `text`."""
    return yaml.load(text, _Loader)  # noqa: S506 - a subclass of SafeLoader


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ExperimentError: one line, with the line number where YAML itself is broken.
    """
    try:
        data = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExperimentError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ExperimentError(f"{path}: is a folder, expected an experiment file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: cannot be read as text: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ExperimentError(f"{path}{where}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(data, dict):
        raise ExperimentError(f"{path}: expected a mapping of sections, found {type(data).__name__}")
    return data


def parse_override(text: str) -> tuple[list[str], Any]:
    """`a.b=c` as (keys, value).

    Raises:
        ExperimentError: where there is no `=` or no key.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ExperimentError(f"-o {text}: expected section.field=value")
    try:
        return keys, parse_yaml(value)
    except yaml.YAMLError:
        raise ExperimentError(f"-o {text}: {value!r} is not a YAML value") from None


def set_path(data: dict[str, Any], keys: list[str], value: Any, text: str) -> None:
    """Sets `data[a][b] = value`, creating sections on the way."""
    for key in keys[:-1]:
        data = data.setdefault(key, {})
        if not isinstance(data, dict):
            raise ExperimentError(f"-o {text}: {key} is a value, not a section")
    data[keys[-1]] = value
