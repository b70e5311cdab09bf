"""`policy.json` of an exported policy, typed and bounded: it may come from a stranger.

Imports no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rl_markets.errors import PolicyError
from rl_markets.experiment.validation import first_line
from rl_markets.policies.actor_schema import ActorSchema

FORMAT = 1
MOST_BYTES = 64 * 2**20
"""Of `policy.json`; a million households' productivities take half of it."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", max_length=80)]
"""Names files: no dots, no separators."""


class Followed(BaseModel):
    """One policy: who follows it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    groups: list[Name] = Field(min_length=1, max_length=10_000)
    scripted: Annotated[str, Field(max_length=300)] | None = None


class PolicyDocument(BaseModel):
    """What is exported beside the weights; where it comes from is for people, and not looked at."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    format: int
    policies: dict[Name, Followed] = Field(min_length=1, max_length=10_000)
    actors: dict[Name, ActorSchema] = Field(max_length=10_000)

    @model_validator(mode="after")
    def _consistent(self) -> PolicyDocument:
        owner: dict[str, str] = {}
        for name, policy in self.policies.items():
            for group in policy.groups:
                if group in owner:
                    raise ValueError(
                        f"policies.{name}.groups: group {group!r} already belongs to policy "
                        f"{owner[group]!r}"
                    )
                owner[group] = name
            if policy.scripted is None and name not in self.actors:
                raise ValueError(f"actors.{name}: missing; the policy follows no rule")
        for name in self.actors:
            if name not in self.policies:
                raise ValueError(f"policies.{name}: missing; there is an actor of that name")
        return self


def read_document(path: Path) -> tuple[dict[str, Any], PolicyDocument]:
    """A `policy.json`, as plain data and as what it was found to be.

    Raises:
        PolicyError: one line: the file, its field, what was found, what is expected.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise PolicyError(f"{path}: {size} bytes, expected at most {MOST_BYTES}")
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{path}: no JSON document: {error}") from None
    if not isinstance(data, dict):
        raise PolicyError(f"{path}: expected a mapping, found {type(data).__name__}")
    if data.get("format") != FORMAT:
        found = str(data.get("format"))[:40]
        raise PolicyError(f"{path}: policy format {found}, this version reads format {FORMAT}")
    try:
        return data, PolicyDocument.model_validate(data)
    except ValidationError as error:
        raise PolicyError(f"{path}: {first_line(PolicyDocument, error)}") from None
