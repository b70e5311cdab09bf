"""Certificates: the answer scores zero, what must fail fails.

Controls are in order, and deviators find what is there.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from rl_markets import exported, workflow
from rl_markets.certificate import best_response, document, report, tables
from rl_markets.certificate.document import Certificate
from rl_markets.envs.answer_key import Metric
from rl_markets.envs.households import SPEC as HOUSEHOLDS
from rl_markets.envs.households.answer.identical import HouseholdsAnswer
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.envs.market import PolicyFunction
from rl_markets.errors import CorruptError, ExperimentError
from rl_markets.experiment import parse
from rl_markets.policies.actors import NetworkActor, build_actor
from tests.support.running import tiny

SEEDS = [0, 1, 2]


def answer(**parameters: Any) -> HouseholdsAnswer:
    return HouseholdsAnswer(HouseholdsParameters(**parameters))


def exact_policy(key: HouseholdsAnswer) -> PolicyFunction:
    """The known answer as a policy on observations.

    It undoes the features, so that the whole path is exercised.
    """

    def act(obs: torch.Tensor) -> torch.Tensor:
        k = torch.exp(2 * obs[..., 1]).double().numpy()
        z = (obs[..., 4] / 10).double().numpy()
        return torch.from_numpy(np.stack(key.exact(k, z), -1)).float()

    return act


def constant(share: float, labour: float) -> PolicyFunction:
    return lambda obs: torch.tensor([share, labour]).expand(*obs.shape[:-1], 2)


def metrics(key: HouseholdsAnswer, learned: PolicyFunction) -> dict[str, Metric]:
    assessment = key.assess({"households": learned}, {"households": constant(0.5, 0.5)}, SEEDS)
    return {m.name: m for m in assessment.metrics}


@pytest.fixture(
    scope="module", params=[1.0, 0.025], ids=["full depreciation", "partial depreciation"]
)
def key(request: pytest.FixtureRequest) -> HouseholdsAnswer:
    return answer(delta=request.param, households=1, conduct="strategic")


def test_the_exact_policy_is_certified_and_at_no_distance(key: HouseholdsAnswer) -> None:
    policy = exact_policy(key)
    assert key.distance({"households": policy}) < 1e-3
    measured = metrics(key, policy)
    assert all(m.passed for m in measured.values() if m.passed is not None)
    assert abs(measured["welfare_loss"].value) < 1e-6
    assert abs(measured["best_response_gain/exact"].value) < 1e-4
    assert measured["euler_error"].value < 1e-3
    assert measured["impulse_response_error"].value < 0.1
    for name in "yclik":
        moment = measured[f"moments/sd_{name}"]
        assert moment.answer is not None
        assert moment.value == pytest.approx(moment.answer, rel=1e-3)
        assert moment.low <= moment.answer <= moment.high  # type: ignore[operator]


def test_controls_stand_in_their_known_order() -> None:
    measured = metrics(answer(households=1, conduct="strategic"), constant(0.16, 0.126))
    for name in (
        "policy_error/consumption_share",
        "policy_error/labour",
        "welfare_loss",
        "euler_error",
    ):
        c = measured[name].controls
        assert c["exact"] < c["log-linear"] < c["constant actions"] < c["half of everything"], name
        assert c["exact"] < 1e-6, name


def test_an_untrained_network_must_fail(key: HouseholdsAnswer) -> None:
    spec = {
        "observation": 7,
        "action": {"type": "box", "low": [0.01, 0.01], "high": [0.99, 0.99]},
        "hidden": [64, 64],
        "activation": "tanh",
        "log_std": -0.5,
        "trained_std": True,
    }
    untrained = torch.no_grad()(NetworkActor(spec, torch.Generator().manual_seed(0)).act)
    measured = metrics(key, untrained)
    assert not any(m.passed for m in measured.values() if m.passed is not None)


def test_the_papers_labour_formula_must_fail() -> None:
    """Eq. 13 swaps alpha and 1 - alpha: .155172 in place of .162850."""
    key = answer(delta=1.0, households=1, conduct="strategic")
    wrong = 0.36 / (5 * (1 - 0.64 * 0.95) + 0.36)
    assert wrong == pytest.approx(0.155172, abs=1e-6)
    measured = metrics(key, constant(0.658, wrong))
    assert measured["policy_error/consumption_share"].passed
    assert not measured["policy_error/labour"].passed
    assert measured["labour_error"].value > 4


def test_accuracy_is_not_the_return() -> None:
    """Constant actions lose almost no welfare, and are far from the answer all the same."""
    measured = metrics(answer(households=1, conduct="strategic"), constant(0.160118, 0.126474))
    assert measured["welfare_loss"].value < 0.4
    assert measured["policy_error/labour"].value > 10
    assert not measured["policy_error/labour"].passed


def test_twenty_price_takers_have_the_same_answer() -> None:
    one = answer(households=1, conduct="strategic")
    twenty = answer(households=20)
    policy = exact_policy(twenty)
    assert twenty.distance({"households": policy}) < 1e-3
    np.testing.assert_array_equal(one.exact(*one.held_out), twenty.exact(*twenty.held_out))


def test_households_that_differ_in_advance_have_no_answer_yet() -> None:

    parameters = HouseholdsParameters(households=3, capital_productivity=[0.98, 1.0, 1.02])
    assert HOUSEHOLDS.answer_key(parameters) is None


# -- a run's certificate ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(ray_once: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    data = tiny(certificate={"deviation_agent_steps": 2000}, market={"worlds": 32})
    data["training"]["agent_steps"] = 32 * 8 * 3 * 10
    return workflow.train(parse(data, "test"), tmp_path_factory.mktemp("runs"))


def test_a_run_holds_all_it_promises(run: Any) -> None:
    for name in (
        "experiment.yaml",
        "metrics.csv",
        "metrics.jsonl",
        "certificate.json",
        "report.html",
        "policy/policy.json",
    ):
        assert (run.path / name).is_file(), name
    assert (run.path.parent.parent / "latest").resolve() == run.path.resolve()
    assert run.checkpoints.iterations()[-1] == run.experiment.iterations


def test_the_certificate_is_strict_json_with_controls(run: Any) -> None:
    certificate = json.loads(
        run.certificate.read_text(), parse_constant=lambda c: pytest.fail(f"{c} is not JSON")
    )
    names = [m["name"] for m in certificate["metrics"]]
    gain = certificate["metrics"][names.index("best_response_gain/path")]
    assert isinstance(gain["passed"], bool)
    assert gain["value"] > 0, "price takers are judged by their best path"
    assert "best_response_gain/trained/households" in names
    assert certificate["passed"] is False, "sixty iterations cannot be enough"
    share = certificate["metrics"][names.index("policy_error/consumption_share")]
    assert set(share["controls"]) == {
        "half of everything",
        "constant actions",
        "log-linear",
        "exact",
        "untrained network",
    }


def test_evaluating_again_gives_the_same_certificate(run: Any) -> None:
    before = run.certificate.read_text()
    workflow.evaluate(run.path)
    assert run.certificate.read_text() == before


def test_a_certificate_of_another_policy_is_refused(run: Any, tmp_path: Path) -> None:
    """By evaluate, whose policies another seed trained, and by report, of another run."""
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    spec = json.loads((copy / "policy" / "policy.json").read_text())
    actors = exported.load(copy).actors
    shutil.rmtree(copy / "policy")
    exported.export(copy / "policy", actors, spec | {"digest": "0" * 64, "seed": 1})
    before = (copy / "certificate.json").read_bytes()
    with pytest.raises(ExperimentError, match="somebody else's policy"):
        workflow.evaluate(copy)
    with pytest.raises(ExperimentError, match="of another run"):
        workflow.report_only(copy)
    assert (copy / "certificate.json").read_bytes() == before
    shutil.rmtree(copy / "policy")
    other = Certificate(**{**vars(document.read(run.certificate)), "digest": "0" * 64})
    document.write(copy / "certificate.json", other)
    with pytest.raises(ExperimentError, match="of another run"):
        workflow.report_only(copy)


def test_a_damaged_certificate_is_refused(run: Any, tmp_path: Path) -> None:
    """Two hundred single bits; it used to be a traceback, or a page of other figures."""
    whole = run.certificate.read_bytes()
    path = tmp_path / "certificate.json"
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[int(rng.integers(len(whole)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            document.read(path)
        except CorruptError:
            continue
        assert json.loads(damaged) == json.loads(whole), "white space may change"


def test_the_report_is_one_page_and_the_same_bytes_each_time(run: Any) -> None:
    page = run.report.read_text()
    report.write(run, document.read(run.certificate))
    assert run.report.read_text() == page
    assert page.count("<svg") >= 7
    assert "src=" not in page
    # What matplotlib writes into a plot: names of vocabularies, nothing that is fetched.
    for name in ("www.w3.org", "creativecommons.org", "purl.org"):
        page = page.replace(f"http://{name}", "")
    assert "http" not in page.replace("https://matplotlib.org", "")
    assert "Not certified" in page


def test_a_deviator_finds_the_gain_that_is_there(ray_once: None, tmp_path: Path, run: Any) -> None:
    """Everybody consumes half and works half of the time.

    A single household can do far better, and learns to.
    """
    loaded = exported.load(run.path)
    actor = loaded.actors["household"]
    for parameter in actor.net.parameters():
        torch.nn.init.zeros_(parameter)
    experiment = run.experiment
    wasteful = workflow.RunFolder.create(experiment, tmp_path)
    spec = {name: value for name, value in loaded.spec.items() if name not in ("format", "actors")}
    exported.export(wasteful.policy, {"household": actor}, spec)
    control = {"households": build_actor(actor.spec, torch.Generator().manual_seed(0)).policy}
    gain = best_response.deviation_gain(
        wasteful,
        experiment,
        exported.load(wasteful.policy),
        "households",
        control,
        [1, 2, 3],
        32 * 3 * 8 * 40,
    )
    assert gain.low is not None
    assert gain.low > 5, "per cent of consumption"
    assert gain.passed is False


def test_an_exported_policy_acts_without_ray_or_gymnasium(run: Any) -> None:
    """With torch, numpy and safetensors alone."""
    program = f"""
