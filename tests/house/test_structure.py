"""The house itself: who may import whom, and that judges and solutions stay independent of what
they judge."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.support.source import ROOT, circles, files, imported, imports, module_of, modules

ALLOWED = {
    "envs": ("rl_markets.errors", "rl_markets.envs"),
    "policies": ("rl_markets.errors", "rl_markets.envs", "rl_markets.policies"),
}
"""What a floor may import of ours."""

SOLVERS = [path for path in files("envs") if {"solution", "numerics"} & set(path.parts)]


def starts_with(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("floor", ALLOWED)
def test_floors_import_only_downwards(floor: str) -> None:
    """envs knows no ray and nothing above it; policies knows nothing of the service."""
    for path in files(floor):
        for line, name in imported(path):
            where = f"{path.relative_to(ROOT)}:{line}: {name}"
            assert not name.startswith("rl_markets") or starts_with(name, ALLOWED[floor]), where
            ray_allowed = floor != "envs" or path.parts[-2:] == ("adapters", "rllib.py")
            assert ray_allowed or name.split(".")[0] != "ray", where


def test_no_module_imports_itself_through_others() -> None:
    assert circles(imports()) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize("path", SOLVERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_solutions_know_no_market(path: Path) -> None:
    """numpy, scipy and the standard library; of ours only other solutions, what solvers share, and
    errors."""
    for line, name in imported(path):
        where = f"{path.relative_to(ROOT)}:{line}: {name}"
        if name.startswith("rl_markets"):
            parts = name.split(".")
            among_solvers = name.startswith("rl_markets.envs.numerics") or "solution" in parts[3:4]
            assert among_solvers or starts_with(name, ("rl_markets.errors",)), where
        else:
            top = name.split(".")[0]
            assert top in ("numpy", "scipy") or top in sys.stdlib_module_names, where


@pytest.mark.parametrize("path", files("envs/numerics"), ids=lambda path: path.name)
def test_what_solvers_share_knows_no_market(path: Path) -> None:
    """Nor a solver: `numerics` stands below all of them."""
    for line, name in imported(path):
        below = starts_with(name, ("rl_markets.errors", "rl_markets.envs.numerics"))
        assert below or not name.startswith("rl_markets"), f"{path.name}:{line}: {name}"


def test_markets_do_not_import_their_judges() -> None:
    """Only the service asks for an answer key, through the spec that names it."""
    judges = {module for module in modules() if ".answer" in module.removeprefix("rl_markets.envs")}
    judges -= {"rl_markets.envs.answer_key"}
    assert len(judges) > 10
    for module, found in imports().items():
        if module.startswith("rl_markets.envs") and module not in judges:
            assert not found & judges, module


def test_errors_are_on_one_page() -> None:
    """Every exception class of ours that may leave its file is in `rl_markets/errors.py`."""
    for path in files("envs", "policies", "rl_markets"):
        if path == ROOT / "rl_markets" / "errors.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                bases = [ast.unparse(base) for base in node.bases]
                raised = [
                    base for base in bases if base.endswith(("Error", "Exception", "Interrupted"))
                ]
                assert not raised, f"{module_of(path)}.{node.name}"
