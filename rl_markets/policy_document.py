"""`policy.json` of an exported policy, typed and bounded: it may come from a stranger."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rl_markets.errors import PolicyError
from rl_markets.policies.actor_schema import Fields, check_actor, shown

FORMAT = 1
MOST_BYTES = 64 * 2**20
"""Of `policy.json`; a million households' productivities take half of it."""
MOST_GROUPS = 10_000
LONGEST_RULE = 300

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,79}")
"""Names files: no dots, no separators."""


def read_document(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """A `policy.json`, and for each of its actors how many numbers its weights are, at least.

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
    document = Fields(data, f"{path}: document")
    if document.data.get("format") != FORMAT:
        raise PolicyError(
            f"{path}: policy format {shown(document.data.get('format'))}, "
            f"this version reads format {FORMAT}"
        )
    policies = _named(document, "policies", path)
    actors = _named(document, "actors", path)
    _check_policies(policies, actors, path)
    weights = {name: check_actor(spec, f"{path}: actors.{name}") for name, spec in actors.items()}
    return document.data, weights


def _named(document: Fields, name: str, path: Path) -> dict[str, Any]:
    """A mapping whose keys can be names of files."""
    entries = Fields(document.get(name), f"{path}: {name}").data
    for key in entries:
        if not isinstance(key, str) or not _NAME.fullmatch(key):
            raise PolicyError(
                f"{path}: {name}: name {shown(key)}: expected at most 80 letters, digits, - and _"
            )
    return entries


def _check_policies(policies: dict[str, Any], actors: dict[str, Any], path: Path) -> None:
    """Each policy has groups of its own, and follows a rule or an actor."""
    owner: dict[str, str] = {}
    if not policies:
        raise PolicyError(f"{path}: policies: empty, expected at least one")
    for name, policy in policies.items():
        fields = Fields(policy, f"{path}: policies.{name}")
        groups = fields.list("groups", MOST_GROUPS)
        if not groups:
            fields.fail("groups", groups, "at least one group")
        for group in groups:
            if not isinstance(group, str) or not _NAME.fullmatch(group):
                fields.fail("groups", group, "names of at most 80 letters, digits, - and _")
            if group in owner:
                fields.fail("groups", group, f"a group that is not {owner[group]!r}'s already")
            owner[group] = name
        scripted = fields.has("scripted")
        rule = policy.get("scripted")
        if scripted and not (isinstance(rule, str) and len(rule) <= LONGEST_RULE):
            fields.fail("scripted", rule, f"a rule of at most {LONGEST_RULE} characters")
        fields.nothing_else()
        if not scripted and name not in actors:
            raise PolicyError(f"{path}: actors.{name}: missing; the policy follows no rule")
    for name in actors:
        if name not in policies:
            raise PolicyError(f"{path}: policies.{name}: missing; there is an actor of that name")
