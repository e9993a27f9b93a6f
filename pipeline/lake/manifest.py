"""The manifest of a target: what it was made from, and its files.

a target is complete  <=>  its manifest is there and names the inputs that it would be made from now
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class File:
    """One file of a manifest: `path` relative to the lake, `rows`, and the partition values that its folder names."""

    path: str
    rows: int
    partition: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """Files that a target is made of (`files`), what it was made from (`inputs`), and what else is worth knowing (`facts`)."""

    kind: str
    inputs: Mapping[str, Any]
    files: tuple[File, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """UTF-8 JSON; equal manifests give equal bytes."""
        files = [
            {"path": f.path, "rows": f.rows, **({"partition": dict(f.partition)} if f.partition else {})}
            for f in self.files
        ]
        return json.dumps(
            {"watershed": 1, "kind": self.kind, "inputs": self.inputs, "files": files, "facts": self.facts},
            indent=1,
            sort_keys=True,
        ).encode()

    @property
    def digest(self) -> str:
        """16 hex digits over the whole manifest."""
        return hashlib.sha256(self.to_json()).hexdigest()[:16]
