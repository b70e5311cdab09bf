"""Exported policies act as they did, and refuse what is not theirs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from rl_markets import exported
from rl_markets.policies.actors import NetworkActor
from rl_markets.store import CheckpointStore, verify
from tests.support.storage import ACTOR, OBSERVATION, SPEC, actors, rewritten, tree


def test_loaded_policy_acts_as_the_exported_one(exported_policy: Path) -> None:
    loaded = exported.load(exported_policy)
    originals = actors()
    batch = torch.randn(5, 2, 3)
    for group, name in {"firms": "seller", "buyers": "golden", "banks": "golden"}.items():
        assert np.array_equal(loaded.act(batch, group), originals[name].act(batch).detach().numpy())
    assert loaded.act(OBSERVATION, "firms").shape == (1,)
    assert loaded.act(np.zeros((0, 3)), "firms").shape == (0, 1)
    assert loaded.spec["actors"]["seller"] == ACTOR


def test_policy_of_a_run_is_found(exported_policy: Path) -> None:
    assert exported.load(exported_policy.parent).groups == exported.load(exported_policy).groups


def test_folder_without_policy(tmp_path: Path, checkpoints: CheckpointStore) -> None:
    for folder in (tmp_path, tmp_path / "none", checkpoints.path(1)):
        with pytest.raises(FileNotFoundError, match="holds no exported policy"):
            exported.load(folder)


def test_export_never_overwrites(damaged: Path) -> None:
    before = tree(damaged)
    with pytest.raises(FileExistsError):
        exported.export(damaged, actors(), SPEC)
    assert tree(damaged) == before


def change_weights(folder: Path) -> None:
    path = folder / "seller.safetensors"
    weights = load_file(path)
    weights["net.2.bias"] = weights["net.2.bias"] + 1e-3
    path.write_bytes(save(weights))


def swap_weights(folder: Path) -> None:
    (folder / "seller.safetensors").write_bytes((folder / "golden.safetensors").read_bytes())


def spoil_weights(folder: Path) -> None:
    path = folder / "seller.safetensors"
    path.write_bytes(
        save({name: torch.full_like(w, math.nan) for name, w in load_file(path).items()})
    )


def widen_weights(folder: Path) -> None:
    (folder / "seller.safetensors").write_bytes(save({"net.0.weight": torch.zeros(9, 9)}))


def newer_format(folder: Path) -> None:
    path = folder / "policy.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


CHANGES = {
    "changed": (change_weights, "policy 'seller' differs from its golden actions by 0.0002"),
    "swapped": (swap_weights, "policy 'seller' differs from its golden actions"),
    "not-a-number": (spoil_weights, "policy 'seller' differs from its golden actions by nan"),
    "wider": (widen_weights, "seller.safetensors: does not fit"),
    "newer": (newer_format, "policy format 99, this version reads format 1"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_consistent_change_is_refused(exported_policy: Path, tmp_path: Path, case: str) -> None:
    change, expected = CHANGES[case]
    folder = rewritten(exported_policy, tmp_path / "changed", change)
    verify(folder)
    with pytest.raises(ValueError, match=expected):
        exported.load(folder)


OBSERVATIONS = {
    "narrow": ([0.1, 0.2], "observations of group 'firms' have shape (2,): expected [..., 3]"),
    "wide": ([[0.1] * 4] * 2, "observations of group 'firms' have shape (2, 4): expected [..., 3]"),
    "scalar": (1.0, "observations of group 'firms' have shape (): expected [..., 3]"),
    "nothing": (None, "observations of group 'firms' have shape (): expected [..., 3]"),
    "empty": ([], "observations of group 'firms' have shape (0,): expected [..., 3]"),
    "ragged": ([[0.1] * 3, [0.1]], "observations of group 'firms': expected numbers [..., 3]"),
    "nan": ([0.1, math.nan, 0.1], "observations of group 'firms': expected finite numbers"),
    "infinite": ([0.1, 0.1, -math.inf], "observations of group 'firms': expected finite numbers"),
    "null": ([0.1, None, 0.1], "observations of group 'firms': expected finite numbers"),
    "beyond-single-precision": (
        [0.1, 1e300, 0.1],
        "observations of group 'firms': expected finite numbers",
    ),
    "beyond-double-precision": (
        [0.1, 10**400, 0.1],
        "observations of group 'firms': expected numbers",
    ),
    "text": (["a", "b", "c"], "observations of group 'firms': expected numbers [..., 3]"),
    "mapping": ([{"a": 1}] * 3, "observations of group 'firms': expected numbers [..., 3]"),
}


@pytest.mark.parametrize("case", OBSERVATIONS)
@pytest.mark.filterwarnings("error")
def test_bad_observation_is_refused_by_name(exported_policy: Path, case: str) -> None:
    observations, expected = OBSERVATIONS[case]
    loaded = exported.load(exported_policy)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its message is compared below
        loaded.act(observations, "firms")
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("group", ["nobody", None, "", ["firms"]], ids=repr)
def test_unknown_group_is_refused_by_name(exported_policy: Path, group: Any) -> None:
    with pytest.raises(ValueError, match="expected one of firms, buyers, banks") as caught:
        exported.load(exported_policy).act(OBSERVATION, group)
    assert f"group {group!r}" in str(caught.value)


def test_a_single_group_needs_no_name(tmp_path: Path) -> None:
    actor = NetworkActor(ACTOR)
    exported.export(
        tmp_path / "policy", {"seller": actor}, {"policies": {"seller": {"groups": ["firms"]}}}
    )
    assert exported.load(tmp_path).act(OBSERVATION) == actor.act(torch.tensor(OBSERVATION)).item()
