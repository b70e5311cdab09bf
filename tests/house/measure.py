"""How plain the code is, counted: `python tests/house/measure.py [ROOT]` prints a table, a column a
floor.

Run it on two revisions to compare them. `test_plain_lines.py` holds the counts that must not rise.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

FLOORS = ("envs", "policies", "rl_markets", "benchmarks", "tests", "examples")
LONGEST_LINE = 100
LONGEST_FILE = 400
LONGEST_FUNCTION = 40
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}
PARAMETERS = re.compile(r"""\b(?:p|parameters|common|parameters\(\w+\))\[["']""")
"""A parameter that is asked for by its name as text."""


def files(root: Path, floor: str) -> Iterator[Path]:
    """The floor's files; not those behind links, which lie on floors of their own."""
    for path in sorted((root / floor).rglob("*.py")):
        if not any((root / parent).is_symlink() for parent in path.relative_to(root).parents):
            yield path


def counts(text: str) -> Counter[str]:
    """What one file has."""
    tree = ast.parse(text)
    lines = text.splitlines()
    found: Counter[str] = Counter()
    tokens = [
        t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in NO_CODE
    ]
    code = [t for t in tokens if not (t.type == tokenize.STRING and t.string.startswith('"""'))]
    found["lines"] = len(lines)
    found["tokens"] = len(code)
    found["code lines"] = len({t.start[0] for t in code})
    found["comments"] = sum(line.lstrip().startswith("#") for line in lines)
    found["lines over 100"] = sum(len(line) > LONGEST_LINE for line in lines)
    found["fmt: skip"] = text.count("# fmt: " + "skip")
    found["type: ignore"] = text.count("# type: " + "ignore")
    found["parameters as text"] = len(PARAMETERS.findall(text))
    found["files over 400"] = int(len(lines) > LONGEST_FILE)
    found["longest file"] = len(lines)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple):
            found["tuple assignments"] += isinstance(node.targets[0], ast.Tuple)
        elif isinstance(node, ast.Name) and node.id == "Any":
            found["Any"] += 1
        elif isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            found["functions over 40"] += length > LONGEST_FUNCTION
            found["longest function"] = max(found["longest function"], length)
    return found


def measured(root: Path, floor: str) -> Counter[str]:
    """A whole floor."""
    total: Counter[str] = Counter()
    longest: Counter[str] = Counter()
    for path in files(root, floor):
        one = counts(path.read_text(encoding="utf-8"))
        total += one
        for name in ("longest file", "longest function"):
            longest[name] = max(longest[name], one[name])
    return Counter({**total, **longest})


ROWS = (
    "lines",
    "tokens a code line",
    "comments per 100 code lines",
    "lines over 100",
    "fmt: skip",
    "tuple assignments",
    "parameters as text",
    "Any",
    "type: ignore",
    "files over 400",
    "longest file",
    "functions over 40",
    "longest function",
)


def table(root: Path) -> str:
    """The counts, as Markdown."""
    columns = {floor: measured(root, floor) for floor in FLOORS if (root / floor).is_dir()}
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for row in ROWS:
        cells = []
        for column in columns.values():
            code = max(1, column["code lines"])
            value: float = column[row]
            if row == "tokens a code line":
                value = round(column["tokens"] / code, 1)
            elif row == "comments per 100 code lines":
                value = round(100 * column["comments"] / code, 1)
            cells.append(f"{value:,}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()))
