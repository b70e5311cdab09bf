"""What is stored is whole or not there, and what is damaged is refused by name."""

from __future__ import annotations

import csv
import json
import math
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

import numpy as np
import pytest
import torch
from conftest import ROOT, command
from safetensors.torch import load_file, save

from rl_markets import metrics, policy
from rl_markets.experiment import Experiment, parse
from rl_markets.experiment_errors import ExperimentError
from rl_markets.policies.networks import Actor
from rl_markets.runs import MetricsLog, RunFolder, read_rows
from rl_markets.store import MANIFEST, CheckpointStore, CorruptError, verify, write_text, written

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


def actors() -> dict[str, Actor]:
    """Two small policies; one is called like the file of golden actions."""
    return {name: Actor(ACTOR, torch.Generator().manual_seed(i)) for i, name in enumerate(SPEC["policies"])}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported policy; only to be read."""
    folder = tmp_path_factory.mktemp("export") / "policy"
    policy.export(folder, actors(), SPEC)
    return folder


@pytest.fixture
def damaged(exported: Path, tmp_path: Path) -> Path:
    """A copy of the exported policy, to be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "policy"))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rewritten(folder: Path, target: Path, change: Callable[[Path], None]) -> Path:
    """A copy whose files were changed and then listed anew, as somebody with access to the disk could do."""
    with written(target) as temporary:
        shutil.copytree(folder, temporary, dirs_exist_ok=True)
        change(temporary)
    return target


# -- damage --------------------------------------------------------------------------------------------------

EXPORTED = ("golden.safetensors", "golden.actions.safetensors", "policy.json", "seller.safetensors", MANIFEST)


def test_exported_files_are_those_tested_below(exported: Path) -> None:
    assert sorted(tree(exported)) == sorted(EXPORTED)
    verify(exported)


@pytest.mark.parametrize("bit", [0, 1, 5, 7])
@pytest.mark.parametrize("where", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", EXPORTED)
def test_flipped_bit_is_refused_by_name(damaged: Path, name: str, where: float, bit: int) -> None:
    content = bytearray((damaged / name).read_bytes())
    content[round(where * (len(content) - 1))] ^= 1 << bit
    (damaged / name).write_bytes(content)
    with pytest.raises(CorruptError) as caught:
        policy.load(damaged)
    assert str(caught.value).startswith(f"{damaged / name}: ")


def test_every_bit_of_the_manifest_counts(damaged: Path) -> None:
    path = damaged / MANIFEST
    good = path.read_bytes()
    for position in range(8 * len(good)):
        content = bytearray(good)
        content[position // 8] ^= 1 << position % 8
        path.write_bytes(content)
        with pytest.raises(CorruptError, match=MANIFEST):
            verify(damaged)


@pytest.mark.parametrize("name", EXPORTED)
def test_missing_file_is_named(damaged: Path, name: str) -> None:
    (damaged / name).unlink()
    with pytest.raises(CorruptError) as caught:
        policy.load(damaged)
    assert str(caught.value) == f"{damaged / name}: missing"


@pytest.mark.parametrize("name", EXPORTED)
@pytest.mark.parametrize("change", [-1, 1, -(10**9)], ids=["a-byte-short", "a-byte-long", "empty"])
def test_wrong_length_is_named(damaged: Path, name: str, change: int) -> None:
    path = damaged / name
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + b"\0")
    with pytest.raises(CorruptError) as caught:
        policy.load(damaged)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["more.bin", "deep/more.bin", f"deep/{MANIFEST}"])
def test_extra_file_is_named(damaged: Path, name: str) -> None:
    (damaged / name).parent.mkdir(exist_ok=True)
    (damaged / name).touch()
    with pytest.raises(CorruptError) as caught:
        policy.load(damaged)
    assert str(caught.value) == f"{damaged / name}: not in the manifest"


