"""How the tests examine a broken market."""

from __future__ import annotations

from functools import partial
from typing import Any

from rl_markets.conformance.examine import Finding, build_named, examine, resolve
from rl_markets.envs.market import Market
from tests.support.running import ROOT

BROKEN = ROOT / "tests" / "support" / "broken_markets.py"
SECONDS = 1.0
"""What a step may take here; hangs are waited for."""


def build(name: str, worlds: int = 4) -> Market:
    """A market of `broken_markets`."""
    return build_named(f"{BROKEN}:{name}", {}, worlds)


def examined(name: str, **options: Any) -> list[Finding]:
    """What is found in a market of `broken_markets`, in this process."""
    spec = resolve(f"{BROKEN}:{name}")
    options = {"processes": False, "seconds": SECONDS} | options
    return examine(partial(build, name), spec=spec, parameters=spec.parameters(), **options)


def failed(findings: list[Finding]) -> dict[str, Finding]:
    """The failures by check."""
    return {finding.check: finding for finding in findings if finding.passed is False}
