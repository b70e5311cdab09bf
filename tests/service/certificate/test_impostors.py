"""Policies made by hand to pass: right where a judge likes to look, wrong elsewhere.

Each is one kind of blindness of certificates; beside its verdict stands what it loses in the market
itself, measured here and not by the judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rl_markets.certificate import document, tables
from rl_markets.certificate.certify import certificate_of, in_market
from rl_markets.certificate.document import Certificate
from rl_markets.envs.answer_key import AnswerKey, Assessment, Metric
from rl_markets.envs.households import economics
from rl_markets.envs.market import Policy, PolicyFunction
from rl_markets.experiment import Experiment, load, parse
from rl_markets.judged import as_judged, known_answer
from rl_markets.rllib.build import build_market

ROOT = Path(__file__).parents[3]
SEEDS = [0, 1, 2, 3]
PERIODS = 200
WORLDS = 40


def shipped(name: str, *overrides: str) -> Experiment:
    return as_judged(load(ROOT / "tune_configs" / f"{name}.yaml", list(overrides)))


def certificate(
    experiment: Experiment, policies: Mapping[str, PolicyFunction], key: AnswerKey | None = None
) -> Certificate:
    """What is said of a profile; the control is the profile itself, which is not looked at."""
    profile = {group: Policy(policy) for group, policy in policies.items()}
    key = key or known_answer(experiment, profile)
    assert key is not None
    return certificate_of(experiment, key, profile, profile, SEEDS)


def known(experiment: Experiment) -> tuple[Any, Mapping[str, PolicyFunction]]:
    """The judge, and the answer's policies."""
    key = experiment.answer_key()
    assert key is not None
    answer = key.policies(build_market(experiment, "cpu", 1))
    assert answer is not None
    return key, answer


def missed(found: Certificate) -> set[str]:
    return {metric.name.split("/")[0] for metric in found.missed}


def discounted(
    experiment: Experiment, group: str, policies: Mapping[str, PolicyFunction], beta: float
) -> Tensor:
    """Discounted rewards in the market itself, `[worlds, agents]`."""
    market = build_market(experiment, "cpu", WORLDS)
    market.truncate_after(None)
    observations = market.reset(7)
    total = torch.zeros((WORLDS, market.groups[group].count), dtype=torch.float64)
    with torch.no_grad():
        for t in range(PERIODS):
            actions = {name: policies[name](seen) for name, seen in observations.items()}
            step = market.step(actions)
            observations = step.observations
            total += beta**t * step.rewards[group].double()
    return total


def lost(
    experiment: Experiment,
    group: str,
    impostor: PolicyFunction,
    answer: PolicyFunction,
    beta: float,
) -> Tensor:
    """What agents lose who follow the impostor and not the answer, all alike: % of consumption."""
    worse = discounted(experiment, group, {group: impostor}, beta)
    better = discounted(experiment, group, {group: answer}, beta)
    gap = (better - worse).mean(0)
    return torch.tensor([economics.consumption_equivalent(float(x), beta) for x in gap])


def moved(answer: PolicyFunction, change: Callable[[Tensor, Tensor], Tensor]) -> PolicyFunction:
    """The answer with its second action, labour, changed in raw units."""

    def act(observations: Tensor) -> Tensor:
        actions = answer(observations).double()
        raw = torch.arctanh(((actions[..., 1] - 0.5) / 0.49).clamp(-0.999, 0.999))
        labour = 0.5 + 0.49 * torch.tanh(change(raw, observations.double()))
        return torch.stack([actions[..., 0], labour], -1).float()

    return act


# -- 1. a column of the observation that the judge never varied ------------------------------------


@pytest.mark.parametrize("gain", [-0.5, -0.9, -1.5])
def test_a_reaction_to_last_labour_is_refused(gain: float) -> None:
    """All judged figures used to be 0.000: last labour stood where the answer puts it."""
    experiment = shipped("households-full-depreciation")
    _, answer = known(experiment)
    rest = float(np.log(0.162850))

    def react(raw: Tensor, seen: Tensor) -> Tensor:
        return raw + gain * torch.tanh(torch.tanh(seen[..., 3] - rest))

    impostor = moved(answer["households"], react)
    loss = float(lost(experiment, "households", impostor, answer["households"], 0.95).max())
    assert loss > 0.5, "so much is lost"
    found = certificate(experiment, {"households": impostor})
    assert found.passed is False
    assert "loss_in_play" in missed(found)
    assert not {"policy_error", "welfare_loss"} & missed(found), "these still see nothing"


