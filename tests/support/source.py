"""The source as data: its files, and who imports whom, lazy and type-checking imports counted."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLOORS = {"envs": "rl_markets.envs", "policies": "rl_markets.policies", "rl_markets": "rl_markets"}
"""Folder at the top -> what it is imported as, from the ground floor up."""


def files(*folders: str) -> list[Path]:
    """Every Python file of the folders.

    The links inside `rl_markets` lead to folders that are listed themselves.
    """
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    links = {link for link in (ROOT / "rl_markets").iterdir() if link.is_symlink()}
    return [path for path in paths if not links.intersection(path.parents)]


@cache
def module_of(path: Path) -> str:
    """The name by which a file is imported."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join([FLOORS.get(parts[0], parts[0]), *parts[1:]])


@cache
def modules() -> dict[str, Path]:
    """Module -> file, of everything that ships."""
    return {module_of(path): path for path in files(*FLOORS)}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, full name) of everything that a file imports, wherever in it.

    Relative imports are spelled out.
    """
    package = module_of(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            for name in node.names:
                yield node.lineno, f"{start}.{name.name}"


def imports() -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports."""
    known = modules()
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        names = {name for _, name in imported(path)}
        owners = {name if name in known else name.rpartition(".")[0] for name in names}
        graph[module] = (owners & known.keys()) - {module}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components with more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    components: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for neighbour in sorted(graph[node]):
            if neighbour not in index:
                visit(neighbour)
                low[node] = min(low[node], low[neighbour])
            elif neighbour in stack:
                low[node] = min(low[node], index[neighbour])
        if low[node] == index[node]:
            place = stack.index(node)
            component = stack[place:]
            del stack[place:]
            if len(component) > 1:
                components.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return components
