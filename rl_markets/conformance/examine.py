"""Whether a market keeps its contract.

`examine` a market, `run` the examination for a person; before it trains, `lawful` where it starts
and `preflight` in every process that steps it.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rl_markets.conformance import episodes, tensors
from rl_markets.conformance import spec as surroundings
from rl_markets.conformance.locate import build_named, locate, resolve
from rl_markets.conformance.probe import (
    GRACE_SECONDS,
    Builder,
    Subject,
    blame,
    kept_global_states,
    play,
)
from rl_markets.conformance.watchdog import limit_steps, time_limit
from rl_markets.envs.checks import check_groups
from rl_markets.envs.market import Market, TensorMarket
from rl_markets.envs.spec import MarketSpec
from rl_markets.errors import ContractError, ExperimentError, Informs, MarketError, TimeLimitError
from rl_markets.experiment.validation import first_line, validate

__all__ = ["Finding", "build_named", "examine", "lawful", "preflight", "resolve", "run"]

STEP_SECONDS = 3.0
"""What a step of the few examined worlds may take."""
CHECK_SECONDS = 60.0
"""What a check may take, whatever it calls."""
PREFLIGHT_STEPS = 8
PREFLIGHT_SECONDS = 0.5
"""The preflight ends with the steps or the seconds, whichever comes first."""
PREFLIGHT_EPISODE = 3
"""Steps of its episodes: so few that restarts are seen."""
LAWFUL_EPISODE = 32
"""Steps of the episodes in which laws are looked at before a run."""

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
    market = subject.market  # built by the first who asks
    seconds = time.perf_counter() - before
    return f"{type(market).__name__}, {market.worlds} worlds in {seconds:.2g} s"


def _timely(subject: Subject) -> str:
    """Only tells the pace: a step that hangs is raised by the watchdog, in whatever check it is."""
    pace = f"{1000 * subject.pace:.2g} ms for {subject.market.worlds} worlds"
    return f"{pace}, limit {subject.seconds:g} s"


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
"""Each is looked at, whatever the others found, but for `NEEDS`."""
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

    Returns:
        a finding for each check, in the order in which they were made.
    """
    subject = Subject(build, seconds, spec, parameters)
    with torch.no_grad(), _helpers() as helpers:
        checks = dict(LAWS)
        if processes:
            # They start and import while the foundations are looked at here.
            worker = surroundings.Worker(subject)
            light = surroundings.LightImport(module)
            helpers += [worker, light]
            checks |= {"worker process": worker.check, "light import": light.check}
        findings = _look_at_foundations(subject)
        if findings[-1].passed is False:
            rest = Finding("everything else", None, "is looked at once this is right")
            return [*findings, rest]
        if processes:
            worker.go()
        # Speed is measured once the worker is done, and nothing can be asked after closing.
        checks |= {"speed": surroundings.speed, "closes": _closes}
        _look_at_laws(subject, checks, findings)
    return findings


def _look_at_foundations(subject: Subject) -> list[Finding]:
    """The findings up to the first that failed."""
    findings: list[Finding] = []
    for name, check in FOUNDATIONS.items():
        findings.append(_look(name, check, subject))
        if findings[-1].passed is False:
            break
    return findings


def _look_at_laws(subject: Subject, checks: dict[str, Check], findings: list[Finding]) -> None:
    """Appends a finding for each check."""
    for name, check in checks.items():
        failed = {finding.check for finding in findings if finding.passed is False}
        if NEEDS.get(name) in failed:
            findings.append(Finding(name, None, f"is looked at once {NEEDS[name]} is right"))
            continue
        findings.append(_look(name, check, subject))
        if findings[-1].passed is False and findings[-1].check == "step time":
            break  # every further check would hang as long


class _Helper(Protocol):
    def stop(self) -> None: ...


@contextmanager
def _helpers() -> Iterator[list[_Helper]]:
    """A list for helper processes, which are stopped whatever happens."""
    helpers: list[_Helper] = []
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
    except (Exception, SystemExit) as error:  # a market may call sys.exit
        if name == "builds":
            rule = "its parameters and `worlds` must be enough"
        else:
            rule = "no legal action may raise"
        fix = f"{rule}; see its traceback"
        return Finding(name, False, _described(error), fix, traceback.format_exc())


def _described(error: BaseException) -> str:
    """Type, message, notes and the market's own line, in one line."""
    notes = "".join(f" {note}" for note in getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error}{notes} ({blame(error)})"


def preflight(market: Market, seconds: float | None = None) -> None:
    """A few steps of random actions before a run starts, in less than a second.

    `market` is of no more use then: its episodes were cut short.

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
        market.truncate_after(min(market.episode_length, PREFLIGHT_EPISODE))
    try:
        with torch.no_grad(), limit_steps(market, seconds or STEP_SECONDS, GRACE_SECONDS) as limit:
            for t, (observations, step) in enumerate(play(market, PREFLIGHT_STEPS, limit)):
                rewards = {} if step is None else step.rewards
                episodes.refuse_not_finite(market, observations, "observations", t)
                episodes.refuse_not_finite(market, rewards, "rewards", t)
                # However slow, the first two steps: actions at the lower and the upper bounds.
                if t > 1 and time.perf_counter() - began > PREFLIGHT_SECONDS:
                    return
    except MarketError:
        raise
    except Exception as error:
        raise MarketError(f"market {type(market).__name__}: {_described(error)}") from error


def lawful(
    build: Builder, *, spec: MarketSpec, parameters: Any, seconds: float | None = None
) -> None:
    """All laws that can be looked at in this process, before a run starts: a second or two.

    What `rl-markets check` refuses does not train either.

    Args:
        build: builds the market with so many worlds.
        spec, parameters: what it is built from.
        seconds: what each step may take, `STEP_SECONDS` unless told otherwise.

    Raises:
        MarketError: the first law that is broken, and how to mend it; the market's own traceback
            is among its details.
    """
    subject = Subject(build, seconds or STEP_SECONDS, spec, parameters, longest=LAWFUL_EPISODE)
    with torch.no_grad(), kept_global_states():
        findings = _look_at_foundations(subject)
        if findings[-1].passed is not False:
            _look_at_laws(subject, LAWS, findings)
        subject.close()
    options = "".join(f" -o {name}={path}" for name, path in spec.code(parameters).items())
    for finding in findings:
        if finding.passed is False:
            error = MarketError(
                f"market {spec.name}: {finding.check}: {finding.detail}; {finding.fix}; "
                f"`rl-markets check --market {spec.name}{options}` says all that it finds"
            )
            error.details = finding.trace
            raise error


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
    full_name, spec, module = locate(name_or_path)
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


def _print(spec: MarketSpec, findings: list[Finding], console: Console) -> None:
    """A row for each finding, then tracebacks, then the verdict."""
    title = f"market {spec.name}"
    table = Table("check", "", "found", title=title, title_justify="left", box=None, pad_edge=False)
    marks = {True: ("ok", "green"), False: ("FAILED", "red"), None: ("-", "dim")}
    for finding in findings:
        mark, style = marks[finding.passed]
        fix = f"\n-> {finding.fix}" if finding.fix else ""
        # `Text`, because a market's messages may hold rich's [markup].
        table.add_row(finding.check, Text(mark, style), Text(finding.detail + fix))
    console.print(table, soft_wrap=False)
    failed = [finding for finding in findings if finding.passed is False]
    for finding in failed:
        if finding.trace:
            console.print(f"\n{finding.trace}")
    verdict = "all checks passed"
    if failed:
        verdict = f"failed: {', '.join(finding.check for finding in failed)}"
    console.print(f"{spec.name}: {verdict}")