import sys
banned = "ray gymnasium pydantic scipy yaml typer rich matplotlib pettingzoo"
for banned in banned.split():
    sys.modules[banned] = None
import rl_markets
policy = rl_markets.load({str(run.path)!r})
print(policy.act([0.0, -1.7, 0.0, -1.8, 0.0, 0.0, 0.0]).tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    share, labour = json.loads(done.stdout)
    assert 0.01 <= share <= 0.99
    assert 0.01 <= labour <= 0.99


def test_what_is_exported_is_what_was_trained(run: Any) -> None:
    """The last checkpoint's averaged actor and the exported one act alike."""
    import pickle

    state = (
        run.checkpoints.path(run.experiment.iterations)
        / "algorithm/learner_group/learner/rl_module/household/module_state.pkl"
    )
    weights = pickle.loads(state.read_bytes())
    loaded = exported.load(run.path).actors["household"].state_dict()
    for name, value in loaded.items():
        np.testing.assert_array_equal(value.numpy(), weights[f"ema.{name}"])


def test_nan_is_shown_as_nan() -> None:
    assert tables.shown(math.nan) == "NaN"
    assert tables.shown("NaN") == "NaN"
    assert tables.shown(0.000001) == "0"
    assert tables.shown(0.04567) == "0.0457"
    assert tables.shown(20835.97) == "20,836"
    assert tables.shown(1.23e12) == "1.23e+12"


def test_console_is_plain_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from rl_markets.progress import TrainingProgress

    row = {"iteration": 1, "distance": 3.2, "agent_steps": 1234.0, "agent_steps_per_second": 5e4}
    with TrainingProgress(Console(soft_wrap=True), 1, 0, "closed form") as progress:
        progress.update(row)
    expected = "iteration 1/1: 1.23k steps, 50k/s, 3.20 % from the closed form, 0 s left\n"
    assert capsys.readouterr().out == expected


def test_diagnostics_see_actions_at_their_bounds_and_economies_that_leave() -> None:
    """A policy that eats everything is saturated and consumes too much at every state.

    It leaves for where nobody was trained.
    """
    key = answer(households=1, conduct="strategic")
    good = metrics(key, exact_policy(key))
    greedy = metrics(key, constant(0.985, 0.2))
    assert good["saturated"].value == good["off_support"].value == 0
    assert greedy["saturated"].value == 100
    assert greedy["off_support"].value > 50
    assert abs(good["euler_error/signed"].value) < 0.01
    assert greedy["euler_error/signed"].value > 50, (
        "a little more saved would be worth far more tomorrow"
    )


def test_a_price_takers_gain_is_found_on_the_best_path() -> None:
    """The planner's policy leaves one of a hundred only what it feels of prices.

    Constant actions leave more.
    """
    key = answer(households=20)
    good = metrics(key, exact_policy(key))
    bad = metrics(key, constant(0.17, 0.12))
    assert "best_response_gain/exact" not in good
    assert 0 <= good["best_response_gain/path"].value < 0.01
    assert good["best_response_gain/path"].passed
    assert bad["best_response_gain/path"].value > 0.05
    assert not bad["best_response_gain/path"].passed


def test_every_group_of_price_takers_is_tried_as_deviator() -> None:
    """Half of them play the answer, half constants: the larger gain is seen whoever sits first."""
    tried = []
    for first in (True, False):
        key = answer(households=6, groups={"a": 3, "b": 3})
        good = exact_policy(key)
        bad = constant(0.17, 0.12)
        policies = {"a": good if first else bad, "b": bad if first else good}
        nothing = dict.fromkeys(("a", "b"), constant(0.5, 0.5))
        by_name = {m.name: m for m in key.assess(policies, nothing, SEEDS).metrics}
        tried.append(by_name["best_response_gain/path"].value)
    assert tried[0] == pytest.approx(tried[1], rel=0.05)
    assert tried[0] > 0.05
