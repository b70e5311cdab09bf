"""What `make results` does, at a tiny size.

Runs are kept and gone on with; documents and pages say what was measured.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import documents, page, plan, pool
from benchmarks.results.plan import Plan, Run
from rl_markets.errors import ExperimentError
from rl_markets.experiment.rules import LATEST

ROOT = Path(__file__).parents[2]
TINY = (
    "market.worlds=4",
    "training.rollout_length=8",
    "training.agent_steps=64",
    "certificate.seeds=2",
    "certificate.deviation_agent_steps=0",
    "policies.household.hidden=[8]",
    "algorithm.parameters.minibatches=2",
)
RUN = Run("households-full-depreciation", 3, TINY)


def every(each: Plan) -> list[Run]:
    return [*each.certified, *each.variations, *each.compared]


def test_another_currency_is_the_same_market() -> None:
    """Prices times the unit, demand's slope divided by it: the same demand at every level."""
    one, other = (pool.experiment_of(Run("pricing-gvr", 0, o)) for o in ((), plan.currency(100.0)))
    a, b = (e.market_parameters.model_dump() for e in (one, other))
    assert b["list_price"] == [100_000.0]
    assert a["list_price"][0] * a["demand"]["slope"][0] == pytest.approx(
        b["list_price"][0] * b["demand"]["slope"][0]
    )
    others = a.keys() - {"list_price", "demand"}
    assert others == b.keys() - {"list_price", "demand"}
    assert {name: a[name] for name in others} == {name: b[name] for name in others}


def test_every_planned_run_is_a_valid_experiment_in_a_folder_of_its_own() -> None:
    for each in (plan.FULL, plan.QUICK):
        runs = every(each)
        assert len({run.folder for run in runs}) == len(runs)
        assert len({pool.experiment_of(run).digest for run in runs}) == len(runs)
    full = {(run.folder, tuple(run.settings)) for run in every(plan.FULL)}
    assert {(run.folder, tuple(run.settings)) for run in every(plan.QUICK)} <= full
    for n in (*plan.FULL.sizes, plan.MANY):
        experiment = pool.experiment_of(plan.sized("-analytic", n, 0))
        assert experiment.agents == n
        assert n * experiment.market.worlds >= 0.8 * plan.ROWS


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """One tiny run, carried out twice, and a comparison; what was said."""
    root = tmp_path_factory.mktemp("runs")
    said = list[str]()
    pool.carry_out([RUN], root, 1, said.append)
    pool.carry_out([RUN], root, 1, said.append)
    return root, said


def test_a_finished_run_is_not_trained_again(finished: tuple[Path, list[str]]) -> None:
    root, said = finished
    assert said[0].startswith("1 runs, 0 of them finished before")
    assert said[-1].startswith("1 runs, 1 of them finished before")
    record = pool.record_of(RUN, root)
    assert record is not None
    assert record.cpu_seconds > 0 < record.seconds
    assert 100 < record.peak_mib < 10_000
    other = Run(RUN.experiment, RUN.seed, (*TINY, "certificate.seeds=3"))
    assert pool.record_of(other, root) is None, "another experiment in the same folder"


def test_a_document_holds_the_certificate_and_what_it_took(
    finished: tuple[Path, list[str]],
) -> None:
    root, _ = finished
    document = documents.document(RUN.experiment, [RUN], root)
    (seed,) = document["seeds"]
    certificate = json.loads((root / RUN.folder / LATEST / "certificate.json").read_text())
    assert seed["seed"] == 3
    assert list(seed["metrics"]) == [m["name"] for m in certificate["metrics"]]
    assert seed["curve"][-1][0] == 64
    assert seed["peak_mib"] > 100


def test_a_run_that_fails_is_named_with_its_log_and_the_others_go_on(tmp_path: Path) -> None:
    """A run whose market breaks at once, before one that is good."""
    broken = Run(RUN.experiment, 0, (*TINY, "training.step_seconds=1e-9"), label="broken")
    said: list[str] = []
    message = r"1 of 2 runs failed: broken/seed-0 \(exit code 1, see .*log\.txt\)"
    with pytest.raises(pool.RunsFailedError, match=message):
        pool.carry_out([broken, RUN], tmp_path, 1, said.append)
    assert "rl-markets: " in (tmp_path / broken.folder / pool.LOG).read_text()
    assert pool.record_of(broken, tmp_path) is None
    assert pool.record_of(RUN, tmp_path) is not None


