"""What we touch of RLlib beneath its public face is listed, exists, and is all."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

from rl_markets.rllib.underscored import UNDERSCORED
from tests.support.source import ROOT, files

OURS = [path for path in files("policies", "rl_markets") if "ray" in path.read_text()]
LISTED = {member for members in UNDERSCORED.values() for member in members}


@pytest.mark.parametrize("path", UNDERSCORED)
def test_every_member_exists_in_the_ray_that_is_installed(path: str) -> None:
    """As an attribute of the class, or set by it or one of its bases on the instance."""
    module, _, name = path.partition(":")
    kind = getattr(importlib.import_module(module), name)
    sources = [inspect.getsource(base) for base in kind.__mro__ if base is not object]
    for member in UNDERSCORED[path]:
        sets = re.compile(rf"self\.{member}\b")
        assert hasattr(kind, member) or any(sets.search(text) for text in sources), member


def defined(tree: ast.AST) -> set[str]:
    """The underscored names that a file defines itself: functions, and attributes it assigns."""
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def touched(path: Path) -> set[str]:
    """The underscored attributes that a file reads or overrides, and does not define alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = defined(tree)
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
    }
    torch_functions = {name for name in read if name.startswith("_foreach_")}
    return read - own - torch_functions


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_else_is_touched(path: Path) -> None:
    """Underscored attributes of others are those on the list, or defined in a file of ours."""
    everything_of_ours = {name for other in OURS for name in defined(ast.parse(other.read_text()))}
    assert touched(path) <= LISTED | everything_of_ours
