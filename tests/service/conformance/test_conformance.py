"""Markets that break their contract are found, named and explained in seconds; those that keep it
pass."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import timeit
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from rl_markets import workflow
from rl_markets.conformance.examine import Finding, build_named, examine, preflight, resolve, run
from rl_markets.conformance.probe import Actions, Subject
from rl_markets.conformance.spec import LightImport
from rl_markets.envs import registry
from rl_markets.envs.checks import check_groups, check_observations, check_step
from rl_markets.envs.market import Ended, Market
from rl_markets.envs.spec import MarketSpec
from rl_markets.errors import ContractError, ExperimentError, MarketError, RunFailedError
from rl_markets.experiment import parse
from rl_markets.experiment.yaml_file import dump_yaml
from rl_markets.training.run_folder import RunFolder
from rl_markets.training.session import TrainingSession
from tests.support import broken_markets
from tests.support.running import ROOT, command, tiny

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
    assert told["agents alike"].endswith(
        {"heterogeneous": "in advance", "one": "one agent each"}.get(case, "yes")
    )
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
        "import io; from rich.console import Console; from rl_markets.conformance.examine import "
        "run\n"
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
    assert (
        "breaks in a worker process only: RuntimeError: the price feed belongs to the main process"
        in out
    )
    assert out.strip().splitlines()[-1] == "noworker: failed: worker process"


def test_what_differs_between_processes_is_found() -> None:
    finding = failed(examined("OTHER_PROCESS", processes=True))["worker process"]
    assert (
        "the same seed gives something else in another process: rewards of group 'traders'"
        in finding.detail
    )


def test_a_builder_that_cannot_travel_is_found() -> None:
    finding = failed(examine(lambda worlds: build("RIGHT", worlds), seconds=SECONDS))[
        "worker process"
    ]
    assert "cannot be sent to a worker" in finding.detail
    assert "no lambda" in finding.fix


def test_a_heavy_spec_module_is_found() -> None:
    light = LightImport("gymnasium")
    with pytest.raises(
        ContractError,
        match="importing gymnasium imports 'gymnasium'; keep SPEC and parameters in a",
    ):
        light.check(Subject(partial(build, "RIGHT"), SECONDS))


# -- every step ------------------------------------------------------------------------------------


def test_the_contract_costs_microseconds() -> None:
    market = build("RIGHT", 64)
    market.reset(0)
    step = market.step(Actions(market, 0)())
    best = min(timeit.repeat(lambda: check_step(market, step), number=200, repeat=5)) / 200
    assert best < 100e-6, "about 10 us where nothing else runs"


def spoiled_step(**changes: Any) -> tuple[Market, Any]:
    """A step of the right market with other parts."""
    market = build("RIGHT")
    market.reset(0)
    return market, replace(market.step(Actions(market, 0)()), **changes)


def ended(**changes: Any) -> Ended:
    """Worlds 1 and 3 ended."""
    last = {"traders": torch.zeros(2, 3, 2), "maker": torch.zeros(2, 1, 1)}
    return replace(
        Ended(torch.tensor([1, 3]), torch.tensor([False, True]), last, torch.zeros(2, 4)), **changes
    )


REWARDS = {"traders": torch.zeros(4, 3), "maker": torch.zeros(4, 1)}
STEPS: dict[str, tuple[dict[str, Any], str]] = {
    "fine": ({}, ""),
    "float64 rewards": ({"rewards": {g: r.double() for g, r in REWARDS.items()}}, ""),
    "masks": ({"active": {"maker": torch.ones(4, 1, dtype=torch.bool)}, "ended": ended()}, ""),
    "no dict": ({"rewards": torch.zeros(4, 3)}, "rewards: found a Tensor; give a dict"),
    "unknown group": (
        {"rewards": REWARDS | {"x": torch.zeros(4, 1)}},
        "rewards: unknown group 'x'",
    ),
    "array": (
        {"rewards": REWARDS | {"maker": [[0.0]]}},
        "rewards of group 'maker': found a list; give a torch tensor",
    ),
    "elsewhere": (
        {"rewards": REWARDS | {"maker": torch.zeros(4, 1, device="meta")}},
        "found on meta, expected cpu",
    ),
    "whole numbers": (
        {"rewards": REWARDS | {"maker": torch.zeros(4, 1).int()}},
        "found int32, expected float32 or f",
    ),
    "unknown mask": ({"agent_done": {"x": torch.zeros(4, 3)}}, "agent_done: unknown group 'x'"),
    "nobody ended": (
        {"ended": ended(worlds=torch.tensor([], dtype=torch.int64))},
        "no Ended where none ended",
    ),
    "mask of worlds": (
        {"ended": ended(worlds=torch.tensor([True, False]))},
        "ended.worlds: found bool, expected int64",
    ),
    "not ascending": (
        {"ended": ended(worlds=torch.tensor([3, 1]))},
        "expected ascending indices below 4",
    ),
    "no such world": (
        {"ended": ended(worlds=torch.tensor([1, 4]))},
        "expected ascending indices below 4",
    ),
    "terminated": (
        {"ended": ended(terminated=torch.zeros(2))},
        "ended.terminated: found float32, expected bool",
    ),
    "final": (
        {"ended": ended(observations={"maker": torch.zeros(2, 1, 1)})},
        "no entry for group 'traders'",
    ),
    "final state": (
        {"ended": ended(global_state=torch.zeros(4, 4))},
        "ended.global_state: found shape [4, 4]",
    ),
}


@pytest.mark.parametrize("case", STEPS)
def test_check_step(case: str) -> None:
    changes, expected = STEPS[case]
    market, step = spoiled_step(**changes)
    if not expected:
        check_step(market, step)
        return
    with pytest.raises(ContractError) as caught:
        check_step(market, step)
    assert expected in str(caught.value)
    assert str(caught.value).startswith("market Right: ")


def test_what_a_step_returns_must_be_a_step() -> None:
    market, step = spoiled_step()
    with pytest.raises(ContractError, match="returned a tuple"):
        check_step(market, (step.observations, step.rewards))  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="observations: found a NoneType"):
        check_observations(market, None)  # type: ignore[arg-type]
    market.groups = {}
    with pytest.raises(ContractError, match="non-empty mapping"):
        check_groups(market)


# -- before and while it trains --------------------------------------------------------------------
# `workflow.train` calls `conformance.preflight` before Ray starts, and again in a worker of Ray's
# where there are runners; the runner calls `contract.check_step` on every step, inside
# `watchdog.limit_steps`.

EARLY = {
    "NAN_REWARD": "rewards of group 'traders': nan in world",
    "INFINITE_REWARD": "inf in world 0, agent 0 in step 0 with all actions at their low bounds",
    "REWARD_SHAPE": "found shape [2, 1], expected [2, 3]; give each of the 3 agents its own",
    "MISSING_GROUP": "no entry for group 'maker'",
    "RAISES_SOON": "ValueError: the firm went bankrupt",
    "HANG_LOOP": "a step took longer than",
    "RESTART_SHAPE": "index_copy",
    "NUMBERS_FROM_ONE": "number actions from 0",
}


@pytest.mark.parametrize("name", EARLY)
def test_preflight(name: str) -> None:
    with pytest.raises(MarketError) as caught:
        preflight(build(name, 2), seconds=SECONDS)
    assert EARLY[name] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["RIGHT", "FOREIGN_RIGHT", "RAISES_LATE", "HANG_SLEEP"])
def test_preflight_is_short(name: str) -> None:
    before = time.perf_counter()
    preflight(build(name, 2), seconds=SECONDS)
    assert time.perf_counter() - before < 1


def experiment(name: str, **training: Any) -> dict[str, Any]:
    """A tiny experiment on a market of `broken_markets`."""
    policies = {
        "trader": {"groups": ["traders"], "hidden": [8]},
        "maker": {"groups": ["maker"], "hidden": [8]},
    }
    market = {"name": resolve(f"{BROKEN}:{name}").name, "worlds": 4, "parameters": {}}
    data = tiny(training={"agent_steps": 4 * 8 * 4 * 10, "step_seconds": SECONDS} | training)
    return data | {"market": market, "policies": policies}


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken markets, registered in this process."""
    specs = [value for value in vars(broken_markets).values() if isinstance(value, MarketSpec)]
    entries = [SimpleNamespace(name=spec.name, load=lambda spec=spec: spec) for spec in specs]
    learners = list(registry.entry_points(group=registry.LEARNERS))
    offers = {registry.MARKETS: entries, registry.LEARNERS: learners}
    monkeypatch.setattr(registry, "entry_points", lambda group: offers[group])


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("name", ["NAN_REWARD", "REWARD_SHAPE", "RAISES_SOON", "HANG_LOOP"])
def test_train_refuses_before_ray_starts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And before there is a folder of the run."""
    monkeypatch.setattr(workflow, "ray_session", lambda _: pytest.fail("Ray was started"))
    with pytest.raises(RunFailedError) as failure:
        workflow.train(parse(experiment(name), "test"), tmp_path / "runs")
    assert EARLY[name] in str(failure.value)
    assert "\n" not in str(failure.value)
    assert not (tmp_path / "runs").exists()
    if name in ("RAISES_SOON", "HANG_LOOP"):
        assert "in spoil" in failure.value.details, "the traceback reaches into the market"


LATE = {
    "LATE_SHAPE": ["found shape [4, 1], expected [4, 3]"],
    "HANG_SLEEP": ["took longer than 1 s"],
    "RAISES_LATE": ["ValueError: the firm went bankrupt"],
    "NAN_LATE": ["nan", "'traders'"],
}


@pytest.mark.usefixtures("offered", "ray_once")
@pytest.mark.parametrize("name", LATE)
def test_what_breaks_in_the_sixtieth_step_fails_the_run(name: str, tmp_path: Path) -> None:
    run = TrainingSession(
        RunFolder.create(parse(experiment(name), "test"), tmp_path), Console(quiet=True)
    )
    with pytest.raises(RunFailedError) as failure:
        run.train()
    for expected in ["iteration 8", *LATE[name]]:
        assert expected in str(failure.value)
    if name in ("HANG_SLEEP", "RAISES_LATE"):
        assert "in spoil" in failure.value.details


def test_what_breaks_only_in_rays_workers_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a third party installs it: a module and its entry point on the path, which workers see,
    too."""
    # Needs `workflow.train` to run the preflight in a worker of Ray's, too, where there are
    # runners: RLlib hides why the constructor of a runner failed.
    site = tmp_path / "site"
    installed = site / "broken_markets-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-markets\nVersion: 0\n")
    (installed / "entry_points.txt").write_text(
        "[rl_markets.markets]\nnoworker = broken_markets:NO_WORKER\n"
    )
    (site / "broken_markets.py").symlink_to(BROKEN)
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    )
    (tmp_path / "e.yaml").write_text(dump_yaml(experiment("NO_WORKER", runners=1)))
    done = command("train", tmp_path / "e.yaml", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "RuntimeError: the price feed belongs to the main process" in last


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
    assert resolve(f"{BROKEN}:NAN_REWARD") is broken_markets.NAN_REWARD
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
