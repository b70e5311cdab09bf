"""Settings that mean nothing are refused in one line, before anything is built.

Parameters of exploration suit their rules.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rl_markets.errors import ExperimentError
from rl_markets.experiment import load
from rl_markets.judged import as_judged
from rl_markets.policies.dqn.parameters import SCHEDULES, DQNParameters
from tests.support.running import ROOT

GVR = Path(ROOT, "tune_configs", "pricing-gvr.yaml")
MARKET = "market.parameters"

REFUSED = {
    "a cost above every price": (["cost=[2000]"], "cost: 2000 of good 0 is not below 1800"),
    "a negative stock": (["stock.units=[-1]"], "stock.units.0 = -1: expected >= 1"),
    "an unknown rival": (["rivals=[{rule: undrcut}]"], "rivals.0.rule = 'undrcut'"),
    "demand in another unit": (["demand.slope=[2.0]"], "sells nothing at its lowest price, 400"),
    "linear demand in another unit": (
        ["demand={family: linear, size: [100], slope: [1]}"],
        "sells nothing",
    ),
    "a field of another family": (
        ["demand.visitors=5"],
        "visitors: does nothing with family 'exponential'",
    ),
    "a logit with a size": (
        ["demand={family: logit, quality: [900], mu: 90, size: [4]}"],
        "size: does nothing",
    ),
    "salvage without a deadline": (
        ["deadline=false", "gamma=.9", "stock={units: [5], salvage: 3}"],
        "stock.salvage",
    ),
    "orders that are never placed": (
        ["stock={units: [5], order_cost: 3}"],
        "do nothing without reorder_below",
    ),
    "a share of no cost": (
        ["stock={units: [5], holding: .1}"],
        "stock.holding: is a share of the unit cost",
    ),
    "moves without bounds": (["actions=move"], "expected guard.floor above 0 and guard.ceiling"),
    "no discount and no end": (["deadline=false"], "gamma = 1 without a deadline"),
    "levels in disorder": (["levels=[1.0, 0.5]"], "levels: expected ascending"),
    "a profile of another length": (
        ["season.profile=[1, 2]"],
        "season.profile: 2 factors, expected one for each of 30",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_means_nothing_is_refused(case: str) -> None:
    settings, said = REFUSED[case]
    with pytest.raises(ExperimentError) as caught:
        load(GVR, [f"{MARKET}.{setting}" for setting in settings])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert MARKET in str(caught.value)


@pytest.mark.parametrize("rule", SCHEDULES)
def test_every_rule_starts_near_random_choices_and_ends_near_the_best(rule: str) -> None:
    """Without a parameter in the file, and with the one of the rule.

    Probabilities are by the policies' own function.
    """
    import torch

    from rl_markets.policies import exploration

    p = DQNParameters.model_validate({"rule": rule, "heads": 2 if rule == "bootstrapped" else 1})
    if rule == "bootstrapped":
        return
    assert p.final_exploration is not None
    values = torch.tensor([0.0, 1.0, 3.0, 4.0])
    choose = exploration.RULES[rule.replace("-", "_")].function
    start = choose(values, p.exploration)
    end = choose(values, p.final_exploration)
    assert float(start[3]) < 0.75
    assert float(end[3]) > 0.93


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"rule": "entropy-budget", "exploration": 1.0},
            "expected less than 1 with rule entropy-budget",
        ),
        ({"rule": "eps-softmax", "exploration": 1.5}, "expected at most 1 with rule eps-softmax"),
        ({"rule": "boltzmann"}, "exploration: missing"),
        ({"rule": "bootstrapped"}, "expected at least 2"),
    ],
)
def test_knobs_out_of_range_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DQNParameters.model_validate(given)


def test_deviations_are_judged_from_the_markets_own_starts() -> None:
    """Exploring starts shape training only."""
    experiment = load(GVR, [])
    assert experiment.market_parameters.exploring_starts == 0.3  # type: ignore[attr-defined]
    assert as_judged(experiment).market.parameters["exploring_starts"] == 0.0
