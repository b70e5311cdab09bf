"""The parameters of the pricing market: its fields, held to the rules across them.

Imports no torch.
"""

from __future__ import annotations

from pydantic import model_validator

from rl_markets.envs.pricing import rules
from rl_markets.envs.pricing.sections import PricingFields


class PricingParameters(PricingFields):
    """Sellers of a catalogue, period by period.

    Prices, costs and qualities are in one currency, whatever it is.
    """

    @model_validator(mode="after")
    def _consistent(self) -> PricingParameters:
        rules.check(self)
        return self
