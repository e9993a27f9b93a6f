"""JSON for programs: one document on standard output and nothing else; progress goes to standard error."""

import json
import sys
from typing import Any


def print_document(content: dict[str, Any]) -> None:
    """The document; values that JSON lacks (times, dates) are written as text."""
    sys.stdout.write(json.dumps(content, default=str, indent=1) + "\n")
