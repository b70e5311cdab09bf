"""Ray's environment, set before its first import: no telemetry, no deprecation spam, tokens on."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PYTHONWARNINGS": "ignore::DeprecationWarning",
}
ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Where no cluster is named: Ray then listens on 127.0.0.1 alone, on any system."""
LOGGERS = (
    "ray",
    "ray.rllib",
    "ray.tune",
    "ray._common.deprecation",
    "ray._private.authentication",
    "matplotlib",  # which says where it keeps its fonts if the home folder is not writable
)


def quiet_ray() -> None:
    """Sets what the user has not set, and lets only errors through."""
    alone = {} if os.environ.get("RAY_ADDRESS") else ALONE
    for name, value in (ENVIRONMENT | alone).items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".*Overriding environment rllib-multi-agent-env.*")
    quiet_logs()


def quiet_logs() -> None:
    """Lowers Ray's loggers; to be called again after importing RLlib, which resets them."""
    for logger in LOGGERS:
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # what fails is told in our own words


HARMLESS = ("has constructor arguments in the object store and max_restarts > 0",)
"""What Ray's core writes to stderr from C++ whenever RLlib starts an actor that may restart."""


@contextmanager
def without_harmless_lines() -> Iterator[None]:
    """Holds back what is written to stderr, and lets it out at the end but for `HARMLESS` lines.

    By its file descriptor, since C++ does not write to `sys.stderr`.
    """
    sys.stderr.flush()
    real_stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real_stderr, 2)
            os.close(real_stderr)
            held.seek(0)
            lines = held.read().decode(errors="replace").splitlines(keepends=True)
            kept = [line for line in lines if not any(text in line for text in HARMLESS)]
            sys.stderr.write("".join(kept))
            sys.stderr.flush()
