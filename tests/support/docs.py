"""The pages of documentation, taken apart: blocks of code, commands, links, tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
INDENTED = re.compile(r"(?:^|\n\n)((?:    .*\n)+)")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


def command_lines(page: str) -> list[str]:
    """Every command that a page shows: lines of indented and fenced blocks, and what stands between backticks."""
    text = text_of(page)
    lines = [line.strip() for block in INDENTED.findall(text) for line in block.splitlines()]
    lines += [
        line for language in ("sh", "cron", "ini") for block in blocks(page, language) for line in block.splitlines()
    ]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    parts = [part.strip() for line in lines for part in re.split(r"&&|;|\|\||(?<=\s)&(?=\s|$)|#.*|>>.*", line)]
    bare = [re.sub(r"^(\S+=\S+ |export |.*ExecStart=|[\d* ]+ )+", "", part) for part in parts if part]
    return [line.replace("/srv/analytics/.venv/bin/", "") for line in bare]


def tables(page: str, heading: str) -> list[list[str]]:
    """The rows of the tables between this heading and the next, without their heads; cells as they stand."""
    section = f"\n{text_of(page)}".split(f"\n{heading}\n")[1]
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.MULTILINE)[0]
    rows = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    return [row for n, row in enumerate(rows) if not set("".join(row)) <= set("- ") and not _is_head(rows, n)]


def _is_head(rows: list[list[str]], n: int) -> bool:
    return n + 1 < len(rows) and set("".join(rows[n + 1])) <= set("- ")


def code_of(cell: str) -> str:
    """The code of a cell that is code alone."""
    assert re.fullmatch(r"`[^`]+`", cell), cell
    return cell.strip("`").replace("\\|", "|")


def evaluated(code: str, names: Mapping[str, Any]) -> Any:
    """The value of an expression that a page shows."""
    known = dict(names)
    exec(compile(f"found = {code}", "a page", "exec", dont_inherit=True), known)
    return known["found"]
