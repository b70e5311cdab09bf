"""An environment that breaks, in a way and at a step of one's choice."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

from rl_markets.envs.pettingzoo.example import Cournot

MENDED = "FATAL_IS_MENDED"
"""Environment variable with which nothing breaks any more."""


class Fatal(Cournot):
    """Breaks `how` after so many steps of all its copies in a process.

    Args:
        how: `exit`, `_exit`, `c-exit`, `segfault`, `interrupt`, `os-error`, `nan` or `wait`.
        after: steps.
    """

    steps = 0

    def __init__(self, how: str, after: int) -> None:
        super().__init__()
        self.how = how
        self.after = after

    def step(self, actions: Any) -> Any:
        """One period."""
        Fatal.steps += 1
        result = super().step(actions)
        if Fatal.steps <= self.after or os.environ.get(MENDED):
            return result
        if self.how == "nan":
            return (result[0], dict.fromkeys(result[1], float("nan")), *result[2:])
        self._break()
        return result

    def _break(self) -> None:
        if self.how == "exit":
            sys.exit(0)
        if self.how == "_exit":
            os._exit(0)
        if self.how == "c-exit":
            ctypes.CDLL(None)._exit(0)
        if self.how == "segfault":
            ctypes.string_at(0)
        if self.how == "interrupt":
            raise KeyboardInterrupt
        if self.how == "os-error":
            raise ConnectionError("simulator went away")
        assert self.how == "wait"
        print("waiting", file=sys.stderr, flush=True)
        time.sleep(60)
