"""Ray's environment, set before its first import: no telemetry, no deprecation spam, tokens on."""

from __future__ import annotations

import logging
import os
import warnings

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PYTHONWARNINGS": "ignore::DeprecationWarning",
}


def quiet_ray() -> None:
    """Sets what the user has not set, and lets only errors through."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".*Overriding environment rllib-multi-agent-env.*")
    quiet_logs()


def quiet_logs() -> None:
    """Lowers Ray's loggers; to be called again after importing RLlib, which resets them."""
    for logger in ("ray", "ray.rllib", "ray.tune", "ray._common.deprecation", "ray._private.authentication"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)  # what fails is told in our own words
