"""The logit market of all goods, as the parameters describe it."""

from __future__ import annotations

import numpy as np

from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.envs.pricing.solution import LogitMarket


def logit_of(p: PricingParameters) -> LogitMarket:
    """The logit market of all goods, per visitor and before the fee.

    With a fee a seller keeps (1 - fee) (p - c / (1 - fee)): prices as with the higher cost, profits
    in proportion.
    """
    quality, cost = (np.array(p.goods(x)) for x in (p.demand.quality, p.cost))
    owner = np.repeat(np.arange(p.firms), p.products)
    return LogitMarket(quality, cost / (1 - p.fee), p.demand.mu, owner, p.demand.outside)
