"""Separate policies need a world for each learner: their rows are worlds."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from rl_markets.errors import ExperimentError
from rl_markets.experiment import parse
from tests.support.running import tiny


def data(worlds: int, learners: int, separate: bool) -> dict[str, Any]:
    content = tiny(market={"worlds": worlds}, training={"learners": learners})
    content["algorithm"] = {"name": "sac"}
    content["policies"] = copy.deepcopy(content["policies"])
    content["policies"]["household"]["separate"] = separate
    return content


def test_fewer_worlds_than_learners_are_refused() -> None:
    """A learner would get no row of them, and divide by nothing."""
    with pytest.raises(ExperimentError) as refusal:
        parse(data(worlds=2, learners=3, separate=True), "here")
    assert str(refusal.value) == (
        "here: policies.household.separate: 2 worlds for 3 learners; expected at least a world for "
        "each learner"
    )


@pytest.mark.parametrize(("worlds", "separate"), [(3, True), (2, False)])
def test_a_world_for_each_or_a_shared_policy_is_fine(worlds: int, separate: bool) -> None:
    parse(data(worlds=worlds, learners=3, separate=separate), "here")