def test_a_manifest_deeper_down_is_a_file_like_others(tmp_path: Path) -> None:
    with written(tmp_path / "a") as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / MANIFEST).write_text("1")
    verify(tmp_path / "a")
    (tmp_path / "a" / "deep" / MANIFEST).write_text("2")
    with pytest.raises(CorruptError, match=f"deep/{MANIFEST}: its content changed"):
        verify(tmp_path / "a")


MANIFESTS = [
    "",
    "[]",
    "null",
    "{}",
    '{"files": []}',
    '{"files": {"a": {}}}',
    '{"files": {"a": 1}}',
    "[" * 10**5,
]


@pytest.mark.parametrize("text", MANIFESTS, ids=lambda text: text[:20])
def test_what_is_no_manifest_is_refused(damaged: Path, text: str) -> None:
    (damaged / MANIFEST).write_text(text)
    with pytest.raises(CorruptError, match=MANIFEST):
        policy.load(damaged)


# -- crashes -------------------------------------------------------------------------------------------------

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
    """Makes the n-th flush or rename from now on crash, before or after it is done; gives all calls."""

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


def fill(folder: Path) -> None:
    """A checkpoint of two files in nested folders."""
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "weights").write_bytes(b"w" * 5000)
    (folder / "state").write_text("new")


def fill_old(folder: Path) -> None:
    (folder / "state").write_text("old")


def litter(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.name.startswith(".")]


def newest(checkpoints: CheckpointStore) -> Path | None:
    """The newest checkpoint, of which none may be refused."""
    complaints: list[str] = []
    found = checkpoints.newest(complaints.append)
    assert complaints == []
    return found


def check_old_or_new(checkpoints: CheckpointStore, number: int, when: str) -> None:
    """The second checkpoint is there, whole, from its rename on; before, only the first one is."""
    rename = SAVING.index("rename") + 1
    is_new = number > rename or (number == rename and when == "after")
    assert checkpoints.iterations() == ([1, 2] if is_new else [1])
    found = newest(checkpoints)
    assert found == checkpoints.path(2 if is_new else 1)
    names = {"a/b/weights", "state", MANIFEST} if is_new else {"state", MANIFEST}
    assert set(tree(found)) == names


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointStore:
    """A store with one good checkpoint, of iteration 1."""
    found = CheckpointStore(tmp_path / "checkpoints")
    found.save(1, fill_old)
    return found


before_and_after = pytest.mark.parametrize("when", ["before", "after"])
save_points = pytest.mark.parametrize("number", range(1, len(SAVING) + 1))
write_points = pytest.mark.parametrize("number", range(1, len(WRITING) + 1))


def test_the_points_are_all_there_are(checkpoints: CheckpointStore, crash_at: Any, tmp_path: Path) -> None:
    calls = crash_at(0, "never")
    checkpoints.save(2, fill)
    assert tuple(calls) == SAVING
    calls.clear()
    write_text(tmp_path / "note", "text")
    assert tuple(calls) == WRITING


@before_and_after
@save_points
def test_crash_while_saving(checkpoints: CheckpointStore, crash_at: Any, number: int, when: str) -> None:
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


def test_crash_while_old_checkpoints_are_removed(checkpoints: CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, **_: Any) -> None:
        if path.name == "00000001":
            (path / "state").unlink()
            raise SimulatedCrash

    checkpoints.keep = 1
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", half)
        with pytest.raises(SimulatedCrash):
            checkpoints.save(2, fill)
    assert newest(checkpoints) == checkpoints.path(2)
    checkpoints.save(3, fill)
    assert checkpoints.iterations() == [3]


def test_what_exists_is_never_overwritten(checkpoints: CheckpointStore) -> None:
    before = tree(checkpoints.root)
    with pytest.raises(FileExistsError, match="00000001"):
        checkpoints.save(1, fill)
    assert tree(checkpoints.root) == before


