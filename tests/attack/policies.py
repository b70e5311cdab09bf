"""Policy folders that are consistent and odd: refused in a line, or they act as they say."""

from __future__ import annotations

import copy
import json
import random
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rl_markets import exported
from rl_markets.policies.actors import NetworkActor, TableActor
from tests.attack import odd
from tests.attack.judge import Case
from tests.support.storage import ACTOR, rewritten

CHOICES = {**ACTOR, "action": {"type": "multidiscrete", "branches": 2, "n": 3}, "masked": True}
ACTORS = {
    "box": ACTOR,
    "many": {**ACTOR, "copies": 3},
    "choices": {**CHOICES, "observation": 9},
    "heads": {**ACTOR, "action": {"type": "discrete", "n": 4}, "heads": 2},
    "squashed": {**ACTOR, "distribution": "squashed-gaussian"},
}
TABLE = {"kind": "table", "observation": 1, "action": {"type": "discrete", "n": 3}, "copies": 2}

Change = Callable[[Path], None]


def cases(generator: random.Random, count: int) -> Iterator[Case]:
    """Random changes of the files of a policy, listed anew as a stranger would."""
    for _ in range(count):
        said, change = generator.choice((_document, _document, _document, _tensors))(generator)
        yield Case("policy folders", said, partial(_attempt, change))


def _attempt(change: Change) -> str:
    with tempfile.TemporaryDirectory() as home:
        good = Path(home) / "good"
        actors = {name: NetworkActor(spec) for name, spec in ACTORS.items()}
        spec = {
            "experiment": "x",
            "seed": 0,
            "policies": {name: {"groups": [name], "scripted": None} for name in (*ACTORS, "table")},
        }
        exported.export(good, actors | {"table": TableActor(TABLE)}, spec)
        loaded = exported.load(rewritten(good, Path(home) / "odd", change))
        for group, policy in loaded.groups.items():
            if policy in loaded.actors:
                actor = loaded.actors[policy].spec
                copies = [] if actor.get("copies") is None else [actor["copies"]]
                loaded.act(np.zeros((2, *copies, actor["observation"])), group)
    return "acts as it says"


def _document(generator: random.Random) -> tuple[str, Change]:
    """A value of policy.json is another, or missing."""
    seed = generator.random()

    def change(folder: Path) -> None:
        draw = random.Random(seed)
        path = folder / "policy.json"
        data = json.loads(path.read_text())
        path.write_text(json.dumps(_changed(data, draw)))

    return f"policy.json, draw {seed:.6f}", change


def _changed(data: dict[str, object], draw: random.Random) -> object:
    data = copy.deepcopy(data)
    places = list(odd.places(data))
    for place in draw.sample(places, draw.choice((1, 1, 2, 5))):
        if draw.random() < 0.3:
            odd.take(data, place)
        else:
            value = odd.odd(odd.at(data, place), draw)
            odd.put(data, place, value)
    return draw.choice((data,) * 20 + ([data], None, "x", 7, {}))


def _tensors(generator: random.Random) -> tuple[str, Change]:
    """A file of tensors is something else."""
    seed = generator.random()

    def change(folder: Path) -> None:
        draw = random.Random(seed)
        path = draw.choice(sorted(folder.glob("*.safetensors")))
        content = path.read_bytes()
        kind = draw.randrange(6)
        if kind == 0:
            path.write_bytes(b"")
        elif kind == 1:
            path.write_bytes(content[: draw.randrange(len(content))])
        elif kind == 2:  # a header that claims to be huge
            path.write_bytes(struct.pack("<Q", draw.choice((0, 7, 2**31, 2**63))) + content[8:])
        elif kind == 3:
            other = draw.choice(sorted(folder.glob("*.safetensors")))
            shutil.copyfile(other, path) if other != path else path.unlink()
        elif kind == 4:
            flipped = bytearray(content)
            for _ in range(draw.choice((1, 5, 50))):
                flipped[draw.randrange(len(flipped))] ^= 1 << draw.randrange(8)
            path.write_bytes(bytes(flipped))
        else:
            from safetensors.torch import save

            kinds = (torch.float64, torch.int8, torch.complex64, torch.bfloat16)
            path.write_bytes(save({"net.0.weight": torch.zeros(3, 4, dtype=draw.choice(kinds))}))

    return f"tensors, draw {seed:.6f}", change
