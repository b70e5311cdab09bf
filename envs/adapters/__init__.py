"""Our markets in the clothes of other libraries, a file a library.

A market restarts its worlds inside `step`; each adapter hands on the true final observations, and
starts episodes from a seed: the one given to `reset`, otherwise one drawn from a generator that the
last given seed started.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = {
    "to_parallel_env": "pettingzoo",
    "to_vector_env": "gymnasium",
    "to_sb3": "sb3",
    "to_multi_agent_env": "rllib",
}

__all__ = ["to_multi_agent_env", "to_parallel_env", "to_sb3", "to_vector_env"]


def __getattr__(name: str) -> Any:
    """Imports an adapter on first use: each needs its library, and no other."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
