"""Rejected rows are kept with their place, up to so many and so many bytes; all are counted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingestion.loading import load as loading
from ingestion.origins.files import Files
from pipeline import Table
from tests.support.loaded import Loads


@dataclass(frozen=True)
class Row:
    """A row of a number."""

    k: int


@pytest.mark.parametrize(("rows", "size"), [(10, 10**6), (100, 1000)])
def test_rejected_rows_are_kept_up_to_a_number_and_a_size_and_all_are_counted(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, rows: int, size: int
) -> None:
    monkeypatch.setattr(loading, "KEPT_REJECTS", rows)
    monkeypatch.setattr(loading, "KEPT_BYTES", size)
    loads, file = Loads(tmp_path / "lake", postgres_url), tmp_path / "rows.csv"
    file.write_text("k\n1\n" + "".join(f"{'x' * 80}\n" for _ in range(50)))
    made = loads.loader.load(Table("t", Files(str(file)), Row, ("k",)), "1")
    facts = json.loads(made.manifest or "")["facts"]
    assert facts["counts"]["rejected"] == 50 and facts["counts"]["rows"] == 1
    (path,) = facts["rejected"]
    kept = loads.lake.read_table(path)
    assert kept.column("number").to_pylist() == list(range(3, 3 + kept.num_rows))
    told = sum(len(row["raw"]) + len(row["reason"]) for row in kept.to_pylist())
    assert kept.num_rows == rows or size <= told < 1.5 * size
