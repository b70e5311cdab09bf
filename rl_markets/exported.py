"""Exported policies: safetensors and JSON, no pickle.

They are loaded with torch, numpy and safetensors alone; nothing here needs ray.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from rl_markets.errors import PolicyError
from rl_markets.policies.actors import Actor, build_actor
from rl_markets.policy_document import FORMAT, read_document
from rl_markets.store import MANIFEST, sha256_of, verify, written

SPEC = "policy.json"
GOLDEN = "golden.actions.safetensors"  # no policy's file: a policy's name holds no dots
"""Random observations of each policy, and the actions that it took when it was exported."""
STORED = ("F32", "I64")
"""What is written: weights and observations, and choices."""
GOLDEN_ROWS = 64
GOLDEN_TOLERANCE = 1e-5
"""Another machine may round otherwise."""


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
        self.groups: dict[str, str] = {
            group: name for name, policy in spec["policies"].items() for group in policy["groups"]
        }

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
        group = self._group(group)
        policy = self.groups[group]
        if policy not in self.actors:
            rule = self.spec["policies"][policy]["scripted"]
            raise ValueError(
                f"group {group!r} follows the rule {rule!r}; it is no part of the exported policy"
            )
        actor = self.actors[policy]
        checked = _checked(observations, f"observations of group {group!r}", actor.spec)
        return actor.act(torch.from_numpy(np.ascontiguousarray(checked))).numpy()

    def _group(self, group: str | None) -> str:
        if group is None and len(self.groups) == 1:
            return next(iter(self.groups))
        if not isinstance(group, str) or group not in self.groups:
            raise ValueError(f"group {group!r}: expected one of {', '.join(self.groups)}")
        return group


def _checked(observations: Any, what: str, spec: Mapping[str, Any]) -> NDArray[np.float32]:
    """Finite single-precision numbers `[..., width]`, or `[..., copies, width]`."""
    trailing = _trailing(spec)
    expected = f"[..., {', '.join(map(str, trailing))}]"
    try:
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused below
            numbers = np.asarray(observations, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{what}: expected numbers {expected}: {error}") from None
    if numbers.shape[-len(trailing) :] != trailing:
        raise ValueError(f"{what} have shape {numbers.shape}: expected {expected}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{what}: expected finite numbers")
    return numbers


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

    Raises:
        FileExistsError: if `folder` exists.
        OSError: full disk, no permission.
    """
    generator = torch.Generator().manual_seed(0)
    golden: dict[str, Tensor] = {}
    for name, actor in actors.items():
        observations = torch.randn((GOLDEN_ROWS, *_trailing(actor.spec)), generator=generator)
        golden[f"{name}.observations"] = observations
        with torch.no_grad():
            golden[f"{name}.actions"] = actor.cpu().act(observations).contiguous()
    actor_specs = {name: actor.spec for name, actor in actors.items()}
    document = {"format": FORMAT, **spec, "actors": actor_specs}
    with written(folder) as temporary:
        for name, actor in actors.items():
            # Contiguous, since safetensors takes no others.
            weights = {k: v.detach().cpu().contiguous() for k, v in actor.state_dict().items()}
            _weights_file(temporary, name).write_bytes(save(weights))
        (temporary / GOLDEN).write_bytes(save(golden))
        (temporary / SPEC).write_text(json.dumps(document, indent=1), encoding="utf-8")


def _weights_file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def load(path: str | Path) -> LoadedPolicy:
    """Loads an exported policy, or the one in a run's folder.

    Raises:
        FileNotFoundError: if there is none.
        CorruptError: if a file changed since it was written; names it.
        PolicyError: if what it holds is no policy (the line names file and field), it was written
            by a newer version, or does not reproduce its golden actions. Nothing is built before it
            is known to fit what lies there.
    """
    folder = _folder(Path(path))
    verify(folder)
    spec, least = read_document(folder / SPEC)
    actors = {}
    golden = _tensors(folder / GOLDEN) if least else {}
    for name, numbers in least.items():
        actors[name] = _loaded(_weights_file(folder, name), spec["actors"][name], numbers)
        _check_golden(folder / GOLDEN, name, actors[name], golden)
    return LoadedPolicy(actors, spec)


def _loaded(weights_file: Path, spec: dict[str, Any], least: int) -> Actor:
    """An actor with the weights of a file, of at least so many numbers."""
    weights = _tensors(weights_file)
    held = sum(tensor.numel() for tensor in weights.values())
    if held < least:
        raise PolicyError(
            f"{weights_file}: does not fit the policy's networks: {held} numbers, expected at "
            f"least {least}"
        )
    actor = build_actor(spec).eval().requires_grad_(False)
    try:
        actor.load_state_dict(weights)
    except RuntimeError as error:
        said = re.sub(r"\s+", " ", str(error))
        raise PolicyError(f"{weights_file}: does not fit the policy's networks: {said}") from None
    return actor


def _tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, single-precision numbers all of them.

    Raises:
        PolicyError: it is none, or holds others.
    """
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            kinds = {name: file.get_slice(name).get_dtype() for name in names}
        for name, kind in kinds.items():
            if kind not in STORED:
                raise PolicyError(f"{path}: {name}: numbers of type {kind}: expected F32")
        return load_file(path)
    except FileNotFoundError:
        raise PolicyError(f"{path}: missing") from None
    except SafetensorError as error:
        raise PolicyError(f"{path}: no safetensors file: {error}") from None


def fingerprint(path: str | Path) -> str:
    """sha256 of the list of an exported policy's files and their own."""
    return sha256_of(_folder(Path(path)) / MANIFEST)


def _folder(path: Path) -> Path:
    """The exported policy at `path` or in the run at `path`, even if a part of it is lost."""
    for folder in (path / "policy", path):
        if (folder / SPEC).is_file():
            return folder
        # Without its `policy.json` it is still told by these two, and `verify` says what is lost.
        if (folder / MANIFEST).is_file() and (folder / GOLDEN).is_file():
            return folder
    raise FileNotFoundError(f"{path}: holds no exported policy (expected {SPEC} in it)")


@torch.no_grad()
def _check_golden(path: Path, name: str, actor: Actor, golden: Mapping[str, Tensor]) -> None:
    """What was loaded must act as what was trained did."""
    observations = golden.get(f"{name}.observations")
    expected = golden.get(f"{name}.actions")
    if observations is None or expected is None:
        raise PolicyError(f"{path}: holds no golden actions of policy {name!r}")
    trailing = _trailing(actor.spec)
    if tuple(observations.shape[1:]) != trailing or not observations.numel():
        raise PolicyError(
            f"{path}: {name}.observations of shape {list(observations.shape)}: expected "
            f"[rows, {', '.join(map(str, trailing))}]"
        )
    actions = actor.act(observations)
    if actions.shape != expected.shape:
        raise PolicyError(
            f"{path}: {name}.actions of shape {list(expected.shape)}: expected "
            f"{list(actions.shape)}"
        )
    difference = float((actions - expected).abs().max())
    if not difference <= GOLDEN_TOLERANCE:  # NaN is no agreement either
        raise PolicyError(
            f"{path}: policy {name!r} differs from its golden actions by {difference:.2g}"
        )
