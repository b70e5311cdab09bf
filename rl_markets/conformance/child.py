"""Work in a copy of this process: whatever it does to itself, this one lives on and says so.

A market may end its process (`os._exit`), crash it, or count its steps: a copy shows it, and the
original has not moved.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from rl_markets.errors import MarketError


def in_copy(work: Callable[[], None], what: str) -> None:
    """Runs `work` in a forked copy; in this process where there is no fork.

    Args:
        work: what it leaves in memory is lost; what it prints is not.
        what: names it in the error, such as `market Households`.

    Raises:
        MarketError: what `work` raised, or how the copy ended.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        work()
        return
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_report, args=(work, there), daemon=True)
    process.start()
    there.close()
    try:
        told = here.recv()
    except EOFError:
        told = None
    process.join()
    if told is None:
        raise MarketError(f"{what} {_ending(process.exitcode or 0)} while it was looked at")
    message, details = told
    if message:
        error = MarketError(message)
        error.details = details
        raise error


def _report(work: Callable[[], None], there: Connection) -> None:
    """In the copy: what `work` raised goes through the pipe, or that it raised nothing."""
    try:
        work()
        told = ("", "")
    except MarketError as error:
        told = (str(error), error.details or traceback.format_exc())
    except BaseException as error:  # KeyboardInterrupt and the like are the market's own here
        message = (str(error).splitlines() or [""])[0]
        told = (f"{type(error).__name__}: {message}", traceback.format_exc())
    there.send(told)
    there.close()


def _ending(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended its process with exit code {code} (does it call os._exit?)"
