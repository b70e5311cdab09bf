"""Exported policies: safetensors and JSON, no pickle; loaded with torch, numpy and safetensors alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from rl_markets.policies.networks import Actor
from rl_markets.store import verify, written

FORMAT = 1
GOLDEN_ROWS, GOLDEN_TOLERANCE = 64, 1e-5


class LoadedPolicy:
    """A profile of policies, one for each name, ready to act.

    Attributes:
        actors: policy -> its network.
        groups: agent group -> the policy that it follows.
        spec: what was exported beside the weights (market, experiment, seed, groups).
    """

    def __init__(self, actors: dict[str, Actor], spec: dict[str, Any]) -> None:
        self.actors, self.spec = actors, spec
        self.groups: dict[str, str] = {g: p for p, section in spec["policies"].items() for g in section["groups"]}

    @torch.no_grad()
    def act(self, observations: Any, group: str | None = None) -> NDArray[Any]:
        """The deterministic policy's actions.

        Args:
            observations: `[observation]` or `[..., observation]`, anything numpy can read.
            group: the agent group that observes; may be left out where there is only one.

        Returns:
            actions `[..., action]` in the action space.

        Raises:
            ValueError: for an unknown group, a wrong width, or numbers that are not finite.
        """
        name = self._group(group)
        actor = self.actors[self.groups[name]]
        rows = np.asarray(observations, dtype=np.float32)
        width = actor.spec["observation"]
        if rows.ndim == 0 or rows.shape[-1] != width:
            raise ValueError(f"observations of group {name!r} have shape {rows.shape}: expected [..., {width}]")
        if not np.isfinite(rows).all():
            raise ValueError(f"observations of group {name!r}: expected finite numbers")
        return actor.act(torch.from_numpy(np.ascontiguousarray(rows))).numpy()

    def _group(self, group: str | None) -> str:
        if group is None and len(self.groups) == 1:
            return next(iter(self.groups))
        if group not in self.groups:
            raise ValueError(f"group {group!r}: expected one of {', '.join(self.groups)}")
        return group


def export(folder: Path, actors: Mapping[str, Actor], spec: dict[str, Any]) -> None:
    """Writes actors as a verified folder; golden observations and actions go with them.

    Args:
        folder: must not exist.
        actors: policy -> network.
        spec: JSON; `policies` maps each policy to its `groups`.
    """
    generator = torch.Generator().manual_seed(0)
    golden: dict[str, Tensor] = {}
    for name, actor in actors.items():
        observations = torch.randn((GOLDEN_ROWS, actor.spec["observation"]), generator=generator)
        golden[f"{name}.observations"] = observations
        with torch.no_grad():
            golden[f"{name}.actions"] = actor.cpu().act(observations).contiguous()
    full = {"format": FORMAT, **spec, "actors": {name: actor.spec for name, actor in actors.items()}}
    with written(folder) as temporary:
        for name, actor in actors.items():
            save_file({k: v.detach().cpu().contiguous() for k, v in actor.state_dict().items()}, temporary / f"{name}.safetensors")
        save_file(golden, temporary / "golden.safetensors")
        (temporary / "policy.json").write_text(json.dumps(full, indent=1), encoding="utf-8")


def load(path: str | Path) -> LoadedPolicy:
    """Loads an exported policy, or the one in a run's folder.

    Raises:
        FileNotFoundError: if there is none.
        CorruptError: if a file changed since it was written; names it.
        ValueError: if it was written by a newer version, or does not reproduce its golden actions.
    """
    folder = Path(path)
    if (folder / "policy" / "policy.json").is_file():
        folder = folder / "policy"
    if not (folder / "policy.json").is_file():
        raise FileNotFoundError(f"{folder}: holds no exported policy (expected policy.json in it)")
    verify(folder)
    spec = json.loads((folder / "policy.json").read_text(encoding="utf-8"))
    if spec["format"] != FORMAT:
        raise ValueError(f"{folder}: policy format {spec['format']}, this version reads format {FORMAT}")
    actors = {}
    golden = load_file(folder / "golden.safetensors")
    for name, actor_spec in spec["actors"].items():
        actors[name] = actor = Actor(actor_spec).eval()
        actor.load_state_dict(load_file(folder / f"{name}.safetensors"))
        _check_golden(folder, name, actor, golden)
    return LoadedPolicy(actors, spec)


@torch.no_grad()
def _check_golden(folder: Path, name: str, actor: Actor, golden: Mapping[str, Tensor]) -> None:
    """What was loaded must act as what was trained did."""
    difference = (actor.act(golden[f"{name}.observations"]) - golden[f"{name}.actions"]).abs().max()
    if not float(difference) <= GOLDEN_TOLERANCE:
        raise ValueError(f"{folder}: policy {name!r} differs from its golden actions by {float(difference):.2g}")
