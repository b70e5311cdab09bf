"""Temporary folders of a run: they go with it, and those of killed runs at the next start."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rl_markets.errors import RunFailedError

PREFIX = "rl-markets-"
LONGEST = 42
"""Of Ray's folder: a socket's path has at most 107 characters, and Ray adds 64 of its own."""
RANDOM = 8
"""Characters that `tempfile` adds to a name."""


def new_folder(base: Path | None = None) -> Path:
    """A folder of this process; whoever made it removes it."""
    sweep(base or Path(tempfile.gettempdir()))
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))


def sweep(base: Path) -> None:
    """Removes what processes of ours that are no more left in `base`."""
    for path in base.glob(f"{PREFIX}*-*"):
        process = path.name.removeprefix(PREFIX).partition("-")[0]
        try:
            left = process.isdecimal() and not _alive(int(process))
            if left and path.is_dir() and path.stat().st_uid == os.getuid():
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # another start sweeps it, too
            continue


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # somebody else's
        return True
    return True


@contextmanager
def ray_folder() -> Iterator[Path]:
    """A folder for Ray's session, short enough for its sockets, removed in the end.

    Raises:
        RunFailedError: there is no such place, and what to set.
    """
    folder = new_folder(_base())
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _base() -> Path:
    """The first place that Ray can use; `RAY_TMPDIR` alone where it is set."""
    own = os.environ.get("RAY_TMPDIR")
    places = [own] if own else [tempfile.gettempdir(), "/tmp", "/var/tmp"]
    for place in places:
        path = Path(place).absolute()
        name = f"{PREFIX}{os.getpid()}-" + "x" * RANDOM
        if len(str(path / name)) <= LONGEST and os.access(path, os.W_OK | os.X_OK):
            return path
    raise RunFailedError(
        f"{'RAY_TMPDIR' if own else 'TMPDIR'} = {places[0]!r}: too long for Ray's sockets, or not "
        "writable; set RAY_TMPDIR to a writable folder with a short path, such as /tmp"
    )
