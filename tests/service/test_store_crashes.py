"""A crash, a kill, a full or read-only disk: what is stored is the old or the new, whole."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rl_markets import exported
from rl_markets.policies.actors import NetworkActor
from rl_markets.store import MANIFEST, CheckpointStore, write_text
from tests.support.running import ROOT, command
from tests.support.storage import ACTOR, SPEC, actors, fill, fill_old, newest, tree

# -- crashes ---------------------------------------------------------------------------------------

CALLS = ("fsync", "rename", "replace")
SAVING = (
    *("fsync", "fsync"),  # two files
    *("fsync", "replace", "fsync"),  # the manifest
    *("fsync", "fsync", "fsync"),  # three folders
    *("rename", "fsync"),  # it appears
)
"""What `CheckpointStore.save` asks of the disk, in order."""
WRITING = ("fsync", "replace", "fsync")
"""What `write_text` asks of the disk, in order."""


class SimulatedCrash(BaseException):
    """The process ends here, but for its `except` and `finally` clauses."""


@pytest.fixture
def crash_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, str], list[str]]:
    """Makes the n-th flush or rename from now on crash, before or after it is done.

    Gives all calls.
    """

    def install(number: int, when: str) -> list[str]:
        calls: list[str] = []

        def patched(name: str, real: Callable[..., None]) -> Callable[..., None]:
            def call(*arguments: Any) -> None:
                calls.append(name)
                here = len(calls) == number
                if here and when == "before":
                    raise SimulatedCrash
                real(*arguments)
                if here:
                    raise SimulatedCrash

            return call

        for name in CALLS:
            monkeypatch.setattr(os, name, patched(name, getattr(os, name)))
        return calls

    return install


KILLER = """
import os, signal, sys
from pathlib import Path
from rl_markets.store import CheckpointStore, write_text

root, action, number, when = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
calls = 0

def deadly(real):
    def call(*arguments):
        global calls
        calls += 1
        here = calls == number
        if here and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        real(*arguments)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
    return call

def fill(folder):
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "weights").write_bytes(b"w" * 5000)
    (folder / "state").write_text("new")

for name in ("fsync", "rename", "replace"):
    setattr(os, name, deadly(getattr(os, name)))
if action == "save":
    CheckpointStore(root).save(2, fill)
else:
    write_text(root / "note", "new and longer")
