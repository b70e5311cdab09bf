"""Exported policies: safetensors and JSON, no pickle; loaded with torch, numpy and safetensors
alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from rl_markets.policies.actors import Actor, build_actor
from rl_markets.store import MANIFEST, verify, written

FORMAT = 1
SPEC = "policy.json"
GOLDEN = "golden.actions.safetensors"  # a policy's name holds no dots
GOLDEN_ROWS = 64
GOLDEN_TOLERANCE = 1e-5


class LoadedPolicy:
    """A profile of policies, one for each name, ready to act.

    Attributes:
        actors: policy -> its network.
        groups: agent group -> the policy that it follows.
        spec: what was exported beside the weights (market, experiment, seed, groups).
    """

    def __init__(self, actors: dict[str, Actor], spec: dict[str, Any]) -> None:
        self.actors = actors
        self.spec = spec
        policies = spec["policies"]
        self.groups: dict[str, str] = {g: p for p in policies for g in policies[p]["groups"]}

    @torch.no_grad()
    def act(self, observations: Any, group: str | None = None) -> NDArray[Any]:
        """The deterministic policy's actions.

        Args:
            observations: `[observation]` or `[..., observation]`, anything numpy can read; `[...,
                agents, observation]` where each agent has a policy of its own.
            group: the agent group that observes; may be left out where there is only one.

        Returns:
            actions `[..., action]` in the action space.

        Raises:
            ValueError: for an unknown group, a wrong width, or numbers that are not finite.
        """
        name = self._group(group)
        if self.groups[name] not in self.actors:
            rule = self.spec["policies"][self.groups[name]]["scripted"]
            raise ValueError(
                f"group {name!r} follows the rule {rule!r}; it is no part of the exported policy"
            )
        actor = self.actors[self.groups[name]]
        rows = _rows(observations, f"observations of group {name!r}", actor.spec)
        return actor.act(torch.from_numpy(np.ascontiguousarray(rows))).numpy()

    def _group(self, group: str | None) -> str:
        if group is None and len(self.groups) == 1:
            return next(iter(self.groups))
        if not isinstance(group, str) or group not in self.groups:
            raise ValueError(f"group {group!r}: expected one of {', '.join(self.groups)}")
        return group


def _rows(observations: Any, what: str, spec: Mapping[str, Any]) -> NDArray[np.float32]:
    """Finite single-precision numbers `[..., width]`, or `[..., copies, width]`."""
    trailing = _trailing(spec)
    expected = f"[..., {', '.join(map(str, trailing))}]"
    try:
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused below
            rows = np.asarray(observations, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{what}: expected numbers {expected}: {error}") from None
    if rows.shape[-len(trailing) :] != trailing:
        raise ValueError(f"{what} have shape {rows.shape}: expected {expected}")
    if not np.isfinite(rows).all():
        raise ValueError(f"{what}: expected finite numbers")
    return rows


def _trailing(spec: Mapping[str, Any]) -> tuple[int, ...]:
    """The last axes of an actor's observations."""
    copies = spec.get("copies")
    return (spec["observation"],) if copies is None else (copies, spec["observation"])


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
        observations = torch.randn((GOLDEN_ROWS, *_trailing(actor.spec)), generator=generator)
        golden[f"{name}.observations"] = observations
        with torch.no_grad():
            golden[f"{name}.actions"] = actor.cpu().act(observations).contiguous()
    full = {
        "format": FORMAT,
        **spec,
        "actors": {name: actor.spec for name, actor in actors.items()},
    }
    with written(folder) as temporary:
        for name, actor in actors.items():
            weights = {k: v.detach().cpu().contiguous() for k, v in actor.state_dict().items()}
            _weights(temporary, name).write_bytes(save(weights))
        (temporary / GOLDEN).write_bytes(save(golden))
        (temporary / SPEC).write_text(json.dumps(full, indent=1), encoding="utf-8")


def _weights(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def load(path: str | Path) -> LoadedPolicy:
    """Loads an exported policy, or the one in a run's folder.

    Raises:
        FileNotFoundError: if there is none.
        CorruptError: if a file changed since it was written; names it.
        ValueError: if it was written by a newer version, or does not reproduce its golden actions.
    """
    folder = _folder(Path(path))
    verify(folder)
    spec = json.loads((folder / SPEC).read_text(encoding="utf-8"))
    if spec["format"] != FORMAT:
        raise ValueError(
            f"{folder}: policy format {spec['format']}, this version reads format {FORMAT}"
        )
    actors = {}
    golden = load_file(folder / GOLDEN)
    for name, actor_spec in spec["actors"].items():
        actors[name] = actor = build_actor(actor_spec).eval().requires_grad_(False)
        try:
            actor.load_state_dict(load_file(_weights(folder, name)))
        except RuntimeError as error:
            raise ValueError(
                f"{_weights(folder, name)}: does not fit the policy's networks: {error}"
            ) from None
        _check_golden(folder, name, actor, golden)
    return LoadedPolicy(actors, spec)


def _folder(path: Path) -> Path:
    """The exported policy at `path` or in the run at `path`, even if a part of it is lost."""
    for folder in (path / "policy", path):
        if (folder / SPEC).is_file() or (
            (folder / MANIFEST).is_file() and (folder / GOLDEN).is_file()
        ):
            return folder
    raise FileNotFoundError(f"{path}: holds no exported policy (expected {SPEC} in it)")


@torch.no_grad()
def _check_golden(folder: Path, name: str, actor: Actor, golden: Mapping[str, Tensor]) -> None:
    """What was loaded must act as what was trained did."""
    difference = float(
        (actor.act(golden[f"{name}.observations"]) - golden[f"{name}.actions"]).abs().max()
    )
    if not difference <= GOLDEN_TOLERANCE:
        raise ValueError(
            f"{folder}: policy {name!r} differs from its golden actions by {difference:.2g}"
        )