# -- disks that refuse ---------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "rl-markets-test", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
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
    wide = {"seller": Actor(ACTOR | {"hidden": [1024, 1024]})}
    with pytest.raises(OSError, match="No space left on device"):
        policy.export(small_disk / "policy", wide, SPEC)
    assert tree(small_disk) == {"note": b"old"}


LIMITED = """
import resource, sys
from pathlib import Path
from rl_markets.store import CheckpointStore, write_text

root = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
try:
    CheckpointStore(root / "checkpoints").save(2, lambda folder: (folder / "state").write_bytes(b"w" * 1000))
except OSError as error:
    print(error.strerror)
try:
    write_text(root / "note", "n" * 1000)
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("limit", [500, 0], ids=["a-part-fits", "nothing-fits"])
def test_file_size_limit_leaves_what_was_there(checkpoints: CheckpointStore, tmp_path: Path, limit: int) -> None:
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
        lambda: policy.export(tmp_path / "file", actors(), SPEC),
        lambda: policy.export(tmp_path / "file" / "policy", actors(), SPEC),
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
        done = command("train", ROOT / "tune_configs" / "households-rbc.yaml", "--smoke", "--runs", root / "runs")
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1
        assert re.search("Permission denied|Read-only file system", done.stderr)
    assert tree(root) == before
    assert newest(checkpoints) == checkpoints.path(1)


# -- falling back and pruning --------------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def saved(root: Path, iterations: range, keep: int = 10) -> CheckpointStore:
    found = CheckpointStore(root, keep)
    for iteration in iterations:
        found.save(iteration, fill)
    return found


def test_newest_falls_back_over_bad_checkpoints(tmp_path: Path) -> None:
    found = saved(tmp_path, range(1, 8))
    flip(found.path(7) / "a" / "b" / "weights")
    (found.path(6) / MANIFEST).unlink()
    os.truncate(found.path(5) / "state", 1)
    (found.path(4) / "a" / "b" / "weights").unlink()
    flip(found.path(3) / MANIFEST)
    complaints: list[str] = []
    assert found.newest(complaints.append) == found.path(2)
    files = ["7/a/b/weights", f"6/{MANIFEST}", "5/state", "4/a/b/weights", f"3/{MANIFEST}"]
    assert [line.split(": ")[1] for line in complaints] == [f"{tmp_path}/0000000{name}" for name in files]
    assert [line.split(": ")[0] for line in complaints] == [f"checkpoint 0000000{i} refused" for i in (7, 6, 5, 4, 3)]


def test_newest_is_none_where_nothing_is_good(tmp_path: Path) -> None:
    assert newest(CheckpointStore(tmp_path / "none")) is None
    found = saved(tmp_path, range(1, 3))
    flip(found.path(1) / "state")
    (found.path(2) / MANIFEST).unlink()
    (found.path(2) / MANIFEST).mkdir()
    complaints: list[str] = []
    assert found.newest(complaints.append) is None
    assert len(complaints) == 2
    assert all(MANIFEST in line or "state" in line for line in complaints)


def test_discard_after_makes_room_for_a_resumed_run(tmp_path: Path) -> None:
    found = saved(tmp_path, range(1, 5))
    (tmp_path / ".writing-00000005-1").mkdir()
    (tmp_path / ".writing-00000005-1" / "part").touch()
    (tmp_path / ".writing-note-1").touch()
    found.discard_after(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001", "00000002"]
    assert newest(saved(tmp_path, range(3, 4))) == found.path(3)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_pruning_keeps_the_newest(tmp_path: Path, keep: int) -> None:
    found = CheckpointStore(tmp_path, keep)
    for iteration in range(1, 6):
        for older in found.iterations():
            flip(found.path(older) / "state")
        found.save(iteration, fill)
        assert found.iterations() == list(range(max(1, iteration - keep + 1), iteration + 1))
        assert found.newest(lambda line: None) == found.path(iteration)


def test_pruning_spares_a_new_checkpoint_below_stale_ones(tmp_path: Path) -> None:
    saved(tmp_path, range(7, 10))
    found = saved(tmp_path, range(2, 4), keep=2)
    assert found.iterations() == [2, 3, 7, 8, 9]
    verify(found.path(3))


def test_strangers_among_checkpoints_are_left_alone(tmp_path: Path) -> None:
    strangers = ["5", "\u00b2", "000000003", "notes", "-0000001", "00000008x"]
    for name in strangers:
        (tmp_path / name).mkdir()
    (tmp_path / "00000009").touch()
    found = saved(tmp_path, range(1, 4), keep=1)
    assert found.iterations() == [3]
    assert all((tmp_path / name).is_dir() for name in strangers)


# -- exported policies ---------------------------------------------------------------------------------------


def test_loaded_policy_acts_as_the_exported_one(exported: Path) -> None:
    loaded, originals = policy.load(exported), actors()
    batch = torch.randn(5, 2, 3)
    for group, name in {"firms": "seller", "buyers": "golden", "banks": "golden"}.items():
        assert np.array_equal(loaded.act(batch, group), originals[name].act(batch).detach().numpy())
    assert loaded.act(OBSERVATION, "firms").shape == (1,)
    assert loaded.act(np.zeros((0, 3)), "firms").shape == (0, 1)
    assert loaded.spec["actors"]["seller"] == ACTOR


def test_policy_of_a_run_is_found(exported: Path) -> None:
    assert policy.load(exported.parent).groups == policy.load(exported).groups


def test_folder_without_policy(tmp_path: Path, checkpoints: CheckpointStore) -> None:
    for folder in (tmp_path, tmp_path / "none", checkpoints.path(1)):
        with pytest.raises(FileNotFoundError, match="holds no exported policy"):
            policy.load(folder)


def test_export_never_overwrites(damaged: Path) -> None:
    before = tree(damaged)
    with pytest.raises(FileExistsError):
        policy.export(damaged, actors(), SPEC)
    assert tree(damaged) == before


def change_weights(folder: Path) -> None:
    path = folder / "seller.safetensors"
    weights = load_file(path)
    weights["net.2.bias"] = weights["net.2.bias"] + 1e-3
    path.write_bytes(save(weights))


def swap_weights(folder: Path) -> None:
    (folder / "seller.safetensors").write_bytes((folder / "golden.safetensors").read_bytes())


def spoil_weights(folder: Path) -> None:
    path = folder / "seller.safetensors"
    path.write_bytes(save({name: torch.full_like(w, math.nan) for name, w in load_file(path).items()}))


def widen_weights(folder: Path) -> None:
    (folder / "seller.safetensors").write_bytes(save({"net.0.weight": torch.zeros(9, 9)}))


def newer_format(folder: Path) -> None:
    path = folder / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


CHANGES = {
    "changed": (change_weights, "policy 'seller' differs from its golden actions by 0.0002"),
    "swapped": (swap_weights, "policy 'seller' differs from its golden actions"),
    "not-a-number": (spoil_weights, "policy 'seller' differs from its golden actions by nan"),
    "wider": (widen_weights, "seller.safetensors: does not fit"),
    "newer": (newer_format, "policy format 99, this version reads format 1"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_consistent_change_is_refused(exported: Path, tmp_path: Path, case: str) -> None:
    change, expected = CHANGES[case]
    folder = rewritten(exported, tmp_path / "changed", change)
    verify(folder)
    with pytest.raises(ValueError, match=expected):
        policy.load(folder)


OBSERVATIONS = {
    "narrow": ([0.1, 0.2], "observations of group 'firms' have shape (2,): expected [..., 3]"),
    "wide": ([[0.1] * 4] * 2, "observations of group 'firms' have shape (2, 4): expected [..., 3]"),
    "scalar": (1.0, "observations of group 'firms' have shape (): expected [..., 3]"),
    "nothing": (None, "observations of group 'firms' have shape (): expected [..., 3]"),
    "empty": ([], "observations of group 'firms' have shape (0,): expected [..., 3]"),
    "ragged": ([[0.1] * 3, [0.1]], "observations of group 'firms': expected numbers [..., 3]"),
    "nan": ([0.1, math.nan, 0.1], "observations of group 'firms': expected finite numbers"),
    "infinite": ([0.1, 0.1, -math.inf], "observations of group 'firms': expected finite numbers"),
    "null": ([0.1, None, 0.1], "observations of group 'firms': expected finite numbers"),
    "beyond-single-precision": ([0.1, 1e300, 0.1], "observations of group 'firms': expected finite numbers"),
    "beyond-double-precision": ([0.1, 10**400, 0.1], "observations of group 'firms': expected numbers"),
    "text": (["a", "b", "c"], "observations of group 'firms': expected numbers [..., 3]"),
    "mapping": ([{"a": 1}] * 3, "observations of group 'firms': expected numbers [..., 3]"),
}


@pytest.mark.parametrize("case", OBSERVATIONS)
@pytest.mark.filterwarnings("error")
def test_bad_observation_is_refused_by_name(exported: Path, case: str) -> None:
    observations, expected = OBSERVATIONS[case]
    loaded = policy.load(exported)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its message is compared below
        loaded.act(observations, "firms")
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("group", ["nobody", None, "", ["firms"]], ids=repr)
def test_unknown_group_is_refused_by_name(exported: Path, group: Any) -> None:
    with pytest.raises(ValueError, match="expected one of firms, buyers, banks") as caught:
        policy.load(exported).act(OBSERVATION, group)
    assert f"group {group!r}" in str(caught.value)


def test_a_single_group_needs_no_name(tmp_path: Path) -> None:
    actor = Actor(ACTOR)
    policy.export(tmp_path / "policy", {"seller": actor}, {"policies": {"seller": {"groups": ["firms"]}}})
    assert policy.load(tmp_path).act(OBSERVATION) == actor.act(torch.tensor(OBSERVATION)).item()


# -- runs and their logs -------------------------------------------------------------------------------------

CONTENT = {
    "name": "1e5",
    "summary": "1e-4",
    "market": {"name": "households", "worlds": 4, "parameters": {"households": 3}},
    "policies": {"household": {"groups": ["households"]}},
    "algorithm": {"name": "ppo"},
    "training": {"agent_steps": 10_000},
}


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return parse(CONTENT, "tests")


@pytest.fixture
def run(experiment: Experiment, tmp_path: Path) -> RunFolder:
    return RunFolder.create(experiment, tmp_path / "runs")


def test_run_holds_the_experiment_as_it_ran(run: RunFolder, experiment: Experiment) -> None:
    assert RunFolder.open(run.path).experiment == experiment
    assert run.experiment.digest == experiment.digest
    assert run.checkpoints.keep == experiment.training.keep_checkpoints


def test_run_of_a_larger_machine_opens(tmp_path: Path) -> None:
    training = {"agent_steps": 10**9, "runners": 5000}
    large = parse(CONTENT | {"training": training}, "tests")
    assert RunFolder.create(large, tmp_path).experiment == large


def test_latest_points_to_the_newest_run(run: RunFolder, experiment: Experiment, tmp_path: Path) -> None:
    latest = tmp_path / "runs" / "latest"
    assert RunFolder.open(latest).path == run.path.resolve()
    others = [RunFolder.create(experiment, tmp_path / "runs") for _ in range(3)]
    assert len({run.path, *(other.path for other in others)}) == 4
    assert RunFolder.open(latest).path == others[-1].path.resolve()
    assert not Path(os.readlink(latest)).is_absolute()


def test_a_real_folder_called_latest_is_left_alone(experiment: Experiment, tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    RunFolder.create(experiment, tmp_path)
    assert not (tmp_path / "latest").is_symlink()


def test_a_run_never_shares_a_folder(experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(self: Path, **_: Any) -> None:
        raise FileExistsError

    monkeypatch.setattr(Path, "mkdir", taken)
    with pytest.raises(FileExistsError, match="exists already"):
        RunFolder.create(experiment, tmp_path)


def test_folder_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("gone")
    for path in (tmp_path, tmp_path / "latest"):
        with pytest.raises(ExperimentError, match=r"holds no run \(expected experiment.yaml in it\)"):
            RunFolder.open(path)


def row(experiment: Experiment, iteration: int, **figures: float) -> dict[str, float]:
    """A row of distinct figures."""
    columns = metrics.columns(experiment)
    numbers = {name: iteration + i / 7 for i, name in enumerate(columns)}
    counters = {"iteration": iteration, "env_steps": 100 * iteration, "agent_steps": 300 * iteration}
    return numbers | counters | figures


def logged(run: RunFolder, experiment: Experiment, iterations: range, resume_at: int = 0) -> None:
    log = MetricsLog(run, experiment, resume_at)
    for iteration in iterations:
        log.write(row(experiment, iteration))
    log.close()


def json_rows(run: RunFolder) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_rows_are_read_as_they_were_written(run: RunFolder, experiment: Experiment) -> None:
    assert read_rows(run) == []
    logged(run, experiment, range(1, 4))
    rows = [row(experiment, iteration) for iteration in range(1, 4)]
    assert read_rows(run) == rows
    assert json_rows(run) == rows
    assert isinstance(read_rows(run)[0]["iteration"], int)


def test_resuming_drops_later_rows(run: RunFolder, experiment: Experiment) -> None:
    logged(run, experiment, range(1, 6))
    logged(run, experiment, range(3, 4), resume_at=2)
    rows = [row(experiment, iteration) for iteration in range(1, 4)]
    assert read_rows(run) == rows
    assert json_rows(run) == rows


def test_row_cut_off_anywhere_is_ignored(run: RunFolder, experiment: Experiment) -> None:
    logged(run, experiment, range(1, 3))
    path = run.path / "metrics.csv"
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        assert read_rows(run) == [row(experiment, 1)]
    logged(run, experiment, range(2, 4), resume_at=1)
    assert [found["iteration"] for found in read_rows(run)] == [1, 2, 3]


@pytest.mark.parametrize("garbage", [b"\0" * 40, b"\0" * 40 + b"\n", b"\xff\xfe\n", b"a,b\n", b"\n\n", b'"', b"3\n"])
def test_garbage_at_the_end_is_ignored(run: RunFolder, experiment: Experiment, garbage: bytes) -> None:
    logged(run, experiment, range(1, 3))
    with (run.path / "metrics.csv").open("ab") as file:
        file.write(garbage)
    assert read_rows(run) == [row(experiment, 1), row(experiment, 2)]


def test_what_is_no_number_is_empty_or_null(run: RunFolder, experiment: Experiment) -> None:
    log = MetricsLog(run, experiment)
    log.write(row(experiment, 1, distance=math.nan, seconds=math.inf, episode_return=np.float64(0.5)))
    log.close()
    with (run.path / "metrics.csv").open(newline="") as file:
        (text,) = csv.DictReader(file)
    assert (text["distance"], text["seconds"], text["episode_return"]) == ("", "inf", "0.5")
    (plain,) = json_rows(run)
    assert (plain["distance"], plain["seconds"], plain["episode_return"]) == (None, None, 0.5)
    (read,) = read_rows(run)
    assert math.isnan(read["distance"])
    assert read["seconds"] == math.inf


def test_column_that_an_older_version_had_not_is_empty(run: RunFolder, experiment: Experiment) -> None:
    (run.path / "metrics.csv").write_text("iteration,env_steps,agent_steps\n1,10,30\n")
    logged(run, experiment, range(2, 3), resume_at=1)
    first, second = read_rows(run)
    assert (first["agent_steps"], second) == (30, row(experiment, 2))
    assert math.isnan(first["distance"])
