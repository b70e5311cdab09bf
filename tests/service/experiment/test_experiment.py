"""A bad experiment file never reaches the cluster.

One line, field path, expectation, did-you-mean.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, Field, field_validator

from rl_markets.envs import registry
from rl_markets.envs.spec import MarketSpec
from rl_markets.experiment import load, parse
from rl_markets.experiment.yaml_file import dump_yaml
from tests.support.experiment_files import EXAMPLE, content, every_file, refusal
from tests.support.experiment_mutations import CASES
from tests.support.mutation import Mutation, mutated

HEAVY = ("torch", "ray", "gymnasium", "numpy")


pytestmark = pytest.mark.usefixtures("no_cluster")


# -- shipped files ---------------------------------------------------------------------------------


@every_file
def test_shipped_file_survives_dump_and_load(path: Path, tmp_path: Path) -> None:
    experiment = load(path, machine=False)
    copied = tmp_path / "copy.yaml"
    copied.write_text(dump_yaml(experiment.model_dump(mode="json")))
    assert load(copied, machine=False) == experiment
    assert load(copied, machine=False).digest == experiment.digest


@every_file
def test_smoke_shrinks_to_seconds(path: Path) -> None:
    full = load(path, machine=False)
    smoke = load(path, smoke=True)
    assert smoke.iterations == 3
    assert smoke.market.worlds <= 8
    assert smoke.training.rollout_length <= 8
    assert smoke.training.runners == 0
    assert smoke.training.learners == 0
    assert smoke.training.gpus_per_learner == 0
    assert smoke.certificate.deviation_agent_steps <= 512
    assert smoke.market.parameters == full.market.parameters


@every_file
def test_smoke_makes_a_cluster_experiment_run_here(path: Path) -> None:
    large = ["training.runners=5000", "training.agent_steps=10_000_000_000_000"]
    assert "training.runners" in refusal(lambda: load(path, large), path)
    assert load(path, large, smoke=True).training.runners == 0


def test_smoke_fits_minibatches_to_few_rows() -> None:
    few_worlds = [
        "market.parameters.households=1",
        "market.worlds=1",
        "training.rollout_length=64",
        "algorithm.parameters.minibatches=16",
    ]
    smoke = load(EXAMPLE, few_worlds, smoke=True)
    assert smoke.parameters("household").minibatches == smoke.smallest_batch // 2 == 4


@every_file
def test_learner_discounts_as_the_market_does(path: Path) -> None:
    experiment = load(path, machine=False)
    if experiment.discount is None:
        pytest.skip("this market leaves the discount to the learner")
    for policy in experiment.learned:
        assert experiment.parameters(policy).gamma == experiment.discount


# -- mutations -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "mutation"), CASES)
def test_mutation_is_refused_in_one_line(path: Path, mutation: Mutation, tmp_path: Path) -> None:
    data = content(path)
    bad = tmp_path / "bad.yaml"
    bad.write_text(dump_yaml(mutated(data, mutation)), encoding="utf-8")
    message = refusal(lambda: load(bad), bad)
    policy = next(iter(data["policies"]))
    for fragment in mutation.expected:
        assert fragment.format(**data).replace("POLICY", policy) in message


# -- third parties ---------------------------------------------------------------------------------


class DuopolyParameters(BaseModel):
    """Somebody else's market, less careful than ours.

    `fee` may be infinite, validators talk too much.
    """

    model_config = {"extra": "forbid"}
    firms: int = Field(2, ge=1)
    buyers: int = Field(100, ge=1)
    fee: float = 0.0
    kind: str = "a"

    @field_validator("kind")
    @classmethod
    def _kind(cls, kind: str) -> str:
        if kind == "asserts":
            raise AssertionError("{never} {0}")
        if kind != "a":
            raise ValueError(f"expected 'a',\nnot {{{kind}}}")
        return kind


@pytest.fixture
def duopoly(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An experiment on a third party's market with two groups."""
    spec = MarketSpec(
        "duo-poly",
        "two firms",
        DuopolyParameters,
        "nowhere:Market",
        lambda p: {"firm": p.firms, "buyer": p.buyers},
    )
    entry = SimpleNamespace(name=spec.name, load=lambda: spec)
    points = {registry.MARKETS: [entry], registry.LEARNERS: []}
    monkeypatch.setattr(registry, "entry_points", lambda group: points[group])
    return content(EXAMPLE) | {
        "market": {"name": "duo-poly", "worlds": 4},
        "policies": {"seller": {"groups": ["firm"]}, "shopper": {"groups": ["buyer"]}},
        "algorithm": {"name": "ppo", "parameters": {"gamma": 0.9}},
        "training": {"agent_steps": 10**6, "rollout_length": 16},
    }


