"""Which known answer a pricing market has."""

from __future__ import annotations

from rl_markets.envs.answer_key import AnswerKey
from rl_markets.envs.pricing.answer.catalogue import CatalogueAnswer
from rl_markets.envs.pricing.answer.kinds import has_catalogue, has_rival, has_season
from rl_markets.envs.pricing.answer.rival import RivalAnswer
from rl_markets.envs.pricing.answer.season import SeasonAnswer
from rl_markets.envs.pricing.parameters import PricingParameters


def answer_key(p: PricingParameters) -> AnswerKey | None:
    """The dynamic programme of one product's season, what a static logit market has, or None."""
    if has_season(p):
        return SeasonAnswer(p)
    if has_catalogue(p):
        return CatalogueAnswer(p)
    if has_rival(p):
        return RivalAnswer(p)
    return None
