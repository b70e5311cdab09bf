"""Whether an import path names something, told without importing or calling it.

An experiment file may come from a stranger: to check it must run none of the code that it names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.machinery import all_suffixes
from importlib.util import find_spec
from pathlib import Path

from rl_markets.envs.registry import did_you_mean

MOST_BYTES = 2_000_000
"""A source file that is larger is not read."""


def look_up(path: str, what: str) -> None:
    """Refuses a path `package.module:name` that names nothing.

    Args:
        path: to be looked up; nothing is imported.
        what: is expected there, such as `callable`.

    Raises:
        ValueError: one line that starts with the path.
    """
    if not is_import_path(path):
        raise ValueError(
            f"{path!r}: expected package.module:{what}, such as my_package.my_module:{what}"
        )
    module, _, name = path.partition(":")
    source = _source(module.split("."))
    if source is None:
        raise ValueError(
            f"{path!r}: there is no module {module!r} (is it installed, or on PYTHONPATH?)"
        )
    names = _names(source)
    if names is not None and name not in names:
        public = [other for other in names if not other.startswith("_")]
        raise ValueError(f"{path!r}: module {module!r} has no {name!r}{did_you_mean(name, public)}")


def is_import_path(path: str) -> bool:
    """Whether it has the form `package.module:name`."""
    module, colon, name = path.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), name])


def _source(parts: list[str]) -> Path | None:
    """The file of a module, or None where there is none; the code of its packages does not run.

    A path that is no file where only importing could tell (a built-in module, a package in a zip).
    """
    try:
        top = find_spec(parts[0])
    except ValueError:  # a module of this very process without a spec, such as __main__
        return None
    if top is None:
        return None
    file = Path(top.origin or "")
    places = [Path(place) for place in top.submodule_search_locations or ()]
    for part in parts[1:]:
        if not places:
            return None
        if not all(place.is_dir() for place in places):
            return Path()
        found = _below(places, part)
        if found is None:
            return None
        file, places = found
    return file


def _below(places: list[Path], name: str) -> tuple[Path, list[Path]] | None:
    """A module of a package: its file, and where its own modules are."""
    for place in places:
        if (place / name / "__init__.py").is_file():
            return place / name / "__init__.py", [place / name]
        for suffix in all_suffixes():
            if (place / f"{name}{suffix}").is_file():
                return place / f"{name}{suffix}", []
    # a namespace package: folders of that name, without an __init__.py
    folders = [place / name for place in places if (place / name).is_dir()]
    return (Path(), folders) if folders else None


def _names(source: Path) -> set[str] | None:
    """The names at a module's top level, or None where its source does not tell."""
    if source.suffix != ".py" or source.stat().st_size > MOST_BYTES:
        return None
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return None  # whoever imports it will say so
    names = set(_bound(tree.body))
    return None if {"*", "__getattr__"} & names else names


def _bound(statements: list[ast.stmt]) -> Iterator[str]:
    """The names that statements bind, those inside `if`, `try` and `with` included."""
    for statement in statements:
        for node in _here(statement):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield node.name
            elif isinstance(node, ast.alias):
                yield (node.asname or node.name).partition(".")[0]
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield node.id
            elif isinstance(node, ast.Call) and _is_dynamic(node):
                yield "*"


def _here(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and its parts, but for the insides of functions and classes."""
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return
    for child in ast.iter_child_nodes(node):
        yield from _here(child)


def _is_dynamic(call: ast.Call) -> bool:
    """Whether names may be bound that the source does not show."""
    called = call.func
    return isinstance(called, ast.Name) and called.id in ("globals", "exec", "setattr", "vars")
