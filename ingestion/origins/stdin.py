"""Standard input as an origin: JSON lines, read once.

rows + broken rows = the lines that are not empty        it cannot be read a second time
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingestion.origin import Part, Reading, Rows
from ingestion.origins.declaring import Declaration
from ingestion.origins.format import Input
from ingestion.origins.json import JsonLines

NAME = "standard input"


@dataclass(frozen=True)
class Stdin(Declaration):
    """JSON lines on standard input."""

    def describe(self) -> Mapping[str, Any]:
        """The declaration; see Origin.describe."""
        return {"kind": "stdin"}

    def parts(self, reading: Reading) -> Sequence[Part]:
        """The one part that there is."""
        return [Part(NAME)]

    def read(self, part: Part, reading: Reading) -> Iterator[Rows]:
        """The lines; see Origin.read."""
        return JsonLines().rows(Input(part.name, sys.stdin.buffer), reading)


__all__ = ["Stdin"]
