"""What the tests of experiment files share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rl_markets.errors import ExperimentError
from rl_markets.experiment.yaml_file import parse_yaml

FILES = sorted((Path(__file__).parents[2] / "tune_configs").glob("*.yaml"))
EXAMPLE = next(path for path in FILES if path.stem == "households-full-depreciation")
every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def content(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = parse_yaml(path.read_text(encoding="utf-8"))
    return data


def refusal(call: Callable[[], Any], source: object) -> str:
    """The message with which `call` refuses its input.

    It is one printable line that starts with the source.
    """
    with pytest.raises(ExperimentError) as caught:
        call()
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(str(source))
    return message
