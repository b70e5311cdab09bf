"""Every error of ours, on one page, with the exit code of the command that it ends.

    RLMarketsError                     1
      InputError (ValueError)          2    what was given cannot be used, and what instead
        ExperimentError                2    an experiment file, option or path, in one line
        FieldError                     2    a rule across fields; an ExperimentError names it
        CsvError                       2    a CSV file's column; an ExperimentError names it
        UnidentifiedError              2    a log does not determine a family of demand
        BlanchardKahnError             2    a linear model without a unique stable solution
        PolicyError                    2    an exported policy that is none, by file and field
        ActionError                    2    an action outside its agent's space
      RunError (RuntimeError)          1    a run cannot go on
        RunFailedError                 1    its details hold the traceback of what broke
        Interrupted                    128 + signal, after a checkpoint
        RunnersLostError               1    runners die as often as they start, or none is left
        LearnersLostError              1    a learner's process died; its run goes on by itself
      MarketError (RuntimeError)       1    a market broke its contract
        ContractError                  1    in a shape, a type, a group
        TimeLimitError                 1    in time
      LearnerError (RuntimeError)      1    a learner's metric is not finite
      ConvergenceError (RuntimeError)  1    a solver stopped before its tolerance
      CorruptError (RuntimeError)      1    a stored file is not what was written
    Informs                            -    no error: a conformance check that only informs
    Stopped (BaseException)            128 + signal, where no training is under way

Other exceptions are bugs, or the system's (a full disk, a missing file: 1); a bug keeps its
traceback. This page imports nothing, so that every floor may import it.
"""

from __future__ import annotations

import signal
from typing import ClassVar


class RLMarketsError(Exception):
    """Base of all; `details` is what stderr shows before the one line."""

    exit_code: int = 1
    details: str = ""

    unexplained: ClassVar[bool] = False
    """Whether its own traceback belongs to the details, as nobody has put it into words yet."""


# -- what somebody gave ----------------------------------------------------------------------------


def printable(text: str) -> str:
    """On one line of what can be printed, whatever a file, or its name, put into it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class InputError(RLMarketsError, ValueError):
    """What somebody gave cannot be used."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ExperimentError(InputError):
    """An experiment file cannot be run."""


class FieldError(InputError):
    """A rule is broken; the message starts with the path of the field to blame."""


class CsvError(InputError):
    """A CSV file has no such column of numbers; the message starts with its path."""


class UnidentifiedError(InputError):
    """The log does not determine the parameters of a family."""


class BlanchardKahnError(InputError):
    """A linear expectations model without a unique stable solution."""


class PolicyError(InputError):
    """An exported policy is none, or not what it says; the message names file and field."""


class ActionError(InputError):
    """An action is outside its agent's space; nothing has moved."""


# -- runs ------------------------------------------------------------------------------------------


class RunError(RLMarketsError, RuntimeError):
    """A run cannot go on."""


class RunFailedError(RunError):
    """Training cannot go on. `details` holds the traceback of what broke (a market, a learner)."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class Interrupted(RunError):  # noqa: N818 - not an error
    """A signal ended the run after a checkpoint."""

    def __init__(self, signal_number: int, iteration: int) -> None:
        super().__init__(
            f"{signal.Signals(signal_number).name} at iteration {iteration}: checkpoint written"
        )
        self.exit_code = 128 + signal_number


class RunnersLostError(RunError):
    """Runners die as often as they start, or none is left and none came back."""


class LearnersLostError(RunError):
    """A learner's process died; training goes on from a checkpoint."""


# -- markets, learners, solvers, files -------------------------------------------------------------


class MarketError(RLMarketsError, RuntimeError):
    """A market broke its contract; the message says where and what was expected."""

    unexplained = True


class ContractError(MarketError):
    """A market broke its contract: the message is `market NAME: DETAIL; FIX`."""

    detail: str = ""
    fix: str = ""


class TimeLimitError(MarketError):
    """A market took too long; the traceback ends in the line that was running."""


class LearnerError(RLMarketsError, RuntimeError):
    """Learning went wrong; the message says which policy, which metric, and in which update."""

    unexplained = True


class ConvergenceError(RLMarketsError, RuntimeError):
    """An iterative solver stopped before reaching its tolerance."""

    unexplained = True


class CorruptError(RLMarketsError, RuntimeError):
    """A stored folder is not what was written; the message names the file."""


class Informs(Exception):  # noqa: N818 - not an error
    """A check has something to tell, but nothing that could be wrong."""


class Stopped(BaseException):
    """A signal ends the command; no `Exception`, so that no market's `except` swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"{signal.Signals(signal_number).name}: ended")
        self.exit_code = 128 + signal_number
