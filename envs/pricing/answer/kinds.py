"""Whether a pricing market has a known answer, and which kind. Imports no torch."""

from __future__ import annotations

from rl_markets.envs.pricing import features
from rl_markets.envs.pricing.levels import standing
from rl_markets.envs.pricing.parameters import PricingParameters
from rl_markets.envs.pricing.sections import UNLIMITED

RULES = ("fixed", "cost-plus", "match-lowest", "undercut", "undercut-and-reset")
"""Of rivals whose next price depends on the seller's last one only: that one is the state."""

MOST_STATES = 2_000_000
"""Periods times stocks times prices, beyond which the dynamic programme is not solved."""

MOST_ENTRIES = 100_000_000
"""Of its transitions, 800 MB."""

FINE = 200
"""Prices that the levels are compared with, see `SeasonAnswer.grid_loss`."""


def has_answer(p: PricingParameters) -> bool:
    """Whether there is one."""
    return has_season(p) or has_catalogue(p) or has_rival(p)


def _plain(p: PricingParameters) -> bool:
    """No memory but stock and period.

    Nothing is latent, there is no calendar, and any level may follow any price.
    """
    calendar = p.season.weekly or p.season.annual
    return (
        not calendar
        and not features.latent(p)
        and p.actions == "level"
        and p.guard.change >= UNLIMITED
    )


def has_season(p: PricingParameters) -> bool:
    """Whether period and stock are all that matters, and the last price where prices only fall."""
    alone = (
        p.firms == 1
        and p.products == 1
        and p.deadline
        and p.stock is not None
        and not p.stock.reorder_below
    )
    if not (alone and _plain(p)):
        return False
    assert p.stock is not None
    levels = standing(p)
    last = len(levels) if p.markdown_only else 1
    # A season under markdown only starts at the list price, which must be its highest level.
    starts = bool(levels) and (not p.markdown_only or levels[-1] == 1.0)
    stocks = p.stock.units[0] + 1
    demands = p.periods if p.season.profile or p.season.ageing else 1
    small = stocks**2 * FINE * demands <= MOST_ENTRIES
    return starts and small and p.periods * stocks * last * len(levels) <= MOST_STATES


def _same(p: PricingParameters) -> bool:
    """Whether every period is the same logit market."""
    still = (
        p.stock is None
        and not p.deadline
        and not p.season.profile
        and not p.season.ageing
        and not p.markdown_only
    )
    return still and _plain(p) and p.demand.family == "logit"


def has_catalogue(p: PricingParameters) -> bool:
    """Whether every period is the same logit market, in which all sellers learn."""
    free = not features.restricted(p)  # the optimum and the equilibrium are those of all levels
    return _same(p) and free and not p.rivals


def has_rival(p: PricingParameters) -> bool:
    """Whether one seller of one product learns against a rival that answers its last price."""
    alone = p.firms == 2 and len(p.rivals) == 1 and p.products == 1 and not features.restricted(p)
    return _same(p) and alone and p.rivals[0].rule in RULES
