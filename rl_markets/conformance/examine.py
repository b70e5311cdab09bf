"""Whether a market keeps its contract: `examine` one, `run` it for a person, `preflight` one before
it trains."""

from __future__ import annotations

import importlib
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rl_markets.conformance import episodes, tensors
from rl_markets.conformance import spec as surroundings
from rl_markets.conformance.probe import GRACE_SECONDS, Builder, Subject, blame, play
from rl_markets.conformance.watchdog import limit_steps, time_limit
from rl_markets.envs.checks import check_groups
from rl_markets.envs.market import Market, TensorMarket
from rl_markets.envs.registry import MARKETS, did_you_mean, find
from rl_markets.envs.spec import MarketSpec
from rl_markets.errors import ContractError, ExperimentError, Informs, MarketError, TimeLimitError
from rl_markets.experiment.validation import first_line, validate

STEP_SECONDS = 3.0
"""What a step of the few examined worlds may take."""
CHECK_SECONDS = 60.0
"""What a check may take, whatever it calls."""
PREFLIGHT_STEPS = 8
PREFLIGHT_SECONDS = 0.5
PREFLIGHT_EPISODE = 3
"""The preflight ends with the steps or the seconds; its episodes are short, so that restarts are
seen."""

Check = Callable[[Subject], str]


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: its name.
        passed: None where it only informs.
        detail: what was found; where it failed, what was expected.
        fix: what to do, where it failed.
        trace: the market's own traceback, where it raised.
    """

    check: str
    passed: bool | None
    detail: str
    fix: str = ""
    trace: str = ""


def _builds(subject: Subject) -> str:
    before = time.perf_counter()
    market = subject.market
    return (
        f"{type(market).__name__}, {market.worlds} worlds in {time.perf_counter() - before:.2g} s"
    )


def _timely(subject: Subject) -> str:
    return (
        f"{1000 * subject.pace:.2g} ms for {subject.market.worlds} worlds, limit "
        f"{subject.seconds:g} s"
    )


def _closes(subject: Subject) -> str:
    subject.close()
    return "returns"


FOUNDATIONS: dict[str, Check] = {
    "builds": _builds,
    "state layout": tensors.layout,
    "steps": episodes.shapes,
    "finite": episodes.finite,
}
"""Where one of these fails, there is no point in looking further."""
LAWS: dict[str, Check] = {
    "spaces": episodes.within_spaces,
    "determinism": episodes.deterministic,
    "seeds": episodes.seeds_differ,
    "pure functions": tensors.pure,
    "resume": episodes.resumes,
    "worlds apart": tensors.worlds_apart,
    "agents alike": tensors.exchangeable,
    "final observations": tensors.final_observations,
    "gradients": tensors.gradients,
    "global state": surroundings.global_state,
    "scripts": surroundings.scripts,
    "spec": surroundings.spec_agrees,
    "step time": _timely,
}


NEEDS = {
    "resume": "determinism",
    "worlds apart": "pure functions",
    "agents alike": "pure functions",
    "final observations": "pure functions",
    "gradients": "pure functions",
}
"""Checks that would only repeat, less clearly, what another one found."""


def examine(
    build: Builder,
    *,
    spec: MarketSpec | None = None,
    parameters: Any = None,
    module: str = "",
    seconds: float = STEP_SECONDS,
    processes: bool = True,
) -> list[Finding]:
    """Examines a market on the CPU, in seconds.

    Args:
        build: builds it with so many worlds.
        spec, parameters: what it is built from, to see that they agree.
        module: the spec's module, where importing it must be light.
        seconds: what each step may take.
        processes: look from other processes, too.
    """
    subject = Subject(build, seconds, spec, parameters)
    findings: list[Finding] = []
    with torch.no_grad(), _helpers() as helpers:
        checks = dict(LAWS)
        if processes:
            helpers += [
                worker := surroundings.Worker(subject),
                light := surroundings.LightImport(module),
            ]
            checks |= {"worker process": worker.check, "light import": light.check}
        for name, check in FOUNDATIONS.items():
            findings.append(_look(name, check, subject))
            if findings[-1].passed is False:
                return [
                    *findings,
                    Finding("everything else", None, "is looked at once this is right"),
                ]
        if processes:
            worker.go()
        for name, check in (checks | {"speed": surroundings.speed, "closes": _closes}).items():
            failed = {finding.check for finding in findings if finding.passed is False}
            if NEEDS.get(name) in failed:
                findings.append(Finding(name, None, f"is looked at once {NEEDS[name]} is right"))
                continue
            findings.append(_look(name, check, subject))
            if findings[-1].passed is False and findings[-1].check == "step time":
                break  # every further check would hang as long
    return findings


@contextmanager
def _helpers() -> Iterator[list[Any]]:
    helpers: list[Any] = []
    try:
        yield helpers
    finally:
        for helper in helpers:
            helper.stop()


def _look(name: str, check: Check, subject: Subject) -> Finding:
    """One check's finding, whatever it raises."""
    try:
        with time_limit(CHECK_SECONDS, f"check {name!r}"):
            return Finding(name, True, check(subject))
    except Informs as told:
        return Finding(name, None, str(told))
    except ContractError as error:
        return Finding(name, False, error.detail, error.fix)
    except TimeLimitError as error:
        fix = "end the loop or the wait; a market that is only slow may be given more seconds"
        detail = f"{str(error).rpartition(': ')[0]} at {blame(error)}"
        return Finding("step time", False, detail, fix, traceback.format_exc())
    except (Exception, SystemExit) as error:
        allowed = (
            "its parameters and `worlds` must be enough"
            if name == "builds"
            else "no legal action may raise"
        )
        return Finding(
            name, False, _told(error), f"{allowed}; see its traceback", traceback.format_exc()
        )


