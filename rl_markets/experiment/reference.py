"""The reference of experiment files, made from the fields themselves.

`python -m rl_markets.experiment.reference > docs/experiments.md` writes it.
"""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rl_markets.envs.registry import LEARNERS, MARKETS, find, names
from rl_markets.experiment.columns import MAX_ROWS, Column
from rl_markets.experiment.experiment import Experiment
from rl_markets.experiment.sections import (
    AlgorithmSection,
    CertificateSection,
    MarketSection,
    PolicySection,
    TrainingSection,
)

_HEAD = """# Experiment files

Made by `python -m rl_markets.experiment.reference > docs/experiments.md`; a test keeps it true.
Unknown fields are errors, values are not converted, and `-o section.field=value` overrides any of
them on the command line.
"""

_COLUMNS = f"""Any list of numbers under `market.parameters` may be left to a file, such as draws
from a distribution:

```yaml
market:
  name: households
  parameters:
    households: 20
    capital_productivity: {{file: types.csv, column: kappa}}
    labour_productivity: {{file: types.csv, column: lambda}}
```

with a `types.csv` beside the experiment file:

```csv
# drawn from a log-normal
kappa,lambda
0.92,1.1
0.98,1.0

1.01,0.7
1.09,1.2
```

The file is UTF-8 text with commas and a header line; blank lines and lines that start with `#` are
skipped, and each of at most {MAX_ROWS:,} rows has as many cells as the header. It is read when the
experiment file is: runners, checkpoints and the run's own `experiment.yaml` hold the numbers, and a
run goes on when the file has changed or is gone. It works on the command line, too, again relative
to the experiment file's folder:
`-o market.parameters.capital_productivity='{{file: types.csv, column: kappa}}'`.
"""


def reference() -> str:
    """The reference as Markdown."""
    parts = [_HEAD, _table("The file", Experiment)]
    sections: list[tuple[str, type[BaseModel]]] = [
        ("market", MarketSection),
        ("policies.NAME", PolicySection),
        ("algorithm", AlgorithmSection),
        ("training", TrainingSection),
        ("certificate", CertificateSection),
    ]
    parts += [_table(f"`{name}`", model) for name, model in sections]
    parts.append(_table("Lists from files", Column) + "\n" + _COLUMNS)
    for group, title in ((MARKETS, "market.parameters"), (LEARNERS, "algorithm.parameters")):
        for name in names(group):
            spec = find(group, name)
            if not spec.parameters.__module__.startswith("rl_markets."):
                continue  # somebody else's, whose own documentation it is
            parts.append(_table(f"`{title}` of `{name}`", spec.parameters, spec.summary))
    return "\n".join(parts)


def _table(title: str, model: type[BaseModel], summary: str = "") -> str:
    lines = [
        f"## {title}",
        "",
        summary or (model.__doc__ or "").strip().splitlines()[0],
        "",
        "| field | type | default | meaning |",
        "|---|---|---|---|",
    ]
    lines += [_row(name, field) for name, field in model.model_fields.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, field: FieldInfo) -> str:
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        return f"| `{name}` | section | | {(field.annotation.__doc__ or '').strip()} |"
    kind = f"{_type(field.annotation)}{_bounds(field)}"
    default = "" if field.is_required() else _shown(field.get_default(call_default_factory=True))
    return f"| `{name}` | {kind} | {default} | {field.description or ''} |"


def _shown(value: Any) -> str:
    """A default as an experiment file would give it."""
    if value is PydanticUndefined or value in ("", {}):
        return ""
    if value is None:
        return "`null`"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _type(annotation: Any) -> str:
    """A field's type in words."""
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is tuple:
        return f"[{', '.join(_type(a) for a in arguments)}]"
    if origin is dict:
        return "mapping"
    if arguments:  # a union
        return " or ".join(_type(a) for a in arguments)
    words = {
        int: "whole number",
        float: "number",
        str: "text",
        bool: "true or false",
        type(None): "null",
    }
    return words.get(annotation, "section")


def _bounds(field: FieldInfo) -> str:
    """`, > 0, <= 1`, or nothing."""
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = ""
    for constraint in field.metadata:
        for name, sign in signs.items():
            bound = getattr(constraint, name, None)
            if bound is not None:
                bounds += f", {sign} {bound:g}"
    return bounds


if __name__ == "__main__":
    print(reference(), end="")
