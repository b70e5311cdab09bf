"""A market that hangs fails the run with the line where it hangs."""

from __future__ import annotations

import itertools
import math
import signal
import subprocess
import sys
import threading
import time
import timeit
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from rl_markets.conformance.watchdog import Watchdog, time_limit
from rl_markets.errors import TimeLimitError
from tests.support.running import ROOT

BROKEN = ROOT / "tests" / "support" / "broken_markets.py"


def loop() -> None:
    """Hangs."""
    for _ in itertools.count():
        pass


@pytest.mark.parametrize("hang", [loop, partial(time.sleep, 9)])
def test_a_hang_ends_in_the_line_that_hangs(hang: Any) -> None:
    handlers = signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGTSTP)
    before = time.perf_counter()
    with (
        pytest.raises(TimeLimitError, match="a step took longer than") as caught,
        Watchdog(0.2, "a step") as dog,
    ):
        dog(hang)
    assert time.perf_counter() - before < 2
    if hang is loop:
        assert "loop" in [entry.name for entry in caught.traceback]
    assert (signal.getsignal(signal.SIGALRM), signal.getsignal(signal.SIGTSTP)) == handlers


def test_only_the_time_inside_calls_counts() -> None:
    with Watchdog(0.2, "a step") as dog:
        for _ in range(3):
            dog(time.sleep, 0.1)
            time.sleep(0.15)
    with time_limit(math.inf, "anything"):
        pass


class _Outer(Exception):  # noqa: N818
    pass


@pytest.fixture
def outer_alarm() -> Iterator[None]:
    """Somebody else's alarm, such as pytest-timeout's; theirs is restored."""

    def ring(*_: Any) -> None:
        raise _Outer

    left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
    previous = signal.signal(signal.SIGALRM, ring)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)
    signal.setitimer(signal.ITIMER_REAL, left, interval)


@pytest.mark.usefixtures("outer_alarm")
def test_an_outer_alarm_rings_at_its_own_time() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(_Outer), Watchdog(2, "a step") as dog:
        dog(time.sleep, 1)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(_Outer), Watchdog(2, "a step"):
        time.sleep(1)  # between calls
    signal.setitimer(signal.ITIMER_REAL, 5)
    with pytest.raises(TimeLimitError), time_limit(0.2, "a step"):
        time.sleep(1)
    assert 3 < signal.getitimer(signal.ITIMER_REAL)[0] < 5


def test_limits_nest() -> None:
    with (
        pytest.raises(TimeLimitError, match="outer"),
        time_limit(0.3, "outer"),
        time_limit(5, "inner"),
    ):
        time.sleep(3)
    with (
        pytest.raises(TimeLimitError, match="inner"),
        time_limit(5, "outer"),
        time_limit(0.3, "inner"),
    ):
        time.sleep(3)


def test_other_threads_have_no_alarm() -> None:
    done = []

    def work() -> None:
        with Watchdog(0.1, "a step") as dog:
            done.append(dog(lambda: time.sleep(0.3) or "done"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == ["done"]


def test_the_watchdog_costs_microseconds() -> None:
    with Watchdog(10, "a step") as dog:
        assert min(timeit.repeat(lambda: dog(int), number=500, repeat=5)) / 500 < 50e-6, (
            "about 2 us"
        )


def test_a_hang_in_c_ends_the_process_with_its_stack() -> None:
    code = (
        "from rl_markets.conformance.examine import build_named; "
        "from rl_markets.conformance.watchdog import limit_steps\n"
        "from rl_markets.conformance.probe import Actions\n"
        f"market = build_named('{BROKEN}:HANG_IN_C', {{}}, 2); market.reset(0)\n"
        "with limit_steps(market, 0.3, grace=0.2) as limit: "
        "limit(market.step, Actions(market, 0)())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "broken_markets.py" in done.stderr
    assert "in spoil" in done.stderr
