"""Writers that are killed at any time: what is found is whole, old or new."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rl_markets.errors import CorruptError
from rl_markets.store import CheckpointStore, verify, write_text
from tests.attack.judge import Case

KEEP = 3


def cases(generator: random.Random, count: int) -> Iterator[Case]:
    """Kills of a process that saves checkpoints and progress, after so many milliseconds."""
    for _ in range(count):
        seconds = generator.uniform(0.0, 0.2)
        size = generator.choice((10, 10_000, 1_000_000))
        said = f"checkpoints of {size} bytes, killed after {1000 * seconds:.0f} ms"
        yield Case("crashes", said, partial(_attempt, seconds, size))


def _attempt(seconds: float, size: int) -> str:
    with tempfile.TemporaryDirectory() as home:
        root = Path(home)
        process = os.fork()
        if process == 0:
            _write_for_ever(root, size)
        timer = threading.Timer(seconds, os.kill, (process, signal.SIGKILL))
        timer.start()
        os.waitpid(process, 0)
        try:
            return _found(root, size)
        except CorruptError as error:  # nothing of what a reader finds may be
            raise AssertionError(str(error)) from error


def _write_for_ever(root: Path, size: int) -> None:
    """In the copy."""
    store = CheckpointStore(root / "checkpoints", KEEP)
    iteration = 0
    while True:
        iteration += 1
        content = str(iteration % 10) * size

        def fill(folder: Path, content: str = content) -> None:
            (folder / "weights").write_text(content)
            (folder / "more").mkdir()
            (folder / "more" / "state").write_text(content[::-1])

        store.save(iteration, fill)
        write_text(root / "progress", content)


def _found(root: Path, size: int) -> str:
    """What a reader finds, which has to be whole."""
    store = CheckpointStore(root / "checkpoints", KEEP)
    complaints: list[str] = []
    newest = store.newest(complaints.append)
    assert not complaints, complaints
    iterations = store.iterations()
    assert len(iterations) <= KEEP + 1, iterations
    for iteration in iterations:
        verify(store.path(iteration))
        assert (store.path(iteration) / "weights").read_text() == str(iteration % 10) * size
    if (root / "progress").is_file():
        text = (root / "progress").read_text()
        assert len(text) == size
        assert len(set(text)) == 1
    return f"{len(iterations)} checkpoints, newest {newest and newest.name}"
