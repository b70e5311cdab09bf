"""Fixtures that the tests of experiment files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl_markets.experiment.yaml_file import dump_yaml
from tests.support.columns import TYPES
from tests.support.experiment_files import EXAMPLE, content


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an experiment of 20 households, and `types.csv` beside it."""
    data = content(EXAMPLE)
    data["market"]["parameters"]["households"] = 20
    (tmp_path / "experiment.yaml").write_text(dump_yaml(data), encoding="utf-8")
    (tmp_path / "types.csv").write_text(TYPES, encoding="utf-8")
    return tmp_path


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is the only one."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
