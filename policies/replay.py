"""Replay: a ring of transitions on the learner's device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rl_markets.policies.rollout import ACTIVE, OBSERVATIONS, REWARDS, Fragment

NEXT_OBSERVATIONS = "next_observations"
NONTERMINAL = "nonterminal"

Batch = dict[str, Tensor]


def transitions(fragment: Fragment, columns: tuple[str, ...]) -> Batch:
    """A fragment as rows (s, a, r, s', goes on), with the true successor where an episode ended.

    Args:
        fragment: of one policy.
        columns: which of the policy's own columns to keep (the actions).

    Returns:
        columns `[rows, ...]` of the steps in which the agent acted; where policies are separate
        `[rows, agents, ...]`, all of them, with the mask `active`.
    """
    found = fragment.columns
    ends = fragment.ends
    rows = fragment.rows
    following = found[OBSERVATIONS][1:].clone()
    following[ends.step, ends.trajectory] = ends.observations
    nonterminal = torch.ones_like(found[REWARDS])
    nonterminal[ends.step, ends.trajectory] = (~ends.terminated).to(nonterminal.dtype)
    batch = {
        OBSERVATIONS: rows(found[OBSERVATIONS][:-1]),
        NEXT_OBSERVATIONS: rows(following),
        NONTERMINAL: rows(nonterminal),
    }
    batch |= {name: rows(found[name]) for name in (REWARDS, *columns)}
    if ACTIVE not in found:
        return batch
    active = rows(found[ACTIVE])
    if fragment.separate is not None:
        return {**batch, ACTIVE: active}
    return {name: column[active] for name, column in batch.items()}


class Replay:
    """The last `capacity` rows. Columns of one type lie side by side, so that a row is fetched at
    once.

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
        self._layout: dict[str, list[tuple[str, int, bool]]] = {}

    def add(self, batch: Batch) -> None:
        """Appends rows; the same columns in every call."""
        lead = self._lead(batch)
        if not self._layout:
            for name, column in sorted(batch.items()):
                scalar = column.dim() == lead
                width = 1 if scalar else column.shape[-1]
                self._layout.setdefault(str(column.dtype), []).append((name, width, scalar))
        for dtype, layout in self._layout.items():
            parts = [batch[n].unsqueeze(-1) if scalar else batch[n] for n, _, scalar in layout]
            packed = torch.cat(parts, -1)[-self.capacity :]
            if dtype not in self.store:
                self.store[dtype] = packed.new_empty(
                    (self.capacity, *packed.shape[1:]), device=self.device
                )
            first = min(len(packed), self.capacity - self.position)
            self.store[dtype][self.position : self.position + first] = packed[:first]
            self.store[dtype][: len(packed) - first] = packed[first:]
        self.position = (self.position + len(packed)) % self.capacity
        self.size = min(self.capacity, self.size + len(packed))

    @staticmethod
    def _lead(batch: Batch) -> int:
        """Axes before a column's own: rows, and agents where policies are separate."""
        return batch[REWARDS].dim()

    def sample(self, rows: int, generator: torch.Generator) -> Batch:
        """`rows` rows drawn with replacement, every row alike."""
        index = torch.randint(self.size, (rows,), generator=generator, device=self.device)
        batch: Batch = {}
        for dtype, layout in self._layout.items():
            packed = self.store[dtype].index_select(0, index)
            for (name, _, scalar), column in zip(
                layout, packed.split([w for _, w, _ in layout], -1), strict=True
            ):
                batch[name] = column.squeeze(-1) if scalar else column
        return batch

    def state_dict(self) -> dict[str, Tensor]:
        """Contents and position, as tensors on the CPU."""
        layout = [
            f"{d}|{n}|{w}|{int(s)}" for d, columns in self._layout.items() for n, w, s in columns
        ]
        text = torch.frombuffer(bytearray("\n".join(layout).encode() or b" "), dtype=torch.uint8)
        rows = {
            f"rows.{dtype}": store[: self.size].cpu().contiguous()
            for dtype, store in self.store.items()
        }
        return {"layout": text, "where": torch.tensor([self.position, self.size]), **rows}

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """The reverse of `state_dict`."""
        self.position, self.size = (int(x) for x in saved["where"])
        self._layout = {}
        self.store = {}
        for line in bytes(saved["layout"].tolist()).decode().split():
            dtype, name, width, scalar = line.split("|")
            self._layout.setdefault(dtype, []).append((name, int(width), scalar == "1"))
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
