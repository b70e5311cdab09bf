"""Atomic, verified folders: checkpoints and exported policies.

A folder is written under a temporary name, every file is flushed to the disk and listed with size
and sha256 in `manifest.json`, which carries its own sha256, and only then is it renamed. Whoever
reads it verifies it. So a crash leaves either the whole folder or none, and a flipped bit or a
missing file is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rl_markets.errors import CorruptError
from rl_markets.say import Say

MANIFEST = "manifest.json"
_TEMPORARY = ".writing-"


def sha256_of(path: Path) -> str:
    """A file's digest, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _manifest(entries: dict[str, Any]) -> str:
    own = hashlib.sha256(json.dumps(entries).encode()).hexdigest()
    return json.dumps({"sha256": own, "files": entries}, indent=1)


@contextmanager
def written(folder: Path) -> Iterator[Path]:
    """Gives a temporary folder to fill; on leaving, it becomes `folder`, whole.

    An exception leaves nothing.

    Raises:
        FileExistsError: if `folder` exists.
        OSError: full disk, no permission; nothing is left, unless only the very last flush failed.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f"{_TEMPORARY}{folder.name}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)  # a killed process may have had the same id
    temporary.mkdir()
    try:
        yield temporary
        # The order matters: all content is on the disk before the name is.
        _seal(temporary)
        os.rename(temporary, folder)
        _fsync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _seal(folder: Path) -> None:
    """Flushes all files and folders to the disk and lists the files in the manifest."""
    entries = {}
    for path in _files(folder):
        entries[path.relative_to(folder).as_posix()] = _entry(path)
        _fsync(path)
    write_text(folder / MANIFEST, _manifest(entries))
    for path in (*folder.rglob("*"), folder):
        if path.is_dir():
            _fsync(path)  # a folder's names are its own content


def verify(folder: Path) -> None:
    """Compares a folder with its manifest.

    Raises:
        CorruptError: names the first file that is missing, too short or long, changed, or not
            listed.
    """
    entries = _read_manifest(folder / MANIFEST)
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            raise CorruptError(f"{path}: missing")
        if path.stat().st_size != entry["bytes"]:  # quicker than the sum, and says more
            raise CorruptError(f"{path}: {path.stat().st_size} bytes, expected {entry['bytes']}")
        if sha256_of(path) != entry["sha256"]:
            raise CorruptError(f"{path}: its content changed since it was written (sha256 differs)")
    for path in _files(folder):
        if path.relative_to(folder).as_posix() not in entries:
            raise CorruptError(f"{path}: not in the manifest")


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_file():  # a pipe would be waited for
        raise CorruptError(f"{path}: missing")
    try:
        text = path.read_text(encoding="utf-8")
        entries: dict[str, Any] = json.loads(text)["files"]
    except (KeyError, RecursionError, TypeError, ValueError):
        raise CorruptError(f"{path}: not a manifest") from None
    if not isinstance(entries, dict) or not all(map(_lists, entries.items())):
        raise CorruptError(f"{path}: not a manifest")
    if text != _manifest(entries):  # byte for byte, its own sha256 included
        raise CorruptError(f"{path}: its content changed since it was written (sha256 differs)")
    return entries


def _lists(entry: tuple[str, Any]) -> bool:
    """Whether a manifest's entry is one: a file inside the folder, its size and sum."""
    name, told = entry
    inside = not Path(name).is_absolute() and ".." not in Path(name).parts
    return inside and isinstance(told, dict) and told.keys() == {"bytes", "sha256"}


def write_text(path: Path, text: str) -> None:
    """Writes a small file atomically: all of it or nothing, on the disk when this returns."""
    temporary = path.with_name(f"{_TEMPORARY}{path.name}-{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _fsync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class CheckpointStore:
    """The checkpoints of one run, `checkpoints/<iteration>/`, newest last.

    Args:
        root: the folder `checkpoints`; need not exist.
        keep: how many stay when another is saved.
    """

    def __init__(self, root: Path, keep: int = 3) -> None:
        self.root = root
        self.keep = keep

    def iterations(self) -> list[int]:
        """The iterations of which there is a checkpoint (verified or not), ascending."""
        if not self.root.is_dir():
            return []
        folders = [p for p in self.root.iterdir() if p.is_dir() and p.name.isdecimal()]
        # Folders named as `path` names them: `7` is none of ours, `00000007` is.
        return sorted(int(p.name) for p in folders if p == self.path(int(p.name)))

    def path(self, iteration: int) -> Path:
        """Where the checkpoint of `iteration` lies."""
        return self.root / f"{iteration:08d}"

    def save(self, iteration: int, write: Callable[[Path], None]) -> Path:
        """Lets `write` fill a new checkpoint; then removes the oldest beyond `keep`.

        Never the new one, and none of later iterations.

        Args:
            iteration: of the checkpoint.
            write: is given the folder to fill.

        Returns:
            where the checkpoint lies.

        Raises:
            FileExistsError: if there is one of this iteration.
            OSError: full disk, no permission.
        """
        self._sweep()
        with written(self.path(iteration)) as temporary:
            write(temporary)
        older = [i for i in self.iterations() if i < iteration]
        for old in older[: max(0, len(older) + 1 - self.keep)]:
            self._remove(old)
        return self.path(iteration)

    def newest(self, complain: Say) -> Path | None:
        """The newest checkpoint that verifies, or None.

        `complain` gets one line for each newer one that does not.
        """
        for iteration in reversed(self.iterations()):
            try:
                verify(self.path(iteration))
            except (CorruptError, OSError) as error:
                complain(f"checkpoint {self.path(iteration).name} refused: {error}")
                continue
            return self.path(iteration)
        return None

    def discard_after(self, iteration: int) -> None:
        """Removes checkpoints beyond `iteration`, which were refused, and half-written ones."""
        for later in self.iterations():
            if later > iteration:
                self._remove(later)
        self._sweep()

    def _remove(self, iteration: int) -> None:
        """Removes a checkpoint: all of it, or none of what has its name."""
        going = self.root / f"{_TEMPORARY}{self.path(iteration).name}-{os.getpid()}"
        shutil.rmtree(going, ignore_errors=True)
        os.rename(self.path(iteration), going)
        shutil.rmtree(going)

    def _sweep(self) -> None:
        """Removes what a killed process left half-written, or half-removed."""
        for path in self.root.glob(f"{_TEMPORARY}*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
