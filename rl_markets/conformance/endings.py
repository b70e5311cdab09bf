"""Code of others that ends the process in the midst of a run is an error, not an end.

`sys.exit` raises, and so can be caught; `os._exit` ends the process on the spot, with whatever exit
code it likes: 0 looks as if all went well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_EXIT = os._exit


class ExitCalled(SystemExit):
    """`os._exit` was called; as a `SystemExit`, no `except Exception` swallows it."""

    def __str__(self) -> str:
        return f"os._exit({self.code!r}) was called"


@contextmanager
def exits_raise() -> Iterator[None]:
    """Inside, `os._exit` raises `ExitCalled`, so that its traceback names who called it.

    In this process alone: a copy that is forked inside ends as it likes. It nests.
    """
    ours = os.getpid()
    outer = os._exit

    def refuse(status: int = 0) -> None:
        if os.getpid() != ours:
            _EXIT(status)
        raise ExitCalled(status)

    os._exit = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        os._exit = outer
