"""A module that names an environment and cannot be imported, as where an extra is missing."""

import no_such_simulator


def env() -> object:
    """Never built."""
    return no_such_simulator
