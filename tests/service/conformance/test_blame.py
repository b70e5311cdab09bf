"""Whose line a traceback ends in: the market's, never that of our own checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl_markets.conformance.probe import OURS, blame
from rl_markets.envs.checks import check_groups
from rl_markets.envs.households.market import Households
from rl_markets.envs.households.parameters import HouseholdsParameters
from rl_markets.errors import ContractError


def test_what_is_ours_exists() -> None:
    assert all(Path(path).exists() for path in OURS)


def test_our_own_checks_are_blamed_for_nothing() -> None:
    """`envs/checks.py` raises; the line that is named is the one that called it."""
    market = Households(HouseholdsParameters(households=2), worlds=1)
    market.groups = {}
    with pytest.raises(ContractError) as refusal:
        check_groups(market)
    assert blame(refusal.value).startswith("test_blame.py:")
    assert "check_groups(market)" in blame(refusal.value)
