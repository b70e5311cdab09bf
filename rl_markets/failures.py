"""What a failure prints and exits with. Imported only when something failed."""

from __future__ import annotations

from rl_markets.store import CorruptError
from rl_markets.training.trainer import Interrupted, RunFailedError


def describe(error: Exception) -> tuple[int, str, str]:
    """(exit code, details for stderr, one line).

    Raises:
        Exception: the error itself, if it is none that we expect: then its traceback is what helps.
    """
    if isinstance(error, Interrupted):
        return error.exit_code, "", str(error)
    if isinstance(error, RunFailedError):
        return 1, error.details.rstrip(), str(error)
    if isinstance(error, CorruptError | FileNotFoundError | PermissionError):
        return 1, "", str(error)
    if isinstance(error, OSError):
        return 1, "", f"the disk or the system refused: {error}"
    raise error
