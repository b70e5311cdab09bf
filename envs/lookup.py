"""Whether an import path names something, told without importing or calling it.

An experiment file may come from a stranger: to check it must run none of the code that it names.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
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
    module, colon, name = path.partition(":")
    parts = module.split(".")
    if not colon or not all(part.isidentifier() for part in [*parts, name]):
        raise ValueError(
            f"{path!r}: expected package.module:{what}, such as my_package.my_module:{what}"
        )
    spec = _spec(parts)
    if spec is None:
        raise ValueError(
            f"{path!r}: there is no module {module!r} (is it installed, or on PYTHONPATH?)"
        )
    names = _names(spec)
    if names is not None and name not in names:
        public = [other for other in names if not other.startswith("_")]
        raise ValueError(f"{path!r}: module {module!r} has no {name!r}{did_you_mean(name, public)}")


def _spec(parts: list[str]) -> ModuleSpec | None:
    """The spec of a module; its packages' own code does not run."""
    try:
        spec = find_spec(parts[0])
    except ValueError:  # a module of this very process without a spec, such as __main__
        return None
    for end in range(2, len(parts) + 1):
        if spec is None or spec.submodule_search_locations is None:
            return None
        places = list(spec.submodule_search_locations)
        spec = PathFinder.find_spec(".".join(parts[:end]), places)
    return spec


def _names(spec: ModuleSpec) -> set[str] | None:
    """The names at a module's top level, or None where its source does not tell."""
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None
    source = Path(spec.origin)
    if not source.is_file() or source.stat().st_size > MOST_BYTES:
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
