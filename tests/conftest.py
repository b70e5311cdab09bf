"""What tests share: one Ray, tiny experiments, the command line as a person runs it."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from storage import SPEC, actors, fill_old

from rl_markets import exported
from rl_markets.quiet import quiet_ray
from rl_markets.store import CheckpointStore

ROOT = Path(__file__).resolve().parent.parent
TINY: dict[str, Any] = {
    "name": "tiny",
    "market": {
        "name": "households",
        "worlds": 4,
        "parameters": {"households": 3, "delta": 1.0, "episode_length": 5, "initial_capital": [0.01, 0.1]},
    },
    "policies": {"household": {"groups": ["households"], "hidden": [8]}},
    "algorithm": {"name": "ppo", "parameters": {"epochs": 2, "minibatches": 3}},
    "training": {"agent_steps": 4 * 8 * 3 * 6, "rollout_length": 8, "evaluate_every": 2, "checkpoint_every": 2},
    "certificate": {"seeds": 2, "deviation_agent_steps": 0},
}

quiet_ray()
torch.set_num_threads(1)


def tiny(**sections: dict[str, Any]) -> dict[str, Any]:
    """The tiny experiment with some fields replaced: `tiny(training={"runners": 1})`."""
    data = copy.deepcopy(TINY)
    for section, fields in sections.items():
        data[section] = {**data[section], **fields} if isinstance(fields, dict) else fields
    return data


@pytest.fixture(scope="session")
def ray_once() -> Iterator[None]:
    """Ray, started once for all tests in this process."""
    import ray

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=2**28,
    )
    yield
    ray.shutdown()


@pytest.fixture
def held(ray_once: None) -> Iterator[Any]:
    """Algorithms that stop in the end; see `replaying.Held`."""
    from replaying import Held

    found = Held()
    yield found
    for algorithm in found.algorithms:
        algorithm.stop()


def command(*arguments: str | Path, cwd: Path | None = None, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Runs `rl-markets` as a person does."""
    line = [sys.executable, "-m", "rl_markets", *map(str, arguments)]
    return subprocess.run(line, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=os.environ, check=False)


@pytest.fixture(scope="session")
def cournot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example market of the docs, installed as a package of somebody else's into a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    source = shutil.copytree(ROOT / "examples" / "cournot", tmp_path_factory.mktemp("source") / "cournot")
    subprocess.run([*line, "--target", str(folder), str(source)], check=True, timeout=120)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def exported_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported policy; only to be read."""
    folder = tmp_path_factory.mktemp("export") / "policy"
    exported.export(folder, actors(), SPEC)
    return folder


@pytest.fixture
def damaged(exported_policy: Path, tmp_path: Path) -> Path:
    """A copy of the exported policy, to be damaged."""
    return Path(shutil.copytree(exported_policy, tmp_path / "policy"))


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointStore:
    """A store with one good checkpoint, of iteration 1."""
    found = CheckpointStore(tmp_path / "checkpoints")
    found.save(1, fill_old)
    return found
