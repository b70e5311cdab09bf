"""What is stored is whole or not there, and what is damaged is refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rl_markets import exported
from rl_markets.errors import CorruptError
from rl_markets.store import MANIFEST, CheckpointStore, verify, written
from tests.support.storage import fill, newest, tree

# -- damage ----------------------------------------------------------------------------------------

EXPORTED = (
    "golden.safetensors",
    "golden.actions.safetensors",
    "policy.json",
    "seller.safetensors",
    MANIFEST,
)


def test_exported_files_are_those_tested_below(exported_policy: Path) -> None:
    assert sorted(tree(exported_policy)) == sorted(EXPORTED)
    verify(exported_policy)


@pytest.mark.parametrize("bit", [0, 1, 5, 7])
@pytest.mark.parametrize("where", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", EXPORTED)
def test_flipped_bit_is_refused_by_name(damaged: Path, name: str, where: float, bit: int) -> None:
    content = bytearray((damaged / name).read_bytes())
    content[round(where * (len(content) - 1))] ^= 1 << bit
    (damaged / name).write_bytes(content)
    with pytest.raises(CorruptError) as caught:
        exported.load(damaged)
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
        exported.load(damaged)
    assert str(caught.value) == f"{damaged / name}: missing"


@pytest.mark.parametrize("name", EXPORTED)
@pytest.mark.parametrize("change", [-1, 1, -(10**9)], ids=["a-byte-short", "a-byte-long", "empty"])
def test_wrong_length_is_named(damaged: Path, name: str, change: int) -> None:
    path = damaged / name
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + b"\0")
    with pytest.raises(CorruptError) as caught:
        exported.load(damaged)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["more.bin", "deep/more.bin", f"deep/{MANIFEST}"])
def test_extra_file_is_named(damaged: Path, name: str) -> None:
    (damaged / name).parent.mkdir(exist_ok=True)
    (damaged / name).touch()
    with pytest.raises(CorruptError) as caught:
        exported.load(damaged)
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
        exported.load(damaged)


# -- falling back and pruning ----------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def saved(root: Path, iterations: range, keep: int = 10) -> CheckpointStore:
    store = CheckpointStore(root, keep)
    for iteration in iterations:
        store.save(iteration, fill)
    return store


def test_newest_falls_back_over_bad_checkpoints(tmp_path: Path) -> None:
    store = saved(tmp_path, range(1, 8))
    flip(store.path(7) / "a" / "b" / "weights")
    (store.path(6) / MANIFEST).unlink()
    os.truncate(store.path(5) / "state", 1)
    (store.path(4) / "a" / "b" / "weights").unlink()
    flip(store.path(3) / MANIFEST)
    complaints: list[str] = []
    assert store.newest(complaints.append) == store.path(2)
    files = ["7/a/b/weights", f"6/{MANIFEST}", "5/state", "4/a/b/weights", f"3/{MANIFEST}"]
    assert [line.split(": ")[1] for line in complaints] == [
        f"{tmp_path}/0000000{name}" for name in files
    ]
    assert [line.split(": ")[0] for line in complaints] == [
        f"checkpoint 0000000{i} refused" for i in (7, 6, 5, 4, 3)
    ]


def test_newest_is_none_where_nothing_is_good(tmp_path: Path) -> None:
    assert newest(CheckpointStore(tmp_path / "none")) is None
    store = saved(tmp_path, range(1, 3))
    flip(store.path(1) / "state")
    (store.path(2) / MANIFEST).unlink()
    (store.path(2) / MANIFEST).mkdir()
    complaints: list[str] = []
    assert store.newest(complaints.append) is None
    assert len(complaints) == 2
    assert all(MANIFEST in line or "state" in line for line in complaints)


def test_discard_after_makes_room_for_a_resumed_run(tmp_path: Path) -> None:
    store = saved(tmp_path, range(1, 5))
    (tmp_path / ".writing-00000005-1").mkdir()
    (tmp_path / ".writing-00000005-1" / "part").touch()
    (tmp_path / ".writing-note-1").touch()
    store.discard_after(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001", "00000002"]
    assert newest(saved(tmp_path, range(3, 4))) == store.path(3)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_pruning_keeps_the_newest(tmp_path: Path, keep: int) -> None:
    store = CheckpointStore(tmp_path, keep)
    for iteration in range(1, 6):
        for older in store.iterations():
            flip(store.path(older) / "state")
        store.save(iteration, fill)
        assert store.iterations() == list(range(max(1, iteration - keep + 1), iteration + 1))
        assert store.newest(lambda line: None) == store.path(iteration)


def test_pruning_spares_a_new_checkpoint_below_stale_ones(tmp_path: Path) -> None:
    saved(tmp_path, range(7, 10))
    store = saved(tmp_path, range(2, 4), keep=2)
    assert store.iterations() == [2, 3, 7, 8, 9]
    verify(store.path(3))


def test_strangers_among_checkpoints_are_left_alone(tmp_path: Path) -> None:
    strangers = ["5", "\u00b2", "000000003", "notes", "-0000001", "00000008x"]
    for name in strangers:
        (tmp_path / name).mkdir()
    (tmp_path / "00000009").touch()
    store = saved(tmp_path, range(1, 4), keep=1)
    assert store.iterations() == [3]
    assert all((tmp_path / name).is_dir() for name in strangers)


def test_a_stray_folder_hides_no_checkpoint(checkpoints: CheckpointStore) -> None:
    """`1` beside `00000001`: a folder of somebody else's, whatever order the disk lists them in."""
    (checkpoints.root / "1").mkdir()
    assert checkpoints.iterations() == [1]
