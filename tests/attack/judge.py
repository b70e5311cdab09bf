"""One attack in a process of its own, and whether it was held."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import resource
import signal
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection

from rl_markets.errors import RLMarketsError

SECONDS = 10.0
"""What an answer may take; a hang is what takes longer."""
MEMORY = 12 * 2**30
"""Bytes of address space that a case may ask for."""


class SilentError(AssertionError):
    """What is wrong was accepted."""


@dataclass(frozen=True)
class Case:
    """One attack.

    Attributes:
        kind: a row of the table.
        name: says what was tried.
        attempt: does it; returns in words what was accepted, raises an `RLMarketsError` of one line
            where it was refused, and `SilentError` where it was accepted wrongly.
        seconds: what it may take.
    """

    kind: str
    name: str
    attempt: Callable[[], str]
    seconds: float = SECONDS


@dataclass(frozen=True)
class Outcome:
    """What came of a case: `refused` and `accepted` are held, all else is not."""

    case: Case
    verdict: str
    words: str

    @property
    def held(self) -> bool:
        """Whether nothing is wrong."""
        return self.verdict in ("refused", "accepted")


def judge(case: Case) -> Outcome:
    """Tries a case in a forked copy of this process."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_attempt, args=(case, there), daemon=True)
    process.start()
    there.close()
    if not here.poll(case.seconds):
        process.kill()
        process.join()
        return Outcome(case, "hang", f"longer than {case.seconds:g} s")
    try:
        verdict, words = here.recv()
    except EOFError:
        process.join()
        return Outcome(case, "died", f"exit code {process.exitcode}")
    process.join()
    return Outcome(case, verdict, words)


def _attempt(case: Case, there: Connection) -> None:
    """In the copy."""
    warnings.simplefilter("error", RuntimeWarning)  # numpy's: an overflow that nobody handled
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        told = _told(case)
    there.send(told)
    there.close()


def _told(case: Case) -> tuple[str, str]:
    try:
        return "accepted", case.attempt()
    except SilentError as silent:
        return "silent", str(silent)
    except RLMarketsError as error:
        line = str(error)
        fine = line.isprintable() and line and not error.unexplained
        return ("refused" if fine else "traceback"), line
    except BaseException:
        return "traceback", traceback.format_exc()