def test_an_invalid_experiment_starts_nothing(tmp_path: Path) -> None:
    broken = Run(RUN.experiment, 0, ("market.worlds=0",))
    with pytest.raises(ExperimentError, match=r"market\.worlds"):
        pool.carry_out([RUN, broken], tmp_path, 1, lambda line: None)
    assert not any(tmp_path.iterdir())


def test_a_process_that_ends_badly_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.sys, "executable", "false")
    said: list[str] = []
    message = r"1 of 1 runs failed: .*seed-3 \(exit code 1, see .*log\.txt\)"
    with pytest.raises(pool.RunsFailedError, match=message):
        pool.carry_out([RUN], tmp_path, 1, said.append)
    assert said[-1].endswith("failed")
    assert pool.record_of(RUN, tmp_path) is None


def test_the_comparison_looks_at_errors_returns_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = (*TINY, "market.parameters.households=3", "training.agent_steps=192")
    monkeypatch.setattr(plan, "LEARNERS", {"": "PPO"})
    monkeypatch.setattr(documents, "LEARNERS", {"": "PPO"})
    monkeypatch.setattr(page, "LEARNERS", {"": "PPO"})
    run = Run("households-rbc", 0, tiny, False, "by-size/3-ppo")
    monkeypatch.setattr(plan, "sized", lambda learner, n, seed: run)
    pool.carry_out([run], tmp_path, 1, lambda line: None)
    comparison = documents.comparison(Plan((0,), (3,), ()), tmp_path)
    (row,) = comparison["rows"]
    assert (row["households"], row["learner"]) == (3, "PPO")
    (seed,) = row["seeds"]
    assert seed["return"] < seed["best_return"] < 0
    assert seed["labour_error"] > 10 < seed["share_error"], "hardly trained"
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / f"{documents.COMPARISON}.json").write_text(json.dumps(comparison))
    lines = page.comparison(folder)
    assert len(lines) == 3
    assert lines[2].startswith("| 3 | PPO | **")
    plot = page.by_size(folder, "error", "error, %")
    assert plot.lines[0].y == [max(seed["share_error"], seed["labour_error"])]


def test_a_median_over_seeds_is_nan_where_one_of_them_failed() -> None:
    assert documents.middle([1.0, 5.0, 3.0]) == 3.0
    assert math.isnan(documents.middle([1.0, math.nan, 3.0]))


METHODS = {"exact", "fit-then-plan, 10 logged seasons", "fit-then-plan, 30 logged seasons"}
"""Controls of the published results that solve the problem themselves, and may pass."""
ANSWERS = 1e-2
"""Share of a limit within which a control is the answer itself: constants at full depreciation."""


def passes(judged: list[dict[str, Any]], control: str) -> bool:
    """Whether a control meets every limit, and is not the answer."""
    lines = [
        (float(m["controls"][control]), m["limit"]) for m in judged if control in m["controls"]
    ]
    within = all(value <= limit for value, limit in lines)
    return within and not all(value <= ANSWERS * limit for value, limit in lines)


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "results").glob("*.json")))
def test_published_limits_refuse_their_own_controls(path: Path) -> None:
    """An untrained network and the best simple rule miss a line, unless the rule is the answer.

    An untrained network of few choices is a constant, which one seed may draw next to the answer:
    its certificate then says so.
    """
    content = json.loads(path.read_text())
    passed: dict[str, list[bool]] = {}
    for seed in content["seeds"] if "experiment" in content else []:
        judged = [m for m in seed["metrics"].values() if m["limit"] is not None]
        for name in {name for m in judged for name in m["controls"]} - METHODS:
            passed.setdefault(name, []).append(passes(judged, name))
    assert not all(passed.pop("untrained network", [False]))
    assert {name for name, by_seed in passed.items() if any(by_seed)} == set()
