"""The certificate of the economy with a government.

The answer scores zero, controls are in order, what is wrong fails.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rl_markets.envs.answer_key import Metric
from rl_markets.envs.fiscal import SPEC as FISCAL
from rl_markets.envs.fiscal.answer.key import FiscalAnswer
from rl_markets.envs.fiscal.parameters import FiscalParameters
from rl_markets.envs.market import PolicyFunction
from rl_markets.experiment.yaml_file import dump_yaml
from tests.support.running import command

CASES = {
    "full depreciation": {"delta": 1.0, "theta": 0.3},
    "partial depreciation": {"delta": 0.1},
    "progressive": {"delta": 0.1, "progressivity": 0.2},
}


@pytest.fixture(scope="module", params=CASES, ids=CASES)
def key(request: pytest.FixtureRequest) -> FiscalAnswer:
    parameters = FiscalParameters.model_validate({"households": 20, **CASES[request.param]})
    answer = FISCAL.answer_key(parameters)
    assert isinstance(answer, FiscalAnswer)
    return answer


def exact(key: FiscalAnswer, *, tax: float = 1.0, work: float = 1.0) -> dict[str, PolicyFunction]:
    """The answer as policies on observations; the tax rate and labour in multiples of it."""

    def states(obs: Tensor, K: int, z: int) -> tuple[Any, Any]:
        return torch.exp(2 * obs[..., K]).double().numpy(), (obs[..., z] / 10).double().numpy()

    def households(obs: Tensor) -> Tensor:
        share, labour, _ = key.exact(*states(obs, 1, 4))
        return torch.from_numpy(np.stack([share, work * labour], -1)).float()

    def government(obs: Tensor) -> Tensor:
        return torch.from_numpy(tax * key.exact(*states(obs, 0, 1))[2][..., None]).float()

    return {"households": households, "government": government}


def metrics(key: FiscalAnswer, policies: dict[str, PolicyFunction]) -> dict[str, Metric]:
    nothing = {
        "households": lambda obs: torch.full((*obs.shape[:-1], 2), 0.5),
        "government": lambda obs: torch.full((*obs.shape[:-1], 1), 0.5),
    }
    return {m.name: m for m in key.assess(policies, nothing, [0, 1]).metrics}


@pytest.fixture(scope="module")
def certified(key: FiscalAnswer) -> dict[str, Metric]:
    """What the certificate says of the answer itself."""
    return metrics(key, exact(key))


def test_the_exact_policies_are_certified(key: FiscalAnswer, certified: dict[str, Metric]) -> None:
    assert key.distance(exact(key)) < 1e-3
    by_name = certified
    judged = [m for m in by_name.values() if m.limit is not None]
    assert len(judged) == 5
    assert all(m.passed for m in judged), [(m.name, m.value) for m in judged]
    assert abs(by_name["best_response_gain/exact/government"].value) < 1e-4
    assert by_name["best_response_gain/path/government"].value < 1e-3
    assert by_name["best_response_gain/path/households"].value < 5e-3, (
        "what n = 20 feel of their weight, and shocks"
    )
    assert by_name["capital_at_rest"].value == pytest.approx(
        by_name["capital_at_rest"].answer, rel=1e-4
    )
    for action in ("consumption_share", "labour", "tax_rate"):
        controls = by_name[f"policy_error/{action}"].controls
        assert controls["exact"] < 1e-6 <= controls["untrained network"]
        assert controls["untrained network"] > 10


def test_a_myopic_government_is_no_equilibrium(certified: dict[str, Metric]) -> None:
    """It takes theta / (1 + theta) of output, as if nothing were invested.

    That is far too much, and it could gain.
    """
    by_name = certified
    assert by_name["policy_error/tax_rate"].controls["myopic government"] > 10
    assert by_name["best_response_gain/exact/government"].controls["myopic government"] > 0.05


def test_who_taxes_or_works_wrongly_is_flagged() -> None:
    key = FiscalAnswer(FiscalParameters(households=5, delta=0.1))
    wrong_tax = metrics(key, exact(key, tax=1.5))
    wrong_work = metrics(key, exact(key, work=1.3))
    assert wrong_tax["policy_error/tax_rate"].value == pytest.approx(50, rel=1e-3)
    assert not wrong_tax["best_response_gain/exact/government"].passed
    assert wrong_tax["best_response_gain/path/government"].value > 0.05, (
        "found by another method, too"
    )
    assert wrong_work["policy_error/labour"].value == pytest.approx(30, rel=1e-3)
    assert not wrong_work["best_response_gain/path/households"].passed


def test_the_shape_of_the_schedule_matters_by_what_each_household_feels_of_it() -> None:
    """Strategic households feel p (1 - 1/n): alone, none of it."""
    flat, steep, alone = (
        FiscalAnswer(FiscalParameters(delta=1.0, households=n, progressivity=p)).exact(
            np.ones(1), np.zeros(1)
        )
        for n, p in ((20, 0.0), (20, 0.3), (1, 0.3))
    )
    assert steep[0][0] > flat[0][0] == alone[0][0], "less is saved"
    assert steep[1][0] < flat[1][0] == alone[1][0], "less is worked"
    assert steep[2][0] == flat[2][0] == alone[2][0]


def test_two_groups_train_at_once_to_a_certificate(tmp_path: Any) -> None:
    data = {
        "name": "tiny-fiscal",
        "market": {
            "name": "fiscal",
            "worlds": 4,
            "parameters": {"households": 3, "delta": 1.0, "episode_length": 5},
        },
        "policies": {
            "household": {"groups": ["households"], "hidden": [8]},
            "government": {"groups": ["government"], "hidden": [8]},
        },
        "algorithm": {"name": "ppo", "parameters": {"epochs": 1, "minibatches": 2}},
        "training": {"agent_steps": 4 * 8 * 4 * 2, "rollout_length": 8},
        "certificate": {"seeds": 2, "deviation_agent_steps": 256},
    }
    (tmp_path / "fiscal.yaml").write_text(dump_yaml(data))
    done = command("train", "fiscal.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "training a deviating agent in group government" in done.stdout
    assert "closed form" in done.stdout


def test_opposite_mistakes_of_households_do_not_cancel() -> None:
    key = FiscalAnswer(FiscalParameters(delta=1.0, households=2))
    good = exact(key)
    factors = torch.tensor([[0.5, 1.5], [1.5, 0.5]])
    policies = good | {"households": lambda obs: factors * good["households"](obs)}
    assert key.distance(policies) == pytest.approx(50, rel=1e-3)


def test_an_economy_without_an_equilibrium_has_no_answer() -> None:
    assert FISCAL.answer_key(FiscalParameters(theta=1.0)) is None
