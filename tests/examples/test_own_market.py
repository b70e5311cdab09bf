"""The documentation's own market and learner.

What the page shows is what is installed, trained and certified.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.support.running import ROOT, command

PAGE = (ROOT / "docs" / "own-market.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "cournot"
FILES = (
    "pyproject.toml",
    "cournot.yaml",
    *(f"cournot_market/{name}.py" for name in ("spec", "market", "answer", "learner")),
)


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_the_file(name: str) -> None:
    blocks = re.findall(r"```(?:python|toml|yaml)\n(.*?)```", PAGE, re.DOTALL)
    assert (EXAMPLE / name).read_text(encoding="utf-8") in blocks


@pytest.fixture
def path(cournot: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands find the package; it is installed nowhere else."""
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(cournot), os.environ.get("PYTHONPATH", "")])
    )


@pytest.mark.usefixtures("path")
def test_its_commands_do_what_the_page_says(tmp_path: Path) -> None:
    """Every command of the page, in order, as a person types them.

    The second training is cut short.
    """
    blocks = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert [line.split()[1] for line in lines] == ["check", "train", "check", "train"]
    (tmp_path / "cournot.yaml").symlink_to(EXAMPLE / "cournot.yaml")
    assert "cournot" in command("markets", cwd=tmp_path).stdout
    trained = command("train", "cournot.yaml", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    certified = "Certified: all 4 judged figures are within their limits of the Nash equilibrium"
    assert certified in trained.stdout
    certificate = json.loads((tmp_path / "runs" / "latest" / "certificate.json").read_text())
    errors = {m["name"]: m for m in certificate["metrics"]}
    for group in ("incumbents", "entrants"):
        error = errors[f"quantity_error/{group}"]
        assert error["value"] < 3 < error["controls"]["untrained"]
    mutated = command(*lines[2].split()[1:], cwd=tmp_path)
    assert mutated.returncode == 0, mutated.stdout + mutated.stderr
    assert "blind spots: 0" in mutated.stdout
    own = (
        "-o",
        "algorithm.name=reinforce",
        "-o",
        "algorithm.parameters={gamma: 0.0, learning_rate: 3e-3}",
    )
    assert all(word in lines[3].replace("'", "") for word in own)
    learned = command("train", "cournot.yaml", *own, cwd=tmp_path)
    assert learned.returncode == 0, learned.stderr
    certificate = json.loads((tmp_path / "runs" / "latest" / "certificate.json").read_text())
    assert certificate["algorithm"] == "reinforce"
    for metric in certificate["metrics"]:
        if metric["name"].startswith("quantity_error"):
            assert metric["value"] < 0.3 * metric["controls"]["untrained"], metric
