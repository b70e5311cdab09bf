"""Experiments whose lists come from a CSV file beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rl_markets.experiment.yaml_file import dump_yaml
from tests.support.experiment_files import content

FIELD = "market.parameters.capital_productivity"
KAPPA = [0.92, 0.98, 1, 1.09]
TYPES = "id,kappa,lambda\na,0.92,1.1\nb,0.98,1\nc,1,.7\nd,1.09,12e-1\n"


def with_parameters(folder: Path, **parameters: Any) -> Path:
    """The folder's experiment with some of its market's parameters replaced."""
    data = content(folder / "experiment.yaml")
    data["market"]["parameters"] |= parameters
    (folder / "changed.yaml").write_text(dump_yaml(data), encoding="utf-8")
    return folder / "changed.yaml"
