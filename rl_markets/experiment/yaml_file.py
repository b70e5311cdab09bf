"""Reading and writing experiment files: YAML without its traps, and `a.b=c` overrides."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from rl_markets.errors import ExperimentError

MOST_BYTES = 2**20
"""Of an experiment file; long lists are read from CSV files."""
MOST_VALUES = 200_000
"""Of an experiment file, its aliases written out."""

_TAG = "tag:yaml.org,2002:"
_PATTERNS = (
    ("null", "null|Null|NULL|~|"),
    ("bool", "true|True|TRUE|false|False|FALSE"),
    ("int", "[-+]?(?:0|[1-9][0-9_]*)"),
    ("float", r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+|[0-9][0-9_]*\.[0-9_]*)"),
    ("float", r"[-+]?\.(?:[0-9]+(?:[eE][-+]?[0-9]+)?|inf|Inf|INF)|\.(?:nan|NaN|NAN)"),
    ("merge", "<<"),
)
"""Unquoted words, as in YAML 1.2.

YAML 1.1, which PyYAML follows, reads 1e-4 as text, no as false, 010 as 8, 1:30 as 90.
"""
_SCALARS = {
    # Under None, PyYAML tries them whatever the word's first character.
    None: [(_TAG + kind, re.compile(rf"(?:{pattern})\Z")) for kind, pattern in _PATTERNS]
}


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, keys other than text, and whatever Python cannot make a value of."""

    yaml_implicit_resolvers = _SCALARS

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _expanded(node, {}, set())
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            kind = node.tag.removeprefix(_TAG)
            raise _error(f"{str(node.value)[:40]!r} cannot be read as {kind}", node) from None


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would not read as text."""

    yaml_implicit_resolvers = _SCALARS


def _error(problem: str, node: yaml.Node) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _expanded(node: yaml.Node, sizes: dict[int, int], open_nodes: set[int]) -> int:
    """Values that a node stands for, its aliases written out: few lines can stand for billions.

    Args:
        node: of a document.
        sizes: of the nodes that were counted already.
        open_nodes: those that hold `node`.
    """
    if id(node) in sizes:
        return sizes[id(node)]
    if id(node) in open_nodes:
        raise _error("an alias stands for what holds it", node)
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        inner = node.value
    open_nodes.add(id(node))
    size = 1 + sum(_expanded(part, sizes, open_nodes) for part in inner)
    open_nodes.discard(id(node))
    if size > MOST_VALUES:
        raise _error(f"stands for more than {MOST_VALUES:,} values", node)
    sizes[id(node)] = size
    return size


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Hashable, Any]:
    """A mapping, whose keys are checked before PyYAML lets the last of two equal ones win."""
    line_of: dict[str, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == _TAG + "merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise _error(f"key {key!r} is not text; put it in quotes", key_node)
        if key in line_of:
            raise _error(f"key {key!r} is given twice (lines {line_of[key]} and {line})", key_node)
        line_of[key] = line
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def parse_yaml(text: str) -> Any:
    """The document in `text`.

    Raises:
        yaml.YAMLError: where it is none.
    """
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None


def dump_yaml(data: dict[str, Any]) -> str:
    """`data` as text that `parse_yaml` reads as the same."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        ExperimentError: one line, with the line number where YAML itself is broken.
    """
    try:
        data = parse_yaml(_read_text(path))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ExperimentError(f"{path}{where}: not YAML: {_problem(error)}") from None
    if data is None:
        raise ExperimentError(f"{path}: is empty, expected a mapping of sections")
    if not isinstance(data, dict):
        raise ExperimentError(
            f"{path}: expected a mapping of sections, found {type(data).__name__}"
        )
    return data


def _read_text(path: Path) -> str:
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise ExperimentError(f"{path}: is a pipe or device, expected an experiment file")
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ExperimentError(
                f"{path}: is larger than {MOST_BYTES // 2**20} MB, expected an experiment file; "
                "long lists go into CSV files"
            )
        return content.decode().replace("\r\n", "\n")
    except FileNotFoundError:
        raise ExperimentError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ExperimentError(f"{path}: is a folder, expected an experiment file") from None
    except ExperimentError:
        raise
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{path}: cannot be read as text: {error}") from None


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong, in a few words, without PyYAML's excerpt of the file."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"character #x{error.character:04x}: {error.reason}"
    return str(getattr(error, "problem", None) or error)


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
    except yaml.YAMLError as error:
        raise ExperimentError(
            f"-o {text}: {value!r} is not a YAML value: {_problem(error)}"
        ) from None


def overridden(data: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of `data` with `a.b=c` applied in order.

    Raises:
        ExperimentError: as of `parse_override` and `set_path`.
    """
    for override in overrides:
        data = set_path(data, *parse_override(override), override)
    return data


def set_path(data: dict[str, Any], keys: list[str], value: Any, text: str) -> dict[str, Any]:
    """A copy of `data` with `data[a][b] = value`; sections are created on the way.

    A copy, because in YAML two sections can be one object (`&name` and `*name`).

    Args:
        data: an experiment.
        keys: a, b.
        value: of the field.
        text: the override as it was given, for errors.

    Raises:
        ExperimentError: where a section that is named is a value.
    """
    root = section = dict(data)
    for i, key in enumerate(keys[:-1]):
        inner = section.get(key, {})
        if not isinstance(inner, dict):
            raise ExperimentError(f"-o {text}: {'.'.join(keys[: i + 1])} is a value, not a section")
        section[key] = section = dict(inner)
    section[keys[-1]] = value
    return root
