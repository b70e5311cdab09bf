"""Solutions that the tests of this folder share; each takes seconds."""

from __future__ import annotations

import pytest

from rl_markets.envs.fiscal.solution import FiscalSolution, solve
from tests.support.fiscal_economies import DEFAULT, MILD, STILL


@pytest.fixture(scope="session")
def default() -> FiscalSolution:
    return solve(DEFAULT)


@pytest.fixture(scope="session")
def mild() -> FiscalSolution:
    return solve(MILD)


@pytest.fixture(scope="session")
def still() -> FiscalSolution:
    return solve(STILL)
