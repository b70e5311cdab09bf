"""Markets by name: a registered one, `package.module:SPEC`, or `path/to/file.py:SPEC`."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from rl_markets.envs.market import Market
from rl_markets.envs.registry import MARKETS, did_you_mean, find
from rl_markets.envs.spec import MarketSpec
from rl_markets.experiment.validation import validate


def resolve(name_or_path: str) -> MarketSpec:
    """The spec that a name or a path stands for.

    Args:
        name_or_path: a registered market's name, `package.module:SPEC`, or `path/to/file.py:SPEC`;
            `:SPEC` may be left out where a file holds exactly one.

    Raises:
        LookupError: one line that says what was looked for, and what there is.
    """
    return locate(name_or_path)[1]


def build_named(name_or_path: str, parameters: dict[str, Any], worlds: int) -> Market:
    """Builds a market that `resolve` finds; by name, so that other processes can."""
    spec = resolve(name_or_path)
    return spec.build(validate(spec.parameters, parameters), worlds=worlds)


def locate(name_or_path: str) -> tuple[str, MarketSpec, str]:
    """A market's full name, its spec, and the module that must be light to import.

    The full name means the same in any folder, and so in other processes; the module is empty where
    none must be light: in a file of one's own, market and spec may stand together.

    Raises:
        LookupError: as `resolve`.
    """
    path, colon, attribute = name_or_path.rpartition(":")
    if name_or_path.endswith(".py"):
        path = name_or_path
        colon = ""
        attribute = ""
    if path.endswith(".py"):
        full_name = f"{Path(path).resolve()}{colon}{attribute}"
        return full_name, _spec_of(_import_file(Path(path)), attribute, path), ""
    if colon:
        return name_or_path, _spec_of(_import(path, path), attribute, path), path
    return name_or_path, find(MARKETS, name_or_path), _module_of(name_or_path)


def _module_of(name: str) -> str:
    """The module that holds a registered market's spec."""
    for entry in entry_points(group=MARKETS):
        if entry.name == name:
            return str(getattr(entry, "value", "")).partition(":")[0]
    built_in = f"rl_markets.envs.{name}"
    return built_in if name.isidentifier() and find_spec(built_in) is not None else ""


def _import_file(path: Path) -> ModuleType:
    """A file as the module that its packages make it.

    Under that name `SPEC.market` and pickles find it again.
    """
    path = path.resolve()
    if not path.is_file():
        raise LookupError(f"{path}: no such file")
    parts = [path.stem]
    folder = path.parent
    while (folder / "__init__.py").is_file():
        parts = [folder.name, *parts]
        folder = folder.parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))  # as Python does for a script
    module = _import(".".join(parts), str(path))
    # A name such as `test` or `market` may be taken by a module that was imported before.
    if module.__file__ is None or Path(module.__file__).resolve() != path:
        raise LookupError(
            f"{path}: another module is called {module.__name__}, {module.__file__}; "
            "rename the file"
        )
    return module


def _import(name: str, what: str) -> ModuleType:
    importlib.invalidate_caches()  # the file may have been written since this process started
    try:
        return importlib.import_module(name)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise LookupError(f"{what}: cannot be imported: {type(error).__name__}: {line}") from error


def _spec_of(module: ModuleType, attribute: str, what: str) -> MarketSpec:
    specs = {name: value for name, value in vars(module).items() if isinstance(value, MarketSpec)}
    if attribute:
        if attribute not in specs:
            near = did_you_mean(attribute, list(specs))
            raise LookupError(f"{what}: holds no MarketSpec called {attribute!r}{near}")
        return specs[attribute]
    if len(specs) != 1:
        named = f": {', '.join(specs)}" if specs else ""
        raise LookupError(
            f"{what}: holds {len(specs)} market specs, expected one; name it, {what}:SPEC{named}"
        )
    return next(iter(specs.values()))