def _told(error: BaseException) -> str:
    notes = "".join(f" {note}" for note in getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error}{notes} ({blame(error)})"


def preflight(market: Market, seconds: float | None = None) -> None:
    """A few steps of random actions before a run starts, in less than a second; `market` is then of
    no more use.

    Args:
        market: a few worlds of it, on the CPU.
        seconds: what each step may take, `STEP_SECONDS` unless told otherwise.

    Raises:
        MarketError: what broke and how to mend it; from the market's own error, where it raised
            one.
    """
    began = time.perf_counter()
    check_groups(market)
    if isinstance(market, TensorMarket) and market.episode_length is not None:
        market.episode_length = min(market.episode_length, PREFLIGHT_EPISODE)
    try:
        with torch.no_grad(), limit_steps(market, seconds or STEP_SECONDS, GRACE_SECONDS) as limit:
            for t, (seen, step) in enumerate(play(market, PREFLIGHT_STEPS, limit)):
                episodes.refuse_not_finite(market, seen, "observations", t)
                episodes.refuse_not_finite(
                    market, {} if step is None else step.rewards, "rewards", t
                )
                if t > 1 and time.perf_counter() - began > PREFLIGHT_SECONDS:
                    return
    except MarketError:
        raise
    except Exception as error:
        raise MarketError(f"market {type(market).__name__}: {_told(error)}") from error


# -- for a person ----------------------------------------------------------------------------------


def run(
    name_or_path: str, parameters: dict[str, Any], console: Console, seconds: float = STEP_SECONDS
) -> bool:
    """Examines a market, prints what was found, and returns whether all checks passed.

    Args:
        name_or_path: as in `resolve`.
        parameters: the market's own.
        console: where to print.
        seconds: what each step may take.

    Raises:
        LookupError: there is no such market.
        ExperimentError: its parameters are wrong.
    """
    torch.set_num_threads(1)
    full_name, spec, module = _locate(name_or_path)
    try:
        validated = validate(spec.parameters, parameters)
    except ValidationError as error:
        raise ExperimentError(
            f"{spec.name}: {first_line(spec.parameters, error, prefix='parameters.')}"
        ) from None
    build = partial(build_named, full_name, parameters)
    findings = examine(build, spec=spec, parameters=validated, module=module, seconds=seconds)
    _print(spec, findings, console)
    return all(finding.passed is not False for finding in findings)


def build_named(name_or_path: str, parameters: dict[str, Any], worlds: int) -> Market:
    """Builds a market that `resolve` finds; by name, so that other processes can."""
    spec = resolve(name_or_path)
    return spec.build(validate(spec.parameters, parameters), worlds=worlds)


def _print(spec: MarketSpec, findings: list[Finding], console: Console) -> None:
    table = Table(
        "check",
        "",
        "found",
        title=f"market {spec.name}",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    for finding in findings:
        mark, style = {True: ("ok", "green"), False: ("FAILED", "red"), None: ("-", "dim")}[
            finding.passed
        ]
        found = finding.detail + (f"\n-> {finding.fix}" if finding.fix else "")
        table.add_row(finding.check, Text(mark, style), Text(found))
    console.print(table, soft_wrap=False)
    failed = [finding for finding in findings if finding.passed is False]
    for finding in failed:
        if finding.trace:
            console.print(f"\n{finding.trace}", highlight=False, markup=False)
    verdict = (
        f"failed: {', '.join(finding.check for finding in failed)}"
        if failed
        else "all checks passed"
    )
    console.print(f"{spec.name}: {verdict}", highlight=False)


# -- finding a market ------------------------------------------------------------------------------


def resolve(name_or_path: str) -> MarketSpec:
    """The spec of a registered market's name, of `package.module:SPEC`, or of
    `path/to/file.py:SPEC`.

    `:SPEC` may be left out where a file holds exactly one.

    Raises:
        LookupError: one line that says what was looked for, and what there is.
    """
    return _locate(name_or_path)[1]


def _locate(name_or_path: str) -> tuple[str, MarketSpec, str]:
    """(a name that means the same in any folder, the spec, the module that must be light or
    nothing)."""
    path, colon, attribute = name_or_path.rpartition(":")
    if name_or_path.endswith(".py"):
        path = name_or_path
        colon = ""
        attribute = ""
    if path.endswith(".py"):
        return (
            f"{Path(path).resolve()}{colon}{attribute}",
            _spec_of(_import_file(Path(path)), attribute, path),
            "",
        )
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
    """A file as the module that its packages make it, so that `SPEC.market` and pickles find it
    again."""
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
    if module.__file__ is None or Path(module.__file__).resolve() != path:
        raise LookupError(
            f"{path}: another module is called {module.__name__}, {module.__file__}; rename the "
            "file"
        )
    return module


def _import(name: str, what: str) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise LookupError(f"{what}: cannot be imported: {type(error).__name__}: {line}") from error


def _spec_of(module: ModuleType, attribute: str, what: str) -> MarketSpec:
    specs = {name: value for name, value in vars(module).items() if isinstance(value, MarketSpec)}
    if attribute:
        if attribute not in specs:
            raise LookupError(
                f"{what}: holds no MarketSpec called "
                f"{attribute!r}{did_you_mean(attribute, list(specs))}"
            )
        return specs[attribute]
    if len(specs) != 1:
        named = f": {', '.join(specs)}" if specs else ""
        raise LookupError(
            f"{what}: holds {len(specs)} market specs, expected one; name it, {what}:SPEC{named}"
        )
    return next(iter(specs.values()))