def test_third_party_market_is_found(duopoly: dict[str, Any]) -> None:
    experiment = parse(duopoly, "here")
    assert (experiment.agents, experiment.discount) == (102, None)
    assert experiment.smallest_batch == 4 * 16 * 2
    duopoly["market"]["name"] = "duopoly"
    assert "did you mean 'duo-poly'?" in refusal(
        lambda: parse(duopoly, "here"), "here: market.name"
    )


def test_group_without_policy_is_named(duopoly: dict[str, Any]) -> None:
    del duopoly["policies"]["shopper"]
    assert "no policy has group 'buyer'" in refusal(
        lambda: parse(duopoly, "here"), "here: policies: "
    )


def test_minibatches_must_suit_the_smallest_policy(duopoly: dict[str, Any]) -> None:
    duopoly["algorithm"]["parameters"]["minibatches"] = 65
    message = refusal(lambda: parse(duopoly, "here"), "here: algorithm.parameters.minibatches: ")
    assert "65 slices of 128 rows leave less than 2 each; expected at most 64 slices" in message


THIRD_PARTY = {
    "infinite-fee": ("fee", float("inf"), "market.parameters.fee = inf: expected a finite number"),
    "two-lines-and-braces": ("kind", "b", r"market.parameters.kind: expected 'a',\nnot {b}"),
    "assertion-with-braces": (
        "kind",
        "asserts",
        "market.parameters.kind = 'asserts': expected assertion failed",
    ),
}


@pytest.mark.parametrize("case", THIRD_PARTY)
def test_third_party_validators_cannot_break_the_line(duopoly: dict[str, Any], case: str) -> None:
    name, value, expected = THIRD_PARTY[case]
    duopoly["market"]["parameters"] = {name: value}
    assert expected in refusal(lambda: parse(duopoly, "here"), "here: ")


def test_a_broken_built_in_market_is_not_called_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise AttributeError(f"inside {name}")

    monkeypatch.setattr(registry.importlib, "import_module", broken)
    monkeypatch.setattr(registry, "_built_in", lambda group: ["households"])
    with pytest.raises(AttributeError, match=r"inside rl_markets\.envs\.households"):
        registry.find(registry.MARKETS, "households")


# -- the way a person runs it ----------------------------------------------------------------------


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rl_markets", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_check_says_what_a_good_file_runs() -> None:
    done = run(
        "check", EXAMPLE, "-o", "algorithm.parameters.learning_rate=1e-4", "-o", "market.worlds=32"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("households-full-depreciation: ok\n")
    assert "in each of 32 worlds" in done.stdout


BAD_RUNS = {
    "misspelt": ["-o", "market.parameters.btea=0.9"],
    "value": ["-o", "training.agent_steps=-1"],
    "override": ["-o", "seed"],
    "escape": ["-o", "\x1b[31m\n=1"],
    "not-unicode": ["-o", "summary=\udcff"],
}


@pytest.mark.parametrize("case", BAD_RUNS)
def test_check_of_a_bad_file_exits_2_with_one_line(case: str) -> None:
    done = run("check", EXAMPLE, *BAD_RUNS[case])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("rl-markets: ")
    assert done.stderr.count("\n") == 1
    assert done.stderr.rstrip("\n").isprintable()


@pytest.mark.parametrize("command", ["check", "train"])
def test_missing_file_exits_2_with_one_line(command: str, tmp_path: Path) -> None:
    done = run(command, tmp_path / "none.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"rl-markets: {tmp_path}/none.yaml: no such file\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["check", str(EXAMPLE)], ["check", "none.yaml"], ["markets"]]
)
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import json, sys\n"
        "from rl_markets import cli\n"
        "sys.argv = ['rl-markets', *json.loads(sys.argv[1])]\n"
        "try:\n    cli.main()\n"
        "except SystemExit:\n    pass\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
