"""A season and its optimum, which the tests of this folder share."""

from __future__ import annotations

import pytest

from rl_markets.envs.pricing import solution as pricing
from rl_markets.envs.pricing.solution import Season, Solution


@pytest.fixture(scope="session")
def gvr() -> Season:
    return pricing.gvr()


@pytest.fixture(scope="session")
def gvr_optimum(gvr: Season) -> Solution:
    return pricing.solve(gvr)
