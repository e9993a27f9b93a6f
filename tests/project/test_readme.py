"""What the README says is so, and the tables that point at code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import pyarrow.compute as pc

import pipeline
from pipeline import View
from pipeline.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def test_the_view_of_the_readme_is_a_view() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {name: getattr(pipeline, name) for name in pipeline.__all__}
    names |= {
        "dataclass": dataclass,
        "datetime": datetime,
        "Decimal": Decimal,
        "Annotated": Annotated,
        "pc": pc,
        "__name__": __name__,
    }
    exec(compile(code, "README.md", "exec", dont_inherit=True), names)
    (view,) = names["VIEWS"]
    assert isinstance(view, View) and view.name == "hourly_weather"
    assert len([line for line in code.splitlines() if line.strip()]) <= 22, "it is called the 20-line view"


def test_the_page_on_settings_has_every_setting_and_no_other() -> None:
    every = {name: f"WATERSHED_{name.upper()}" for name in Settings.model_fields}
    row = r"\| `([a-z_]+)` \| `(WATERSHED_[A-Z_]+)` \|"
    assert dict(re.findall(row, (ROOT / "docs/SETTINGS.md").read_text())) == every


def test_what_the_page_on_exactness_names_is_there() -> None:
    """A table that points at code and tests is worth what its pointers are."""
    text = (ROOT / "docs/EXACTNESS.md").read_text()
    paths = set(re.findall(r"`([a-z_]+/[\w/.*]+)`", text))
    assert len(paths) > 25
    missing = {
        path for path in paths if not list(ROOT.glob(path.removesuffix("*") + "*" if path.endswith("*") else path))
    }
    assert not missing
    ours = ("pipeline", "serving", "speed_layer", "tasks")
    source = "\n".join(file.read_text() for folder in ours for file in (ROOT / folder).rglob("*.py"))
    names = set(re.findall(r"`((?:[A-Z]\w+\.)?\w+)`(?:, `(\w+)`)? in `", text))
    assert names
    for name in {part.rpartition(".")[2] for pair in names for part in pair if part}:
        assert re.search(rf"^\s*(def|class) {name}\b|^{name} = ", source, re.MULTILINE), f"{name} is nowhere defined"
