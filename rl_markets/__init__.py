"""RL Markets: train markets full of learning agents on Ray; every trained market ends with a
certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["load"]

if TYPE_CHECKING:
    from rl_markets.exported import load


def __getattr__(name: str) -> Any:
    """Imports `load` on first use, so that importing the package costs nothing."""
    if name == "load":
        from rl_markets.exported import load

        return load
    raise AttributeError(f"module 'rl_markets' has no attribute {name!r}")