def test_the_answer_itself_is_certified() -> None:
    experiment = shipped("households-full-depreciation")
    _, answer = known(experiment)
    assert certificate(experiment, answer).passed is True


# -- 2. judged at rest, without shocks -------------------------------------------------------------


def test_nine_constant_actions_are_refused() -> None:
    """Blind to capital and productivity, and exact where the economy rests."""
    experiment = shipped("households-3x3")
    key: Any = experiment.answer_key()
    actions = torch.tensor(np.stack([key.rest.chat, key.rest.l], -1)).float()

    def constant(observations: Tensor) -> Tensor:
        return actions.expand(*observations.shape[:-2], 9, 2)

    found = certificate(experiment, {"households": constant})
    assert found.passed is False
    assert [metric.name for metric in found.missed] == ["best_response_gain/in_play/households"]
    assert found.missed[0].value > 1, "% of consumption"


# -- 3. judged only where all agents are alike -----------------------------------------------------


def test_a_reaction_to_ones_own_capital_is_refused() -> None:
    """Right wherever k = K: the judge's states were symmetric."""
    experiment = shipped("households-rbc", "market.parameters.conduct=price-taking")
    key, answer = known(experiment)
    impostor = moved(answer["households"], lambda raw, seen: raw + seen[..., 0])
    by_household = lost(experiment, "households", impostor, answer["households"], 0.95)
    assert float(by_household.max()) > 1
    line = in_play(experiment, key, {"households": impostor})
    assert line.passed is False
    assert line.value > 1


def in_play(
    experiment: Experiment, key: AnswerKey, policies: Mapping[str, PolicyFunction]
) -> Metric:
    """The line of the first group, from play alone."""
    profile = {group: Policy(policy) for group, policy in policies.items()}
    return in_market(experiment, key, profile, profile, SEEDS)[0]


# -- 4. averages over agents -----------------------------------------------------------------------


def test_one_bad_household_of_a_hundred_is_refused_and_named() -> None:
    experiment = shipped(
        "households-rbc",
        "market.parameters.households=100",
        "market.parameters.conduct=price-taking",
    )
    key, answer = known(experiment)

    def one_off(observations: Tensor) -> Tensor:
        actions = answer["households"](observations).clone()
        actions[..., 37, :] *= torch.tensor([1.2, 1.5])
        return actions.clamp(0.01, 0.99)

    by_household = lost(experiment, "households", one_off, answer["households"], 0.95)
    assert int(by_household.argmax()) == 37
    assert float(by_household[37]) > 3
    line = in_play(experiment, key, {"households": one_off})
    assert line.passed is False
    assert line.value > 3
    assert line.who.startswith("agent 37")


@pytest.mark.parametrize(
    ("name", "beta"), [("krusell-smith", 0.95), ("fiscal-full-depreciation", 0.95)]
)
def test_one_bad_household_is_refused_in_every_economy(name: str, beta: float) -> None:
    """It consumes two fifths more than the answer does; everybody else follows the answer."""
    experiment = shipped(name)
    key, answer = known(experiment)

    def one_off(observations: Tensor) -> Tensor:
        actions = answer["households"](observations).clone()
        actions[..., 13, 0] *= 1.4
        return actions.clamp(0.01, 0.99)

    profile = {**answer, "households": one_off}
    gaps = discounted(experiment, "households", answer, beta) - discounted(
        experiment, "households", profile, beta
    )
    by_household = gaps.mean(0)
    assert int(by_household.argmax()) == 13
    assert economics.consumption_equivalent(float(by_household[13]), beta) > 0.3
    lines = in_market(
        experiment, key, {g: Policy(policy) for g, policy in profile.items()}, answer, SEEDS
    )
    line = next(line for line in lines if line.name == "loss_in_play/households")
    assert line.passed is False
    assert line.who.startswith("agent 13")


# -- 5. scripted opponents taken for equilibrium players -------------------------------------------


