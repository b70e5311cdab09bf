"""Households told apart as groups are the same economy.

They may have policies of their own, shared ones and mixtures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rl_markets.envs.groups import JoinedGroups
from rl_markets.envs.households.answer.identical import HouseholdsAnswer
from rl_markets.envs.households.answer.nash import NashAnswer
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.errors import ExperimentError
from rl_markets.experiment import parse
from rl_markets.experiment.yaml_file import dump_yaml
from rl_markets.policies.analytic.unroll import unroll
from tests.support.running import command, tiny

PARTS = {"poor": 2, "rich": 4}
TYPES: dict[str, Any] = {
    "households": 6,
    "conduct": "strategic",
    "capital_productivity": [0.99, 1.0, 1.01],
    "initial_dispersion": 0.3,
    "episode_length": 7,
}


def both() -> tuple[Households, Households]:
    """One economy twice: as one group, and as two."""
    whole, parted = (HouseholdsParameters(**TYPES, groups=groups) for groups in ({}, PARTS))
    return Households(whole, worlds=3), Households(parted, worlds=3)


def test_the_economy_is_the_same_to_the_last_bit() -> None:
    whole, parted = both()
    joined = JoinedGroups(PARTS)
    obs = whole.reset(3)["households"]
    assert torch.equal(joined.join(parted.reset(3)), obs)
    for t in range(10):
        actions: Tensor = 0.05 + 0.5 * torch.rand(
            (3, 6, 2), generator=torch.Generator().manual_seed(t)
        )
        one = whole.step({"households": actions})
        two = parted.step(joined.split(actions))
        assert {g: x.shape for g, x in two.rewards.items()} == {"poor": (3, 2), "rich": (3, 4)}
        assert torch.equal(joined.join(two.rewards), one.rewards["households"])
        assert torch.equal(joined.join(two.observations), one.observations["households"])
        if one.ended is not None and two.ended is not None:
            assert torch.equal(
                joined.join(two.ended.observations), one.ended.observations["households"]
            )


def test_what_a_group_owns_is_its_own_columns() -> None:
    """Co-states of both groups side by side are those of one group.

    So is what is owned in the end.
    """

    def rule(obs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {g: torch.sigmoid(x[..., :2] - 1) for g, x in obs.items()}

    co_states = []
    for market in both():
        market.reset(3)
        unrolled = unroll(
            market, market.state, 4, rule, torch.Generator().manual_seed(1), market.owned
        )
        total = sum(r.sum() for rewards in unrolled.rewards.values() for r in rewards)
        nudges = [n for group in market.groups for n in unrolled.nudges[group]]
        slopes = torch.autograd.grad(total, nudges)
        by_group = {
            g: torch.stack(slopes[i * 4 : (i + 1) * 4], -1) for i, g in enumerate(market.groups)
        }
        co_states.append((market.joined.join(by_group), market.joined.join(unrolled.owned)))
    for one, two in zip(*co_states, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)


def test_answers_take_the_groups_policies_as_one_profile() -> None:
    """The answer's own actions group by group are at no distance; one wrong group is seen."""
    key = NashAnswer(HouseholdsParameters(**TYPES, groups=PARTS))
    actions = torch.tensor(np.stack([key.rest.chat, key.rest.l], -1), dtype=torch.float32)[None]
    parts = JoinedGroups(PARTS).split(actions)
    policies: dict[str, Any] = {
        g: lambda obs, a=a: a.expand(*obs.shape[:-1], 2) for g, a in parts.items()
    }
    assert key.distance(policies) < 1e-4
    wrong = policies | {"poor": lambda obs: 1.5 * parts["poor"].expand(*obs.shape[:-1], 2)}
    assert key.distance(wrong) == pytest.approx(50 * 2 / 6, rel=1e-3)
    alike = HouseholdsParameters(**TYPES | {"capital_productivity": [1.0]}, groups=PARTS)
    exact = HouseholdsAnswer(alike)

    def act(obs: Tensor) -> Tensor:
        k = torch.exp(2 * obs[..., 1]).double().numpy()
        z = (obs[..., 4] / 10).double().numpy()
        return torch.from_numpy(np.stack(exact.exact(k, z), -1)).float()

    assert exact.distance({"poor": act, "rich": act}) < 1e-3
    assert exact.distance({"poor": act, "rich": lambda obs: 0.5 * act(obs)}) > 10


def test_groups_that_do_not_add_up_are_refused() -> None:
    message = "groups: have 6 households, expected the 7 of `households`"
    with pytest.raises(ValueError, match=message):
        HouseholdsParameters(households=7, groups=PARTS)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        HouseholdsParameters(households=6, groups={"poor": 6, "rich": 0})


def test_a_policy_for_each_agent_of_several_groups_is_refused() -> None:
    """Their stacked weights would have to be told apart by group wherever one group acts alone."""
    both = {"everybody": {"groups": ["poor", "rich"], "separate": True, "hidden": [8]}}
    data = tiny(market={"parameters": {**TYPES, "groups": PARTS}}) | {"policies": both}
    message = r"policies\.everybody\.separate: .* 2 groups; expected one group"
    with pytest.raises(ExperimentError, match=message):
        parse(data, "file.yaml")


@pytest.mark.parametrize("learner", ["ppo", "analytic"])
def test_a_mixture_trains_to_a_certificate(learner: str, tmp_path: Any) -> None:
    """Separate policies for some, a shared one for others, from the command line."""
    mixture = {
        "alone": {"groups": ["poor"], "separate": True, "hidden": [8]},
        "shared": {"groups": ["rich"], "hidden": [8]},
    }
    parameters = {"ppo": {"epochs": 1, "minibatches": 2}, "analytic": {"horizon": 4}}[learner]
    data = tiny(
        market={"parameters": {**TYPES, "groups": PARTS, "initial_capital": [0.5, 2.0]}},
        training={"agent_steps": 4 * 8 * 6 * 2},
    ) | {"policies": mixture, "algorithm": {"name": learner, "parameters": parameters}}
    (tmp_path / "mixture.yaml").write_text(dump_yaml(data))
    done = command("train", "mixture.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Nash rest point" in done.stdout
