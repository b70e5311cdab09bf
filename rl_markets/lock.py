"""One writer for a folder: a second is refused in one line, and a dead one's lock is nobody's.

The lock is the operating system's, on an open file, and so ends with the process that holds it,
however that ends. The file's text says who it is.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rl_markets.errors import ExperimentError

LOCK = ".lock"
UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""Errors of file systems without locks: there the text alone tells."""


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Holds `folder` for the duration.

    Raises:
        ExperimentError: another process writes it; the line names process, host and since when.
    """
    path = folder / LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if _is_anothers(descriptor, path):
            raise ExperimentError(f"{folder}: {_owner(path)} writes it; wait for it, or stop it")
        _write(descriptor, json.dumps(_self()))
        yield
        _write(descriptor, "")
    finally:
        os.close(descriptor)


def _self() -> dict[str, object]:
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now}


def _is_anothers(descriptor: int, path: Path) -> bool:
    """Whether a process that lives holds the lock; if not, it is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        owner = _read(path)
        here = owner.get("host") == socket.gethostname() and owner.get("pid") != os.getpid()
        return here and Path(f"/proc/{owner.get('pid')}").exists()
    return False


def _read(path: Path) -> dict[str, object]:
    """What the text says; nothing where there is none, or another's."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _owner(path: Path) -> str:
    owner = _read(path)
    if "pid" not in owner:
        return "another process"
    return f"process {owner['pid']} on {owner.get('host')} (since {owner.get('since')})"


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)
