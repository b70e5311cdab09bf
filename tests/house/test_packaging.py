"""The wheel, installed elsewhere, beside a user's own `envs` package."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.running import ROOT
from tests.support.source import FLOORS, files


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    line = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_one_package_with_everything_in_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names} == {
        "rl_markets",
        next(n for n in names if ".dist-info" in n).split("/")[0],
    }
    for expected in (
        "rl_markets/py.typed",
        "rl_markets/envs/households/market.py",
        "rl_markets/policies/ppo/learner.py",
        "rl_markets/envs/households/solution/collocation.py",
        "rl_markets/tune_configs/households-rbc.yaml",
        "rl_markets/cluster/ray-cluster.yaml",
    ):
        assert expected in names
    sources = {path.relative_to(ROOT).as_posix() for path in files(*FLOORS)}
    sources = {p if p.startswith("rl_markets/") else f"rl_markets/{p}" for p in sources}
    assert sources <= set(names), sources - set(names)


def test_the_installed_wheel_trains_beside_a_users_own_envs(wheel: Path, tmp_path: Path) -> None:
    """Installed into a folder that hides the working tree; the user's `envs` and `policies` stay
    theirs."""
    site = tmp_path / "site"
    work = tmp_path / "work"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    (work / "envs").mkdir(parents=True)
    (work / "envs" / "__init__.py").write_text("MINE = True\n")
    (work / "policies.py").write_text("raise RuntimeError('not yours')\n")
    program = """
import envs, rl_markets, pathlib, sys
from importlib.resources import files
from rl_markets.envs.households.market import Households
assert envs.MINE
assert str(pathlib.Path(rl_markets.__file__)).startswith(sys.argv[1]), rl_markets.__file__
from rl_markets.cli import main
file = files("rl_markets.tune_configs") / "households-full-depreciation.yaml"
sys.argv = ["rl-markets", "train", str(file), "--smoke"]
main()
"""
    environment = os.environ | {"PYTHONPATH": f"{site}:{work}"}
    line = [sys.executable, "-c", program, str(site)]
    done = subprocess.run(
        line, cwd=work, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (work / "runs" / "latest" / "certificate.json").is_file()
