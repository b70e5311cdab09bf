"""Small policies and checkpoints on disk, for tests of what is stored."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from rl_markets.policies.actors import NetworkActor
from rl_markets.store import CheckpointStore, written

BOX = {"type": "box", "low": [0.0], "high": [1.0]}
ACTOR = {
    "observation": 3,
    "action": BOX,
    "hidden": [4],
    "activation": "tanh",
    "log_std": -0.5,
    "trained_std": True,
}
SPEC = {"policies": {"seller": {"groups": ["firms"]}, "golden": {"groups": ["buyers", "banks"]}}}
OBSERVATION = [0.1, -0.2, 0.3]


def actors() -> dict[str, NetworkActor]:
    """Two small policies; one is called like the file of golden actions."""
    return {
        name: NetworkActor(ACTOR, torch.Generator().manual_seed(i))
        for i, name in enumerate(SPEC["policies"])
    }


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def rewritten(folder: Path, target: Path, change: Callable[[Path], None]) -> Path:
    """A copy whose files were changed and then listed anew.

    As somebody with access to the disk could do.
    """
    with written(target) as temporary:
        shutil.copytree(folder, temporary, dirs_exist_ok=True)
        change(temporary)
    return target


def fill(folder: Path) -> None:
    """A checkpoint of two files in nested folders."""
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "weights").write_bytes(b"w" * 5000)
    (folder / "state").write_text("new")


def fill_old(folder: Path) -> None:
    (folder / "state").write_text("old")


def newest(checkpoints: CheckpointStore) -> Path | None:
    """The newest checkpoint, of which none may be refused."""
    complaints: list[str] = []
    checkpoint = checkpoints.newest(complaints.append)
    assert complaints == []
    return checkpoint
