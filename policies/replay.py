"""Replay: a ring of transitions on the learner's device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rl_markets.policies.rollout import ACTIVE, OBSERVATIONS, REWARDS, Batch, Fragment

NEXT_OBSERVATIONS = "next_observations"
NONTERMINAL = "nonterminal"

RENAMED = {"goes_on": NONTERMINAL, "acted": ACTIVE}
"""Columns that checkpoints of version 0.1.0 hold under older names."""


def transitions(fragment: Fragment, columns: tuple[str, ...]) -> Batch:
    """A fragment as rows (s, a, r, s', nonterminal), with the true successor where an episode ends.

    Args:
        fragment: of one policy.
        columns: which of the policy's own columns to keep (the actions).

    Returns:
        Columns `[rows, ...]` of the steps in which the agent acted; where policies are separate
        `[rows, agents, ...]`, all of them, with the mask `active`.
    """
    recorded = fragment.columns
    ends = fragment.ends
    rows = fragment.rows
    observations = recorded[OBSERVATIONS]

    # the next row of the fragment is a new episode's where one ended
    next_observations = observations[1:].clone()
    next_observations[ends.step, ends.trajectory] = ends.observations
    # an episode that was cut is bootstrapped: only a terminated one has no value after it
    nonterminal = torch.ones_like(recorded[REWARDS])
    nonterminal[ends.step, ends.trajectory] = (~ends.terminated).to(nonterminal.dtype)

    batch = {
        OBSERVATIONS: rows(observations[:-1]),
        NEXT_OBSERVATIONS: rows(next_observations),
        NONTERMINAL: rows(nonterminal),
    }
    batch |= {name: rows(recorded[name]) for name in (REWARDS, *columns)}
    return fragment.acting(batch)


class _Slot(NamedTuple):
    """Where a column lies in the packed rows of its type.

    Attributes:
        name: of the column.
        width: numbers in a row.
        scalar: whether the column has no axis of its own.
    """

    name: str
    width: int
    scalar: bool


class Replay:
    """The last `capacity` rows, in a ring.

    Columns of one type lie side by side, so that a row is fetched at once.

    Args:
        capacity: rows kept; the oldest go first.
        device: where they are kept.
    """

    def __init__(self, capacity: int, device: torch.device) -> None:
        self.capacity = capacity
        self.device = device
        self.position = 0
        self.size = 0
        self.store: dict[str, Tensor] = {}
        self._layout: dict[str, list[_Slot]] = {}

    def add(self, batch: Batch) -> None:
        """Appends rows; the same columns in every call."""
        if not self._layout:
            self._lay_out(batch)
        rows = min(len(batch[REWARDS]), self.capacity)
        # what does not fit behind the position goes on at the front
        behind = min(rows, self.capacity - self.position)
        for dtype, slots in self._layout.items():
            columns = [
                batch[name].unsqueeze(-1) if scalar else batch[name] for name, _, scalar in slots
            ]
            packed = torch.cat(columns, -1)[-self.capacity :]
            if dtype not in self.store:
                self.store[dtype] = packed.new_empty(
                    (self.capacity, *packed.shape[1:]), device=self.device
                )
            store = self.store[dtype]
            store[self.position : self.position + behind] = packed[:behind]
            store[: rows - behind] = packed[behind:]
        self.position = (self.position + rows) % self.capacity
        self.size = min(self.capacity, self.size + rows)

    def _lay_out(self, batch: Batch) -> None:
        """Gives every column its place, in the order of their names."""
        # axes before a column's own: rows, and agents where policies are separate
        leading = batch[REWARDS].dim()
        for name, column in sorted(batch.items()):
            scalar = column.dim() == leading
            width = 1 if scalar else column.shape[-1]
            self._layout.setdefault(str(column.dtype), []).append(_Slot(name, width, scalar))

    def sample(self, rows: int, generator: torch.Generator) -> Batch:
        """`rows` rows drawn with replacement, every row alike."""
        index = torch.randint(self.size, (rows,), generator=generator, device=self.device)
        batch: Batch = {}
        for dtype, slots in self._layout.items():
            packed = self.store[dtype].index_select(0, index)
            columns = packed.split([slot.width for slot in slots], -1)
            for slot, column in zip(slots, columns, strict=True):
                batch[slot.name] = column.squeeze(-1) if slot.scalar else column
        return batch

    def state_dict(self) -> dict[str, Tensor]:
        """Contents, position and layout, as tensors on the CPU."""
        layout = [
            f"{dtype}|{slot.name}|{slot.width}|{int(slot.scalar)}"
            for dtype, slots in self._layout.items()
            for slot in slots
        ]
        # the layout as bytes, as checkpoints hold tensors only; torch refuses an empty buffer
        text = torch.frombuffer(bytearray("\n".join(layout).encode() or b" "), dtype=torch.uint8)
        where = torch.tensor([self.position, self.size])
        rows = {
            f"rows.{dtype}": store[: self.size].cpu().contiguous()
            for dtype, store in self.store.items()
        }
        return {"layout": text, "where": where, **rows}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """The reverse of `state_dict`."""
        self.position, self.size = (int(x) for x in saved["where"])
        self._layout = {}
        self.store = {}
        for line in bytes(saved["layout"].tolist()).decode().split():
            dtype, name, width, scalar = line.split("|")
            slot = _Slot(RENAMED.get(name, name), int(width), scalar == "1")
            self._layout.setdefault(dtype, []).append(slot)
        for dtype in self._layout:
            rows = saved[f"rows.{dtype}"].to(self.device)
            self.store[dtype] = rows.new_empty((self.capacity, *rows.shape[1:]))
            self.store[dtype][: self.size] = rows


def nested(prefix: str, saved: dict[str, Any]) -> dict[str, Any]:
    """The entries of `saved` under `prefix.`, without it."""
    return {
        name.removeprefix(f"{prefix}."): value
        for name, value in saved.items()
        if name.startswith(f"{prefix}.")
    }
