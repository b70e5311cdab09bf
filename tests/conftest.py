"""Fixtures that all tests share: one Ray, an exported policy, a store, somebody else's package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from rl_markets import exported
from rl_markets.quiet import quiet_ray
from rl_markets.store import CheckpointStore
from tests.support.running import ROOT
from tests.support.storage import SPEC, actors, fill_old

quiet_ray()
torch.set_num_threads(1)


LONG = (
    *("test_what_breaks", "test_certificate", "test_mutants", "test_results", "test_training"),
    *("test_fiscal_answer", "test_impostors", "test_groups_of_households", "test_populations"),
    *("test_goes_on", "test_homes", "test_faults", "test_cli", "test_docs", "test_soak"),
)
"""Files that take longest, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: the last one should not keep a single process busy."""
    place = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


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
    from tests.support.replaying import Held

    holder = Held()
    yield holder
    for algorithm in holder.algorithms:
        algorithm.stop()


@pytest.fixture(scope="session")
def cournot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example market of the docs, installed as somebody else's package.

    It lies in a folder of its own.
    """
    folder = tmp_path_factory.mktemp("site")
    line = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    source = shutil.copytree(
        ROOT / "examples" / "cournot", tmp_path_factory.mktemp("source") / "cournot"
    )
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
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(1, fill_old)
    return store