def follows(observations: Tensor) -> Tensor:
    """Posts the rival's last price: the level of the cheapest rival."""
    levels = torch.tensor([0.80, 0.8335, 0.867, 0.9, 0.9335, 0.967, 1.0, 1.0665, 1.133])
    return (observations[..., 1:2] - levels).abs().argmin(-1)[..., None]


def level(index: int) -> PolicyFunction:
    return lambda observations: torch.full((*observations.shape[:-1], 1), index)


@pytest.mark.parametrize(("price", "passes"), [(2, False), (8, True)])
def test_a_rule_is_met_as_it_plays(price: int, passes: bool) -> None:
    """Against one who posts our last price the best is the monopoly's price; Nash's gives it up.

    It used to pass with a gain of 0, and the best response to fail.
    """
    experiment = shipped("pricing-duopoly")
    data = experiment.model_dump(mode="json")
    data["policies"]["right"] = {"groups": ["right"], "scripted": f"{__name__}:follows"}
    against_a_rule = parse(data, "test")
    found = certificate(against_a_rule, {"left": level(price), "right": follows})
    assert found.answer == "best response to the others' policies"
    assert found.passed is passes
    shortfall = next(metric for metric in found.metrics if metric.name == "shortfall")
    assert (shortfall.value > 20) is not passes


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("households-rbc", "households"),
        ("households-3x3-mixture", "poor"),
        ("krusell-smith", "households"),
        ("fiscal", "government"),
        ("fiscal", "households"),
        ("pricing-points", "seller"),
    ],
)
def test_an_equilibrium_is_no_answer_to_a_rule(name: str, group: str) -> None:
    """The market without learning members of a group has another answer, or none that is known."""
    rule = Policy(lambda observations: torch.full((*observations.shape[:-1], 2), 0.3))
    key = shipped(name).answer_key()
    assert key is not None
    assert key.against({group: rule}) is None


# -- 6. a static gain that admits collusion --------------------------------------------------------


def test_two_who_price_as_one_are_no_equilibrium() -> None:
    """Constant prices of 1.643: each could gain 3 % by itself, and Delta is .56."""
    experiment = shipped("pricing-duopoly")
    found = certificate(experiment, {"left": level(5), "right": level(5)})
    assert found.passed is False
    assert "price_error" in missed(found)
    delta = next(metric for metric in found.metrics if metric.name == "delta")
    assert delta.value > 0.4


# -- 7. limits that say nothing --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["pricing-rival", "pricing-gvr", "pricing-clearance", "pricing-points"]
)
def test_the_best_action_that_never_changes_misses(name: str) -> None:
    experiment = shipped(name)
    key = experiment.answer_key()
    assert key is not None
    levels = int(build_market(experiment, "cpu", 1).groups["seller"].action_space.nvec[0])
    fixed = [key.distance({"seller": level(i)}) for i in range(levels)]
    best = int(np.argmin(fixed))
    found = certificate(experiment, {"seller": level(best)})
    assert found.passed is False
    assert missed(found) & {"shortfall", "loss"}


def test_a_certificate_whose_controls_pass_says_so() -> None:
    experiment = shipped("pricing-gvr")
    line = Metric("loss", "loss", 1.0, "%", answer=0.0, limit=2.0, controls={"a guess": 1.5})
    found = document.issue(experiment, "dynamic programme", Assessment([line]))
    assert found.passed is True
    assert "a guess would pass, too" in tables.verdict(found)
    method = document.issue(experiment, "dynamic programme", Assessment([line], [], ("a guess",)))
    assert "would pass" not in tables.verdict(method)


def test_without_an_answer_nothing_is_certified() -> None:
    experiment = shipped("pettingzoo-cournot")
    line = Metric("gain", "gain of a trained deviator", 0.0, "%", limit=2.0)
    found = document.issue(experiment, None, Assessment([line]))
    assert found.passed is None
    assert tables.verdict(found).startswith("Not examined against an answer")
    nothing = document.issue(
        experiment, "an answer", Assessment([Metric("gain", "gain", float("nan"), limit=1.0)])
    )
    assert nothing.passed is None
    assert tables.verdict(nothing).startswith("Not examined: gain could not be told")