"""


def kill_at(root: Path, action: str, number: int, when: str) -> None:
    command = [sys.executable, "-c", KILLER, str(root), action, str(number), when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")


def litter(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.name.startswith(".")]


def check_old_or_new(checkpoints: CheckpointStore, number: int, when: str) -> None:
    """The second checkpoint is there, whole, from its rename on; before, only the first one is."""
    rename = SAVING.index("rename") + 1
    is_new = number > rename or (number == rename and when == "after")
    assert checkpoints.iterations() == ([1, 2] if is_new else [1])
    checkpoint = newest(checkpoints)
    assert checkpoint == checkpoints.path(2 if is_new else 1)
    names = {"a/b/weights", "state", MANIFEST} if is_new else {"state", MANIFEST}
    assert set(tree(checkpoint)) == names


before_and_after = pytest.mark.parametrize("when", ["before", "after"])
save_points = pytest.mark.parametrize("number", range(1, len(SAVING) + 1))
write_points = pytest.mark.parametrize("number", range(1, len(WRITING) + 1))


def test_the_points_are_all_there_are(
    checkpoints: CheckpointStore, crash_at: Any, tmp_path: Path
) -> None:
    calls = crash_at(0, "never")
    checkpoints.save(2, fill)
    assert tuple(calls) == SAVING
    calls.clear()
    write_text(tmp_path / "note", "text")
    assert tuple(calls) == WRITING


@before_and_after
@save_points
def test_crash_while_saving(
    checkpoints: CheckpointStore, crash_at: Any, number: int, when: str
) -> None:
    crash_at(number, when)
    with pytest.raises(SimulatedCrash):
        checkpoints.save(2, fill)
    check_old_or_new(checkpoints, number, when)
    assert litter(checkpoints.root) == []


@before_and_after
@save_points
def test_kill_while_saving(checkpoints: CheckpointStore, number: int, when: str) -> None:
    kill_at(checkpoints.root, "save", number, when)
    check_old_or_new(checkpoints, number, when)
    assert len(litter(checkpoints.root)) == (0 if checkpoints.path(2).exists() else 1)
    checkpoints.discard_after(1)
    assert [path.name for path in checkpoints.root.iterdir()] == ["00000001"]
    assert newest(checkpoints) == checkpoints.path(1)


@before_and_after
@pytest.mark.parametrize("number", [1, 5, 9])
def test_saving_after_a_kill(checkpoints: CheckpointStore, number: int, when: str) -> None:
    kill_at(checkpoints.root, "save", number, when)
    checkpoints.save(3, fill)
    assert newest(checkpoints) == checkpoints.path(3)
    assert litter(checkpoints.root) == []


@before_and_after
@write_points
def test_crash_while_writing_text(tmp_path: Path, crash_at: Any, number: int, when: str) -> None:
    note = tmp_path / "note"
    write_text(note, "old")
    crash_at(number, when)
    with pytest.raises(SimulatedCrash):
        write_text(note, "new and longer")
    replaced = number > 2 or (number == 2 and when == "after")
    assert tree(tmp_path) == {"note": b"new and longer" if replaced else b"old"}


@before_and_after
@write_points
def test_kill_while_writing_text(tmp_path: Path, number: int, when: str) -> None:
    note = tmp_path / "note"
    write_text(note, "old")
    kill_at(tmp_path, "write", number, when)
    replaced = number > 2 or (number == 2 and when == "after")
    assert note.read_text() == ("new and longer" if replaced else "old")
    write_text(note, "newest")
    assert note.read_text() == "newest"


def test_crash_while_the_checkpoint_is_filled(checkpoints: CheckpointStore) -> None:
    def crash(folder: Path) -> None:
        fill(folder)
        raise SimulatedCrash

    with pytest.raises(SimulatedCrash):
        checkpoints.save(2, crash)
    assert [path.name for path in checkpoints.root.iterdir()] == ["00000001"]


def test_crash_while_old_checkpoints_are_removed(
    checkpoints: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, **_: Any) -> None:
        if "00000001" in path.name and path.is_dir():
            (path / "state").unlink()
            raise SimulatedCrash

    checkpoints.keep = 1
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", half)
        with pytest.raises(SimulatedCrash):
            checkpoints.save(2, fill)
    assert newest(checkpoints) == checkpoints.path(2)
    assert checkpoints.iterations() == [2], "half a checkpoint has another name"
    checkpoints.save(3, fill)
    assert [path.name for path in checkpoints.root.iterdir()] == ["00000003"]


def test_what_exists_is_never_overwritten(checkpoints: CheckpointStore) -> None:
    before = tree(checkpoints.root)
    with pytest.raises(FileExistsError, match="00000001"):
        checkpoints.save(1, fill)
    assert tree(checkpoints.root) == before


# -- disks that refuse -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "rl-markets-test", str(disk)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine lets us mount no small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill_large(folder: Path) -> None:
    for i in range(64):
        (folder / f"{i}").write_bytes(b"w" * 2**16)


def test_full_disk_leaves_the_older_checkpoint(small_disk: Path) -> None:
    checkpoints = CheckpointStore(small_disk / "checkpoints")
    checkpoints.save(1, fill_old)
    with pytest.raises(OSError, match="No space left on device"):
        checkpoints.save(2, fill_large)
    assert [path.name for path in checkpoints.root.iterdir()] == ["00000001"]
    assert newest(checkpoints) == checkpoints.path(1)
    checkpoints.save(2, fill)
    assert newest(checkpoints) == checkpoints.path(2)


def test_full_disk_leaves_the_older_text_and_no_policy(small_disk: Path) -> None:
    write_text(small_disk / "note", "old")
    with pytest.raises(OSError, match="No space left on device"):
        write_text(small_disk / "note", "n" * 2**21)
    wide = {"seller": NetworkActor(ACTOR | {"hidden": [1024, 1024]})}
    with pytest.raises(OSError, match="No space left on device"):
        exported.export(small_disk / "policy", wide, SPEC)
    assert tree(small_disk) == {"note": b"old"}


LIMITED = """
import resource, sys
from pathlib import Path
from rl_markets.store import CheckpointStore, write_text

root = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    store = CheckpointStore(root / "checkpoints")
    store.save(2, lambda folder: (folder / "state").write_bytes(b"w" * 1000))
except OSError as error:
    print(error.strerror)
try:
    write_text(root / "note", "n" * 1000)
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("limit", [500, 0], ids=["a-part-fits", "nothing-fits"])
def test_file_size_limit_leaves_what_was_there(
    checkpoints: CheckpointStore, tmp_path: Path, limit: int
) -> None:
    write_text(tmp_path / "note", "old")
    before = tree(tmp_path)
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == ["File too large"] * 2
    assert tree(tmp_path) == before
    assert newest(checkpoints) == checkpoints.path(1)


def test_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for act in (
        lambda: CheckpointStore(tmp_path / "file").save(1, fill),
        lambda: CheckpointStore(tmp_path / "file" / "checkpoints").save(1, fill),
        lambda: exported.export(tmp_path / "file", actors(), SPEC),
        lambda: exported.export(tmp_path / "file" / "policy", actors(), SPEC),
        lambda: write_text(tmp_path / "file" / "note", "text"),
    ):
        with pytest.raises(OSError, match="file"):
            act()
    assert tree(tmp_path) == {"file": b"mine"}
    assert CheckpointStore(tmp_path / "file").iterations() == []


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write into `folder`, not even root: then the disk itself is mounted so."""
    if os.geteuid() != 0:
        folder.chmod(0o500)
        try:
            yield
        finally:
            folder.chmod(0o700)
        return
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=True)


def test_read_only_folder(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root = request.getfixturevalue("small_disk") if os.geteuid() == 0 else tmp_path
    checkpoints = CheckpointStore(root)
    checkpoints.save(1, fill_old)
    before = tree(root)
    with read_only(root):
        for act in (lambda: checkpoints.save(2, fill), lambda: write_text(root / "note", "text")):
            with pytest.raises(OSError, match=r"Permission denied|Read-only file system"):
                act()
        done = command(
            "train",
            ROOT / "tune_configs" / "households-rbc.yaml",
            "--smoke",
            "--runs",
            root / "runs",
        )
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1
        assert re.search("Permission denied|Read-only file system", done.stderr)
    assert tree(root) == before
    assert newest(checkpoints) == checkpoints.path(1)
