"""Markets that break their contract stop before training starts, or at the step that breaks it."""

from __future__ import annotations

import os
import time
import timeit
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from rl_markets import workflow
from rl_markets.conformance.examine import preflight, resolve
from rl_markets.conformance.probe import Actions
from rl_markets.envs import registry
from rl_markets.envs.checks import check_groups, check_observations, check_step
from rl_markets.envs.market import Ended, Market
from rl_markets.envs.spec import MarketSpec
from rl_markets.errors import ContractError, MarketError, RunFailedError
from rl_markets.experiment import parse
from rl_markets.experiment.yaml_file import dump_yaml
from rl_markets.rllib.recorder import Recorded, Recorder
from rl_markets.training.run_folder import RunFolder
from rl_markets.training.session import TrainingSession
from tests.support import broken_markets
from tests.support.conformance import BROKEN, SECONDS, build
from tests.support.running import ROOT, command, tiny

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
# `workflow.train` looks at the laws (`conformance.lawful`) before Ray starts, and calls
# `conformance.preflight` in a worker of Ray's where there are runners; the runner calls
# `checks.check_step` on every step, inside `watchdog.limit_steps`.

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


LAWS = {
    "NAN_REWARD": "finite: rewards of group 'traders': nan in world",
    "REWARD_SHAPE": "steps: rewards of group 'traders': found shape [4, 1], expected [4, 3]",
    "RAISES_SOON": "steps: ValueError: the firm went bankrupt",
    "HANG_LOOP": "step time: market HangLoop: a step took longer than",
    "GLOBAL_RANDOMNESS": "determinism: draws from the shared generator of torch",
    "OWN_RANDOMNESS": "determinism: two markets with the same seed differ",
    "IN_PLACE": "pure functions: transition or observe changes its argument state['stock']",
    "HIDDEN_STATE": "pure functions: called twice, transition gives other rewards",
    "WORLDS_LEAK": "worlds apart: ",
    "WORLD_INDEX": "worlds apart: ",
    "RESTARTED_FINALS": "final observations: ",
}


@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("name", LAWS)
def test_train_refuses_before_ray_starts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `check` refuses, and before there is a folder of the run; the law is named."""
    monkeypatch.setattr(workflow, "ray_session", lambda _: pytest.fail("Ray was started"))
    data = experiment(name)
    with pytest.raises(RunFailedError) as failure:
        workflow.train(parse(data, "test"), tmp_path / "runs")
    said = str(failure.value)
    assert f"market {data['market']['name']}: {LAWS[name]}" in said
    assert "`rl-markets check --market" in said
    assert "\n" not in said
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


def test_a_final_observation_that_is_no_number_is_refused_where_it_is_recorded() -> None:
    """Rewards and the observations of the next episode are fine."""
    market = build("FOREIGN_NAN_FINALS")
    recorder = Recorder(market, 12, {"p": Recorded(("guessers",), separate=False, central=False)})
    observations = market.reset(0)
    for t in range(12):
        recorder.observe(t, observations)
        step = market.step({"guessers": torch.zeros(4, 2, dtype=torch.int64)})
        recorder.outcome(t, step)
        observations = step.observations
    recorder.observe(12, observations)
    recorder.check_finite()
    with pytest.raises(
        MarketError, match="final observation of group 'guessers' is nan in world 0"
    ):
        recorder.fragments()


def test_what_breaks_only_in_rays_workers_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a third party installs it.

    A module and its entry point on the path, which workers see, too.
    """
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
    path = [str(site), str(ROOT), os.environ.get("PYTHONPATH", "")]  # it builds on tests.support
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path).rstrip(os.pathsep))
    (tmp_path / "e.yaml").write_text(dump_yaml(experiment("NO_WORKER", runners=1)))
    done = command("train", tmp_path / "e.yaml", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "RuntimeError: the price feed belongs to the main process" in last
