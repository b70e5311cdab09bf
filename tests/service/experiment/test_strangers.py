"""A stranger's experiment file: what it names is looked up, and runs only where it is trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from rl_markets.envs.lookup import look_up
from rl_markets.experiment.yaml_file import dump_yaml, read_yaml
from tests.support.running import ROOT, command, tiny

BOOBY_TRAP = """
from pathlib import Path

MARK = Path(__file__).parent.parent / "ran"
MARK.write_text("imported")


def env(**arguments):
    MARK.write_text("called")


def rule(observations):
    MARK.write_text("called")
"""


def foreign(env: str, **arguments: Any) -> dict[str, Any]:
    market = {"name": "pettingzoo", "worlds": 2, "parameters": {"env": env, "arguments": arguments}}
    return {**tiny(market=market), "policies": {"p": {"groups": ["agents"], "hidden": [8]}}}


def scripted(rule: str) -> dict[str, Any]:
    """A government that follows a rule, beside households who learn."""
    data = read_yaml(ROOT / "tune_configs" / "fiscal-full-depreciation.yaml")
    (name,) = [n for n, section in data["policies"].items() if "government" in section["groups"]]
    data["policies"][name] = {"groups": ["government"], "scripted": rule}
    return data


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in whose packages everything that runs leaves a mark."""
    package = tmp_path / "trap"
    (package / "inner").mkdir(parents=True)
    for file in ("__init__.py", "module.py", "inner/__init__.py", "inner/deep.py"):
        source = BOOBY_TRAP.replace(".parent.parent", ".parent" * (2 + file.count("/")))
        (package / file).write_text(source)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    return tmp_path


@pytest.mark.parametrize(
    ("data", "returncode"),
    [
        (foreign("trap:env"), 0),
        (foreign("trap.module:env"), 0),
        (foreign("trap.inner.deep:env"), 0),
        (foreign("trap.inner.deep:env", command="touch ran"), 0),
        (foreign("trap.module:Missing"), 2),
        (foreign("trap.missing:env"), 2),
        (foreign("os:system", command="touch ran"), 0),
        (foreign("subprocess:check_call", args=["touch", "ran"]), 0),
        (scripted("trap.module:rule"), 0),
        (scripted("trap.module:missing"), 2),
        (scripted("os:system"), 0),
    ],
)
def test_check_runs_nothing(trapped: Path, data: dict[str, Any], returncode: int) -> None:
    file = trapped / "stranger.yaml"
    file.write_text(dump_yaml(data))
    done = command("check", file, cwd=trapped)
    assert done.returncode == returncode, done.stdout + done.stderr
    assert not (trapped / "ran").exists()


def test_check_builds_where_it_is_told_to_and_says_what(trapped: Path) -> None:
    file = trapped / "stranger.yaml"
    file.write_text(dump_yaml(foreign("trap.module:env")))
    done = command("check", file, "--build", cwd=trapped)
    assert done.returncode == 2
    assert "runs code that the file names: trap.module:env (market.parameters.env)" in done.stderr
    assert (trapped / "ran").read_text() == "called"


def test_report_runs_nothing_and_train_says_what_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose environment came from a stranger, who then changed it."""
    package = tmp_path / "shop"
    package.mkdir()
    example = ROOT / "envs" / "pettingzoo" / "example.py"
    shutil.copy(example, package / "cournot.py")
    (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    (tmp_path / "e.yaml").write_text(dump_yaml(foreign("shop.cournot:Cournot")))
    trained = command("train", "e.yaml", "--smoke", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "runs code that the file names: shop.cournot:Cournot" in trained.stderr
    for file in ("__init__.py", "cournot.py"):
        (package / file).write_text(BOOBY_TRAP)
    (tmp_path / "runs" / "latest" / "report.html").unlink()
    done = command("report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "latest" / "report.html").is_file()
    assert not (tmp_path / "ran").exists()


def test_names_are_found_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "bound.py").write_text(
        "import os as system\nfrom math import sin\na, (b, *c) = 1, (2, 3)\n"
        "try:\n    import nothing\nexcept ImportError:\n    d = 1\n"
        "if a:\n    class E: inside = 1\n"
        "def f():\n    local = 1\n"
        "raise SystemExit\n"
    )
    (tmp_path / "open.py").write_text("from os import *\nraise SystemExit\n")
    (tmp_path / "wrong.py").write_text("def (\n")
    for name in ("system", "sin", "a", "b", "c", "d", "E", "f"):
        look_up(f"bound:{name}", "function")
    for name in ("inside", "local", "os"):
        with pytest.raises(ValueError, match=f"module 'bound' has no '{name}'"):
            look_up(f"bound:{name}", "function")
    look_up("open:whatever", "function")
    (tmp_path / "space" / "inner").mkdir(parents=True)
    (tmp_path / "space" / "inner" / "deep.py").write_text("a = 1\nraise SystemExit\n")
    look_up("space.inner.deep:a", "function")  # packages without an __init__.py
    with pytest.raises(ValueError, match=r"no module 'space\.inner\.shallow'"):
        look_up("space.inner.shallow:a", "function")
    look_up("wrong:whatever", "function")
