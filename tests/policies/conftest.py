"""Fixtures that the tests of learners share."""

from __future__ import annotations

import pytest

from tests.support.orchard import plant


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets experiments name the orchard."""
    plant(monkeypatch)
