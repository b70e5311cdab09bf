"""Finding markets and learners by name, without importing torch or ray.

A built-in market is a sub-package of `rl_markets.envs`, a built-in learner one of
`rl_markets.policies`; each holds a light `SPEC`. Third-party packages offer theirs through the
entry-point groups `rl_markets.markets` and `rl_markets.learners`; nothing here needs to change for
either.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

MARKETS = "rl_markets.markets"
LEARNERS = "rl_markets.learners"
_BUILT_IN = {MARKETS: "rl_markets.envs", LEARNERS: "rl_markets.policies"}


def import_object(path: str) -> Any:
    """The object at `package.module:Name`."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def _built_in(group: str) -> list[str]:
    package = importlib.import_module(_BUILT_IN[group])
    return [m.name for m in pkgutil.iter_modules(package.__path__) if m.ispkg]


def _built_in_spec(group: str, name: str) -> Any:
    """The `SPEC` of a sub-package, or None where it has none, such as `answers`."""
    return getattr(importlib.import_module(f"{_BUILT_IN[group]}.{name}"), "SPEC", None)


def names(group: str) -> list[str]:
    """The names of every market (or learner) that can be found, built-in ones first."""
    built_in = [name for name in _built_in(group) if _built_in_spec(group, name) is not None]
    return sorted(built_in) + sorted({e.name for e in entry_points(group=group)} - set(built_in))


def find(group: str, name: str) -> Any:
    """The spec called `name`.

    Raises:
        LookupError: one line that names the near misses and what there is.
    """
    if name in _built_in(group) and (spec := _built_in_spec(group, name)) is not None:
        return spec
    for entry in entry_points(group=group):
        if entry.name == name:
            return entry.load()
    kind = "market" if group == MARKETS else "learner"
    raise LookupError(f"unknown {kind} {name!r}{did_you_mean(name, names(group))}")


def did_you_mean(word: str, candidates: list[str]) -> str:
    """` (did you mean 'x'?)`, or the list of what is possible where nothing is near."""
    near = difflib.get_close_matches(word, candidates, n=1, cutoff=0.6)
    if near:
        return f" (did you mean {near[0]!r}?)"
    return f" (expected one of: {', '.join(sorted(candidates))})" if candidates else ""
