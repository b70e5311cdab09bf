"""Markets that break their contract are found, named and explained in seconds.

Those that keep it pass.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rl_markets.conformance.examine import build_named, examine, resolve, run
from rl_markets.conformance.probe import Subject
from rl_markets.conformance.spec import LightImport
from rl_markets.envs.spec import MarketSpec
from rl_markets.errors import ContractError, ExperimentError
from tests.support import broken_markets
from tests.support.conformance import BROKEN, SECONDS, build, examined, failed

# -- no false alarms -------------------------------------------------------------------------------

HOUSEHOLDS: dict[str, dict[str, Any]] = {
    "price-taking": {},
    "one": {"households": 1},
    "strategic": {"conduct": "strategic", "initial_dispersion": 0.5},
    "cooperative": {"conduct": "cooperative", "initial_dispersion": 0.5},
    "heterogeneous": {
        "households": 6,
        "capital_productivity": [0.8, 1.0, 1.2],
        "labour_productivity": [1.0, 0.5],
    },
    "raw": {"features": "raw", "delta": 1.0, "episode_length": 7},
    "without noise": {"sigma": 0.0, "initial_capital": [1.0, 1.0], "episode_length": 1},
}


@pytest.mark.parametrize("case", HOUSEHOLDS)
def test_households_pass(case: str) -> None:
    spec = resolve("households")
    findings = examine(
        partial(build_named, "households", HOUSEHOLDS[case]),
        spec=spec,
        parameters=spec.parameters(**HOUSEHOLDS[case]),
        processes=False,
    )
    assert not failed(findings)
    told = {finding.check: finding.detail for finding in findings}
    alike = {"heterogeneous": "in advance", "one": "one agent each"}
    assert told["agents alike"].endswith(alike.get(case, "yes"))
    if case in ("cooperative", "one"):
        assert "as finite differences say" in told["gradients"]


@pytest.mark.parametrize("name", ["RIGHT", "FOREIGN_RIGHT"])
def test_a_right_market_passes(name: str) -> None:
    findings = examined(name)
    assert not failed(findings)
    assert sum(finding.passed is True for finding in findings) >= 10


def test_households_pass_for_a_person_in_ten_seconds(tmp_path: Path) -> None:
    """With a spawned worker and all imports."""
    code = (
        "import io; from rich.console import Console; "
        "from rl_markets.conformance.examine import run\n"
        "if __name__ == '__main__':\n"
        "    out = io.StringIO()\n"
        "    assert run('households', {}, Console(file=out)), out.getvalue()\n"
        "    assert 'all checks passed' in out.getvalue() and 'spawned process' in out.getvalue()\n"
    )
    (tmp_path / "main.py").write_text(code)
    before = time.perf_counter()
    done = subprocess.run(
        [sys.executable, tmp_path / "main.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.perf_counter() - before < (10 if os.getloadavg()[0] < 1.5 else 60)


# -- each defect is found --------------------------------------------------------------------------

DEFECTS: dict[str, tuple[str, str, str]] = {
    "NAN_OBSERVATION": ("finite", "observations of group 'traders'", "log(0)"),
    "NAN_REWARD": ("finite", "rewards of group 'traders': nan in world", "clamp"),
    "NAN_LATE": ("finite", "rewards of group 'traders': nan in world", "clamp"),
    "INFINITE_REWARD": (
        "finite",
        "inf in world 0, agent 0 in step 0 with all actions at their low bounds",
        "clamp",
    ),
    "OUT_OF_SPACE": ("spaces", "expected in [0, 1]", "observation_space"),
    "REWARD_SHAPE": ("steps", "found shape [4, 1], expected [4, 3]", "expand"),
    "OBSERVATION_SHAPE": (
        "steps",
        "found shape [4, 3, 3], expected [4, 3, 2]",
        "observation_space",
    ),
    "MISSING_AGENT": ("steps", "found shape [4, 2, 2], expected [4, 3, 2]", "AgentGroup.count"),
    "MISSING_GROUP": ("steps", "no entry for group 'maker'", "traders, maker"),
    "DOUBLE_PRECISION": ("steps", "found float64, expected float32", ".to(torch.float32)"),
    "MASK_TYPE": (
        "steps",
        "active of group 'traders': found float32, expected bool",
        ".to(torch.bool)",
    ),
    "LATE_SHAPE": ("finite", "found shape [4, 1], expected [4, 3]", "expand"),
    "GRAPH": ("steps", "carries a gradient though gradients are off", "detach()"),
    "RESTART_SHAPE": ("state layout", "expected torch.float32 [1, 1]", "own argument `worlds`"),
    "HANG_LOOP": ("step time", "took longer than 1 s at broken_markets.py:", "end the loop"),
    "HANG_SLEEP": ("step time", "time.sleep(0.01)", "end the loop"),
    "RAISES_SOON": ("steps", "ValueError: the firm went bankrupt in step", "traceback"),
    "RAISES_LATE": ("finite", "ValueError: the firm went bankrupt in step", "traceback"),
    "UNBUILDABLE": ("builds", "FileNotFoundError: no such file: prices.csv", "its parameters"),
    "NO_MARKET": ("builds", "is a NoMarket, not a Market", "derive it"),
    "NUMBERS_FROM_ONE": ("builds", "starts at 1", "from 0"),
    "UNEQUAL_BRANCHES": (
        "builds",
        "as many choices in every branch",
        "MultiDiscrete([n] * branches)",
    ),
    "MASKED_BOX": ("builds", "masked, with action space Box", "mask discrete choices only"),
    "MASK_TOO_WIDE": (
        "builds",
        "entries in an observation and 99 choices",
        "an entry for each choice",
    ),
    "GLOBAL_RANDOMNESS": ("determinism", "shared generator of torch", "generator=generator"),
    "OWN_RANDOMNESS": ("determinism", "two markets with the same seed differ", "default_rng"),
    "IN_PLACE": ("pure functions", "changes its argument state['stock']", "not x += y"),
    "HIDDEN_STATE": ("resume", "goes on differently from a saved state", "state tensors"),
    "WORLDS_LEAK": ("worlds apart", "another world's state or actions", "never over axis 0"),
    "WORLD_INDEX": ("worlds apart", "depend on the index of their world", "into the state"),
    "NOT_EXCHANGEABLE": ("agents alike", "permuting them changes", "index"),
    "RESTARTED_FINALS": ("final observations", "those of the new episode", "before the restart"),
    "NO_GRADIENT": ("gradients", "carry no gradient", "differentiable = False"),
    "NO_GLOBAL_STATE": ("global state", "spec.global_state = True", "observe_globally"),
    "HIDDEN_GLOBAL_STATE": ("global state", "its spec hides", "global_state=True"),
    "ILLEGAL_SCRIPT": ("scripts", "found actions outside", "in the space"),
    "LAX_PARAMETERS": ("spec", "accepts unknown parameters", 'extra="forbid"'),
    "WRONG_COUNT": ("spec", "{'traders': 4, 'maker': 1}", "counts"),
    "FOREIGN_FINALS": (
        "final observations",
        "those of the new episodes",
        "before their world restarts",
    ),
    "FOREIGN_NAN_FINALS": (
        "finite",
        "final observations of group 'guessers': nan in world 0, agent 0, entry 0",
        "log(0)",
    ),
    "FOREIGN_INDICES": ("steps", "expected ascending indices", "nonzero"),
    "FOREIGN_BUFFER": ("steps", "later steps overwrite", "clone()"),
}
ELSEWHERE = {"OTHER_PROCESS", "NO_WORKER", "HANG_IN_C"}
"""Defects that have tests of their own."""


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_named_with_what_to_do(name: str) -> None:
    before = time.perf_counter()
    findings = examined(name)
    assert time.perf_counter() - before < 10
    check, detail, fix = DEFECTS[name]
    assert check in failed(findings), findings
    finding = failed(findings)[check]
    assert detail in finding.detail
    assert fix in finding.fix
    assert "\n" not in finding.detail + finding.fix
    others = failed(findings).keys() - {check}
    assert others <= {"pure functions"}, "one defect, one finding, or its other side"
    if name.startswith(("HANG", "RAISES")):
        assert "in spoil" in finding.trace, "the traceback reaches into the market"


def test_every_broken_market_has_a_test() -> None:
    specs = {name for name, value in vars(broken_markets).items() if isinstance(value, MarketSpec)}
    assert specs == DEFECTS.keys() | ELSEWHERE | {"RIGHT", "FOREIGN_RIGHT"}


def test_what_breaks_only_in_a_worker_is_found_and_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = time.perf_counter()
    assert not run(f"{BROKEN}:NO_WORKER", {}, Console(width=200))
    assert time.perf_counter() - before < (10 if os.getloadavg()[0] < 1.5 else 60)
    out = capsys.readouterr().out
    price_feed = "RuntimeError: the price feed belongs to the main process"
    assert f"breaks in a worker process only: {price_feed}" in out
    assert out.strip().splitlines()[-1] == "noworker: failed: worker process"


def test_what_differs_between_processes_is_found() -> None:
    finding = failed(examined("OTHER_PROCESS", processes=True))["worker process"]
    other = "the same seed gives something else in another process"
    assert f"{other}: rewards of group 'traders'" in finding.detail


def test_a_builder_that_cannot_travel_is_found() -> None:
    findings = examine(lambda worlds: build("RIGHT", worlds), seconds=SECONDS)
    finding = failed(findings)["worker process"]
    assert "cannot be sent to a worker" in finding.detail
    assert "no lambda" in finding.fix


def test_a_heavy_spec_module_is_found() -> None:
    light = LightImport("gymnasium")
    message = "importing gymnasium imports 'gymnasium'; keep SPEC and parameters in a"
    with pytest.raises(ContractError, match=message):
        light.check(Subject(partial(build, "RIGHT"), SECONDS))


# -- finding a market ------------------------------------------------------------------------------

ONE = """
from pydantic import BaseModel
from rl_markets.envs.spec import MarketSpec
SPEC = MarketSpec("mine", "", BaseModel, "nowhere:Market", lambda p: {})
"""


def test_markets_are_found_by_name_module_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert resolve("households").name == "households"
    assert resolve("rl_markets.envs.households:SPEC") is resolve("households")
    # A file outside packages is a module of its own, not `tests.support.broken_markets`.
    nan_reward = resolve(f"{BROKEN}:NAN_REWARD")
    assert nan_reward is sys.modules["broken_markets"].NAN_REWARD
    (tmp_path / "a_market_of_mine.py").write_text(ONE)
    assert resolve(str(tmp_path / "a_market_of_mine.py")).name == "mine"
    package = tmp_path / "a_package_of_mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "base.py").write_text(ONE)
    (package / "spec.py").write_text("from .base import SPEC\n")
    monkeypatch.chdir(tmp_path)
    assert resolve("a_package_of_mine/spec.py:SPEC").name == "mine"


NOWHERE = {
    "househols": "unknown market 'househols' (did you mean 'households'?)",
    "no.such.module:SPEC": "no.such.module: cannot be imported: ModuleNotFoundError",
    "none.py:SPEC": "none.py: no such file",
    "none.py": "none.py: no such file",
    f"{BROKEN}:NAN_REWARDS": "no MarketSpec called 'NAN_REWARDS' (did you mean 'NAN_REWARD'?)",
    str(BROKEN): "market specs, expected one; name it",
    "broken_syntax.py": "cannot be imported: SyntaxError",
    "json.py": "another module is called json",
    "rl_markets.envs.market:Market": "no MarketSpec called 'Market'",
}


@pytest.mark.parametrize("name", NOWHERE)
def test_what_is_no_market_is_told_in_a_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    Path("broken_syntax.py").write_text("SPEC = (\n")
    Path("json.py").write_text(ONE)
    with pytest.raises(LookupError) as caught:
        resolve(name)
    assert NOWHERE[name] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_parameters_are_told_in_a_line() -> None:
    with pytest.raises(ExperimentError, match=r"households: parameters.alpha = 2.0: expected < 1"):
        run("households", {"alpha": 2.0}, Console(quiet=True))
