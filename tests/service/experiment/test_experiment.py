"""A bad experiment file never reaches the cluster: one line, field path, expectation,
did-you-mean."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from rl_markets.envs import registry
from rl_markets.envs.spec import MarketSpec
from rl_markets.experiment import load, parse
from rl_markets.experiment.yaml_file import dump_yaml, parse_yaml
from tests.support.experiment_files import EXAMPLE, content, every_file, refusal
from tests.support.experiment_mutations import CASES, Mutation, mutated

HEAVY = ("torch", "ray", "gymnasium", "numpy")


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


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
    assert (smoke.training.runners, smoke.training.learners, smoke.training.gpus_per_learner) == (
        0,
        0,
        0,
    )
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


# -- mutations --------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "mutation"), CASES)
def test_mutation_is_refused_in_one_line(path: Path, mutation: Mutation, tmp_path: Path) -> None:
    data = content(path)
    bad = tmp_path / "bad.yaml"
    bad.write_text(dump_yaml(mutated(data, mutation)), encoding="utf-8")
    message = refusal(lambda: load(bad), bad)
    policy = next(iter(data["policies"]))
    for fragment in mutation.expected:
        assert fragment.format(**data).replace("POLICY", policy) in message


# -- files that are no experiments -----------------------------------------------------------------

TEXTS = {
    "empty": (b"", "is empty, expected a mapping of sections"),
    "only-a-comment": (b"# soon\n", "is empty, expected a mapping of sections"),
    "list": (b"- a\n- b\n", "expected a mapping of sections, found list"),
    "text": (b"households", "expected a mapping of sections, found str"),
    "png": (b"\x89PNG\r\n\x1a\n", "cannot be read as text: "),
    "zeros": (b"name: a\0", "not YAML: character #x0000: special characters are not allowed"),
    "duplicate-key": (
        b"name: a\nseed: 1\nname: b\n",
        "line 3: not YAML: key 'name' is given twice (lines 1 and 3)",
    ),
    "duplicate-inner-key": (
        b"market:\n  name: a\n  name: b\n",
        "line 3: not YAML: key 'name' is given twice",
    ),
    "bracket": (b"name: a\npolicies: [a, b\n", "line 3: not YAML: expected ',' or ']'"),
    "tab": (b"market:\n\tname: a\n", "line 2: not YAML: "),
    "indentation": (b"market:\n  name: a\n worlds: 3\n", "line 3: not YAML: "),
    "two-documents": (b"name: a\n---\nname: b\n", "line 2: not YAML: but found another document"),
    "python-object": (
        b"name: !!python/object/apply:os.getpid []\n",
        "line 1: not YAML: could not determine",
    ),
    "wrong-tag": (b"seed: !!int abc\n", "line 1: not YAML: 'abc' cannot be read as int"),
    "wrong-bool": (b"seed: !!bool abc\n", "line 1: not YAML: 'abc' cannot be read as bool"),
    "wrong-time": (
        b"seed: !!timestamp abc\n",
        "line 1: not YAML: 'abc' cannot be read as timestamp",
    ),
    "five-thousand-digits": (b"seed: " + b"9" * 5000, "line 1: not YAML: '99999"),
    "number-as-key": (b"1: a\n", "line 1: not YAML: key 1 is not text"),
    "list-as-key": (b"? [a]\n: b\n", "line 1: not YAML: key ['a'] is not text"),
    "mapping-as-key": (b"? {a: 1}\n: b\n", "line 1: not YAML: key {'a': 1} is not text"),
    "set": (b"name: !!set {a}\n", "name = {'a'}: expected text, a number"),
    "recursive": (b"name: &a [*a]\n", "not YAML: found unconstructable recursive node"),
    "thousand-brackets": (b"name: " + b"[" * 1_000, "not YAML: nested too deeply"),
    "half-a-character": (b'summary: "\\ud800"\n', "expected Unicode text"),
    "unknown-alias": (b"name: *a\n", "line 1: not YAML: found undefined alias"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_text_that_is_no_experiment(case: str, tmp_path: Path) -> None:
    text, expected = TEXTS[case]
    path = tmp_path / "bad.yaml"
    path.write_bytes(text)
    assert expected in refusal(lambda: load(path), path)


def test_missing_file_folder_and_impossible_names(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "no such file" in refusal(lambda: load(tmp_path / "none.yaml"), tmp_path)
    assert "is a folder, expected an experiment file" in refusal(lambda: load(tmp_path), tmp_path)
    assert "cannot be read as text: " in refusal(
        lambda: load(tmp_path / "file" / "a.yaml"), tmp_path
    )
    assert "cannot be read as text: " in refusal(lambda: load(tmp_path / ("a" * 300)), tmp_path)
    assert "cannot be read as text: " in refusal(lambda: load(f"{tmp_path}/a\0b"), tmp_path)
    assert "no such file" in refusal(lambda: load(f"{tmp_path}/two\nlines"), tmp_path)


# -- YAML without its traps ------------------------------------------------------------------------

SCALARS = {
    "1e-4": 1e-4,
    "-2E+3": -2000.0,
    "1.5e3": 1500.0,
    ".5": 0.5,
    "1.": 1.0,
    "600_000": 600_000,
    "-7": -7,
    "true": True,
    "null": None,
    "~": None,
    "'1e-4'": "1e-4",
    "no": "no",
    "off": "off",
    "010": "010",
    "0x10": "0x10",
    "1:30": "1:30",
    "2020-13-45": "2020-13-45",
    "0b_": "0b_",
    "=": "=",
    "1e": "1e",
}


@pytest.mark.parametrize("text", SCALARS)
def test_unquoted_words(text: str) -> None:
    found = parse_yaml(text)
    assert found == SCALARS[text]
    assert type(found) is type(SCALARS[text])


@given(
    st.text(st.characters(codec="utf-8"), max_size=20)
    | st.from_regex(r"[-+.0-9eE_:]{1,8}", fullmatch=True)
)
def test_text_stays_text_through_a_dump(text: str) -> None:
    data = {"name": text, text: [text]}
    assert parse_yaml(dump_yaml(data)) == data


def test_merge_keys_share_sections_but_overrides_do_not(tmp_path: Path) -> None:
    path = tmp_path / "merge.yaml"
    path.write_text(
        EXAMPLE.read_text().replace("parameters:\n    households", "parameters: &p\n    households")
    )
    path.write_text(path.read_text() + "certificate: &c {seeds: 5}\n")
    assert load(path).certificate.seeds == 5
    shared = parse_yaml("a: &x {k: 1}\nb: *x\nc: {<<: *x, k: 2, l: 3}")
    assert shared == {"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 2, "l": 3}}


# -- overrides -------------------------------------------------------------------------------------


def test_overrides_apply_in_order() -> None:
    rate = "algorithm.parameters.learning_rate="
    overrides = ["seed=5", rate + "1e-2", rate + "1e-4", "certificate.seeds=7", " summary=a = b"]
    experiment = load(EXAMPLE, overrides)
    assert experiment.seed == 5
    assert experiment.parameters("household").learning_rate == 1e-4
    assert experiment.certificate.seeds == 7
    assert experiment.summary == "a = b"


def test_override_of_a_shared_section_changes_only_one(tmp_path: Path) -> None:
    path = tmp_path / "shared.yaml"
    data = content(EXAMPLE)
    data["policies"] = {"a": data["policies"]["household"]}
    data["policies"]["b"] = data["policies"]["a"]
    path.write_text(dump_yaml(data))
    assert "*id001" in path.read_text()
    message = refusal(lambda: load(path, ["policies.b.groups=[nobody]"]), path)
    assert "policies.b.groups: market 'households' has no group 'nobody'" in message


OVERRIDES = {
    "seed": "-o seed: expected section.field=value",
    "=3": "-o =3: expected section.field=value",
    "a..b=3": "-o a..b=3: expected section.field=value",
    "training.agentsteps=3": "training.agentsteps: unknown field (did you mean 'agent_steps'?)",
    "trainin.agent_steps=3": "trainin: unknown field (did you mean 'training'?)",
    "training.agent_steps.x=1": "training.agent_steps is a value, not a section",
    "policies.household.groups.0=1": "policies.household.groups is a value, not a section",
    "seed='5'": "seed = '5': expected a whole number",
    "seed=": "seed = None: expected a whole number",
    "seed=[": "'[' is not a YAML value: ",
    "seed={a: 1, a: 2}": "is not a YAML value: key 'a' is given twice",
    "seed=&a [*a]": "nested deeper than 32 levels",
    "seed=" + "[" * 1_000: "is not a YAML value: nested too deeply",
    "algorithm.parameters.clip=.nan": "algorithm.parameters.clip = nan: expected a finite number",
    "two\nlines=1": "two\\nlines: unknown field",
    ".".join(["a"] * 5000) + "=1": "nested deeper than 32 levels",
}


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda text: text[:30])
def test_bad_override_is_refused(override: str) -> None:
    assert OVERRIDES[override] in refusal(lambda: load(EXAMPLE, [override]), "")


# -- the machine -----------------------------------------------------------------------------------


def test_a_cluster_or_another_machine_may_be_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    large = ["training.runners=9999", "training.agent_steps=10_000_000_000_000"]
    assert "training.runners" in refusal(lambda: load(EXAMPLE, large), EXAMPLE)
    assert load(EXAMPLE, large, machine=False).training.runners == 9999
    assert (
        parse(
            load(EXAMPLE, large, machine=False).model_dump(mode="json"), "runner"
        ).training.runners
        == 9999
    )
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert load(EXAMPLE, large).training.runners == 9999


# -- third parties ---------------------------------------------------------------------------------


class DuopolyParameters(BaseModel):
    """Somebody else's market, less careful than ours: `fee` may be infinite, validators talk too
    much."""

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


def test_numbers_too_long_to_print_are_refused() -> None:
    assert "seed = a whole number of 16610 bits" in refusal(
        lambda: parse({"seed": 10**5000}, "here"), "here: "
    )
    assert "key a whole number of 16610 bits" in refusal(
        lambda: parse({10**5000: 1}, "here"), "here: "
    )  # type: ignore[dict-item]


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
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "heavy: []"
