"""A solution that the tests of this folder share."""

from __future__ import annotations

import pytest

from rl_markets.envs.households.solution import CollocationSolution, solve_collocation
from tests.support.rbc import BASE


@pytest.fixture(scope="session")
def solution() -> CollocationSolution:
    return solve_collocation(BASE)
