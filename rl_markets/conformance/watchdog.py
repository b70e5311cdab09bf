"""A limit on how long a market may take: a step that hangs fails with the line where it hangs.

Two means, one behind the other:

- An alarm (SIGALRM) raises `TimeLimitError` inside the market, in Python code and in anything that
  a signal interrupts, such as `time.sleep`. Only the main thread can have alarms: the driver and
  Ray's actors step there.
- Code that keeps Python from running (a loop in C, a lock held elsewhere, a market that swallows
  every exception), and any thread but the main one: some seconds later all stacks go to stderr and
  the process ends with exit code 1, as an actor that is lost; the run fails instead of hanging.
  This cannot be caught.
"""

from __future__ import annotations

import faulthandler
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any, TypeVar

from rl_markets.conformance.endings import ExitCalled, exits_raise
from rl_markets.envs.market import Market
from rl_markets.errors import MarketError, TimeLimitError

R = TypeVar("R")

STEP_SECONDS = 10.0
"""What a market's step may take while training; `limit_steps` reads it when it is called."""
GRACE_SECONDS = 5.0
"""From the limit to the end of the process, where no alarm got through; up to twice this."""


class Watchdog:
    """Limits calls: `with watchdog: ... watchdog(market.step, actions)`, any number of calls.

    Entering installs the handlers, leaving restores what was there (50 us); each call costs about 3
    us. It nests: an alarm that was set before goes off at its own time, inside the calls and
    between them. The time for which a process is stopped (Ctrl-Z) does not count.

    Args:
        seconds: what each call may take; `math.inf` for no limit.
        what: names the call in the error, such as `market Households: a step`.
        grace: seconds from the limit to the end of the process; up to twice this.
    """

    def __init__(self, seconds: float, what: str, grace: float = GRACE_SECONDS) -> None:
        if not seconds > 0:
            raise ValueError(f"seconds = {seconds}: expected more than 0")
        self.seconds = seconds
        self.what = what
        self.grace = grace
        self._limited = math.isfinite(seconds)
        self._entered = False
        # The alarm inside a call: whether there are alarms here, when the next one is due, and
        # whether it is the last, which raises.
        self._alarms = False
        self._due = math.inf
        self._last = False
        # What was set before: when it is due, how often it repeats, and the handlers.
        self._outer = math.inf
        self._interval = 0.0
        self._previous: dict[int, Any] = {}
        # When the end of the process has to be put off again; infinite where it cannot be set.
        self._renew = 0.0
        self._exits: AbstractContextManager[None]

    def __enter__(self) -> Watchdog:
        self._entered = True
        self._exits = exits_raise()
        self._exits.__enter__()
        self._renew = 0.0 if self._limited and _stderr() is not None else math.inf
        self._alarms = self._limited and threading.current_thread() is threading.main_thread()
        if self._alarms:
            self._note_outer(*signal.setitimer(signal.ITIMER_REAL, 0))
            for number, handler in ((signal.SIGALRM, self._alarm), (signal.SIGTSTP, self._pause)):
                self._previous[number] = signal.signal(number, handler) or signal.SIG_DFL
            self._disarm()
        return self

    def __exit__(self, *_: object) -> None:
        self._entered = False
        self._exits.__exit__(None, None, None)
        self._rest()
        if self._alarms:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            self._disarm()  # only now: an outer alarm must find its own handler

    def __call__(self, function: Callable[..., R], *arguments: Any) -> R:
        """`function(*arguments)`, within the limit.

        Raises:
            TimeLimitError: where it took longer; its traceback ends in the line that was running.
            MarketError: where it called `sys.exit` or `os._exit`, which would end the process and
                look as if all were well.
        """
        self.arm()
        try:
            return function(*arguments)
        except ExitCalled as error:
            raise MarketError(f"{self.what}: {error}") from error
        except SystemExit as error:
            raise MarketError(f"{self.what} called sys.exit({error.code!r})") from error
        finally:
            self._disarm()

    def arm(self) -> None:
        """From here on the time counts; leaving the block ends it."""
        assert self._entered, "call it inside `with watchdog:`"
        now = time.monotonic()
        if now >= self._renew:  # this starts a thread: not in every step
            faulthandler.dump_traceback_later(
                self.seconds + 2 * self.grace, exit=True, file=_stderr()
            )
            self._renew = now + self.grace
        if self._alarms:
            self._last = False
            self._due = now + 0.75 * self.seconds  # `_alarm` then adds the last quarter
            self._set_timer(now)

    def _disarm(self) -> None:
        """Back to the outer alarm, if there is one."""
        if self._alarms:
            self._due = math.inf
            self._set_timer(0.0 if self._outer == math.inf else time.monotonic())

    def _set_timer(self, now: float) -> None:
        """To what is due first. Once due, an alarm repeats: markets may swallow the first."""
        due = self._due if self._due < self._outer else self._outer
        if due == math.inf:
            signal.setitimer(signal.ITIMER_REAL, 0)
            return
        interval = 1.0 if due == self._due else self._interval
        # At least a microsecond: 0 would switch the timer off.
        signal.setitimer(signal.ITIMER_REAL, max(due - now, 1e-6), interval)

    def _note_outer(self, remaining: float, interval: float) -> None:
        self._outer = time.monotonic() + remaining if remaining else math.inf
        self._interval = interval

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now >= self._outer:
            self._hand_on(number, frame)
        if now < self._due:
            return
        if self._last:
            raise TimeLimitError(
                f"{self.what} took longer than {self.seconds:g} s: "
                "the traceback ends in the line that was running, "
                "an endless loop or something that it waits for"
            )
        self._last = True
        self._due = now + 0.25 * self.seconds  # a process that was stopped gets this much again
        self._set_timer(now)

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        """The outer alarm is due: whoever set it decides, and may set it again."""
        previous = self._previous[number]
        signal.setitimer(signal.ITIMER_REAL, 0)
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._note_outer(*signal.setitimer(signal.ITIMER_REAL, 0))
        self._set_timer(time.monotonic())

    def _pause(self, number: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the end of the process must not come while it is stopped."""
        previous = self._previous[number]
        self._rest()
        if callable(previous):
            previous(number, frame)
        else:
            signal.signal(number, previous)
            signal.raise_signal(number)  # stops here, until SIGCONT
            signal.signal(number, self._pause)

    def _rest(self) -> None:
        """Takes back what would end the process; the next call sets it again."""
        if self._renew not in (0.0, math.inf):
            faulthandler.cancel_dump_traceback_later()
            self._renew = 0.0


def limit_steps(
    market: Market, seconds: float | None = None, grace: float = GRACE_SECONDS
) -> Watchdog:
    """The watchdog of a market's steps, `STEP_SECONDS` each unless told otherwise."""
    seconds = STEP_SECONDS if seconds is None else seconds
    return Watchdog(seconds, f"market {type(market).__name__}: a step", grace)


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Limits a block, once: `with time_limit(60, "market Households: reset"): ...`; about 100 us.

    Raises:
        TimeLimitError: where the block took longer.
    """
    with Watchdog(seconds, what) as watchdog:
        watchdog.arm()
        yield


def _stderr() -> Any:
    """The process's stderr, or None where it has no file descriptor.

    Through that faulthandler writes when Python itself hangs.
    """
    stream = sys.__stderr__
    try:
        return None if stream is None or stream.fileno() < 0 else stream
    except (OSError, ValueError):  # closed, or replaced by something without a descriptor
        return None
