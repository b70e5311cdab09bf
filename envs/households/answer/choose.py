"""Which known answer a household economy has."""

from __future__ import annotations

from rl_markets.envs.answer_key import AnswerKey
from rl_markets.envs.households.answer.identical import HouseholdsAnswer
from rl_markets.envs.households.answer.nash import NashAnswer
from rl_markets.envs.households.parameters import HouseholdsParameters


def answer_key(parameters: HouseholdsParameters) -> AnswerKey | None:
    """The planner's solution for identical households, the Nash rest point for different ones.

    None for identical households with a productivity other than one, as the planner is solved in
    those units; for price takers who differ, as all capital ends with the most productive; and
    where somebody ends at a corner, or no number holds the rest point.
    """
    if parameters.homogeneous:
        units = {*parameters.capital_productivity, *parameters.labour_productivity} == {1.0}
        return HouseholdsAnswer(parameters) if units else None
    if parameters.conduct != "strategic":
        return None
    try:
        return NashAnswer(parameters)
    except (ValueError, ArithmeticError):
        return None
