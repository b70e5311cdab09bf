"""What is written down must be true: README blocks run, tables match their JSON, references match
the code."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from benchmarks.results import pricing_page, systems
from benchmarks.results.page import OVERVIEW, table
from rl_markets import errors
from rl_markets.experiment import reference
from tests.support.running import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python|yaml)\n(.*?)```", README, re.DOTALL)


@pytest.mark.timeout(900)
def test_every_block_of_the_readme_runs(tmp_path: Path) -> None:
    """In order, in one folder, as a newcomer types them; trained sizes are cut by
    RL_MARKETS_SMOKE."""
    for name in (
        "Makefile",
        "requirements.lock",
        "pyproject.toml",
        "tune_configs",
        "README.md",
        "LICENSE",
    ):
        (tmp_path / name).symlink_to(ROOT / name)
    stamp = tmp_path / "installed"  # the environment is the one that runs this test
    stamp.touch()
    environment = os.environ | {
        "RL_MARKETS_SMOKE": "1",
        "VENV": sys.prefix,
        "STAMP": str(stamp),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    assert len(BLOCKS) >= 5
    for language, block in BLOCKS:
        if language == "yaml":
            yaml.safe_load(block)
            continue
        line = (
            ["bash", "-euc", _runnable(block)]
            if language == "bash"
            else [sys.executable, "-c", block]
        )
        done = subprocess.run(
            line,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def _runnable(block: str) -> str:
    """Without what runs these tests, installs, or needs a quarter of an hour; each has a test of
    its own."""
    left_out = (
        "make test",
        "make bench",
        "make results",
        "git clone",
        "cd rl-markets",
        "pip install",
        "tensorboard ",
    )
    kept = [line for line in block.splitlines() if not line.startswith(left_out)]
    return "\n".join(kept) or "true"


@pytest.mark.parametrize("page", ["pricing", "exploration"])
def test_the_python_of_a_page_runs_and_prints_what_it_says(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        for said in re.findall(r"^print\(.*\)  # (.*?)(?:: .*)?$", block, re.MULTILINE):
            assert said in done.stdout


def test_commands_that_the_readme_test_leaves_out_exist() -> None:
    """`make test` is what CI runs; the others are rules of the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    for rule in ("train", "test", "bench", "results", "lint"):
        assert re.search(rf"^{rule}: ", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_readmes_table_is_the_one_that_was_measured() -> None:
    results = ROOT / "docs" / "results"
    overview = (results / OVERVIEW).read_text(encoding="utf-8")
    assert table(results) in overview
    assert pricing_page.table(results) in overview
    assert systems.table(results) in README
    assert len(systems.SYSTEMS) <= 8, "they fit the README's first screen"


def test_the_experiment_reference_is_current() -> None:
    assert (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8") == reference.reference()


def test_the_tree_of_errors_is_that_of_the_code() -> None:
    """Drawn in the module's docstring and in design.md; both name every class, with its code."""
    tree = inspect.getdoc(errors) or ""
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    drawn = re.search(r"<!-- errors: .*? -->\n```\n(.*?)```", page, re.DOTALL)
    assert drawn is not None
    assert textwrap.indent(drawn[1], "    ") in f"{tree}\n"
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.RLMarketsError):
            code = "128 [+] signal" if name == "Interrupted" else error.exit_code
            assert re.search(rf"^ *{name}\b.* {code}\b", drawn[1], re.MULTILINE), name


def test_every_link_of_readme_and_docs_leads_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


PLACEHOLDERS = ("MARKET", "LEARNER", "ROOM", "*")
"""Parts of a path that stand for many."""


def test_every_path_that_a_page_names_exists() -> None:
    """Files and folders of ours between backquotes, and those that a command line names."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"`((?:envs|policies|rl_markets|benchmarks|examples)/[^`\s]+)`", text)
        named += re.findall(r"\b(tests/[\w/]+\.py)\b", text)
        for path in named:
            if not any(part in path for part in PLACEHOLDERS):
                assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_the_cluster_file_is_valid_and_asks_for_tokens() -> None:
    from ray.autoscaler._private.util import fillout_defaults, validate_config

    cluster = yaml.safe_load((ROOT / "cluster" / "ray-cluster.yaml").read_text())
    validate_config(fillout_defaults(cluster))
    starts = [
        c
        for c in cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
        if "ray start" in c
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in c for c in starts)
    assert "RAY_AUTH_MODE=token" in (ROOT / "cluster" / "Dockerfile").read_text()
