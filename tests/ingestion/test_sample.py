"""A sample holds the oldest and the newest records of every partition, none twice, and not more than were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestion.sample import of_file, of_topic
from pipeline.base.errors import SettingsError
from simulation.memory_log import MemoryLog, Partition

TOPIC = "t"


@st.composite
def logs(draw: st.DrawFn) -> list[list[int]]:
    """Offsets of the records of each partition, with gaps; some partitions are empty."""
    gaps = st.lists(st.integers(1, 9), max_size=40)
    found = []
    for _ in range(draw(st.integers(1, 3))):
        offset, offsets = draw(st.integers(0, 3)), []
        for gap in draw(gaps):
            offsets.append(offset)
            offset += gap
        found.append(offsets)
    return found


def log_of(partitions: list[list[int]]) -> MemoryLog:
    """A log whose records have their own offset as value, all written."""
    made = [
        Partition([(o, 1000 + o, None, b"%d" % o) for o in offsets], offsets[0] if offsets else 0)
        for offsets in partitions
    ]
    for partition in made:
        partition.append(10**6)
    return MemoryLog(TOPIC, made)


@settings(max_examples=200, deadline=None)
@given(logs(), st.integers(1, 60))
def test_a_sample_has_the_oldest_and_the_newest_records_of_each_partition(
    partitions: list[list[int]], records: int
) -> None:
    if not any(partitions):
        with pytest.raises(SettingsError, match="holds no record"):
            of_topic(log_of(partitions), TOPIC, records)
        return
    found = of_topic(log_of(partitions), TOPIC, records)
    each = max(2, -(-records // len(partitions)))
    for part, offsets in zip(found.partitions, partitions, strict=True):
        oldest = offsets[: each - each // 2]
        rest = offsets[len(oldest) :]
        expected = oldest + rest[max(0, len(rest) - each // 2) :]
        got = [o for block in part.blocks for o in block.offsets.tolist()]
        assert got == expected
        assert all(a.end <= b.start for a, b in zip(part.blocks, part.blocks[1:], strict=False))
    assert [int(v or b"-1") for _, _, v, _ in found.values()] == [
        o for part in found.partitions for block in part.blocks for o in block.offsets.tolist()
    ]


def test_a_file_is_read_line_by_line_and_a_place_is_a_line(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{}\r\n\n  \n{"a": 1}\nlast')
    found = of_file(file, 10)
    assert [value for _, _, value, _ in found.values()] == [b"{}", b'{"a": 1}', b"last"]
    assert [found.place(0, o) for o in found.partitions[0].blocks[0].offsets.tolist()] == ["line 1", "line 4", "line 5"]
    assert len(of_file(file, 2)) == 2


@pytest.mark.parametrize(("content", "said"), [(None, "cannot be read"), (b"\n \n", "no line to look at")])
def test_a_file_that_cannot_be_looked_at_is_one_line(tmp_path: Path, content: bytes | None, said: str) -> None:
    file = tmp_path / "events.jsonl"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        of_file(file, 10)


def test_a_line_without_an_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestion.sample.MAX_LINE_BYTES", 100)
    (tmp_path / "image.bin").write_bytes(b"x" * 101)
    with pytest.raises(SettingsError, match="line 1 has more than 100 bytes"):
        of_file(tmp_path / "image.bin", 10)
