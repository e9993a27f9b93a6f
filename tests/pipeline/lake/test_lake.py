"""The lake: a target is there whole and named by its manifest, or not at all; on a folder and on S3 alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pytest
from moto.server import ThreadedMotoServer

from pipeline.accept.dedupe import Identities
from pipeline.accept.identity_files import read_identities, write_identities
from pipeline.base.errors import LakeError
from pipeline.lake import layout
from pipeline.lake.lake import Lake
from pipeline.lake.manifest import File, Manifest

TABLE = pa.table({"x": [1, 2, 3], "y": ["a", None, "c"]})


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An S3 URL of an empty prefix, on a server of this module's own."""
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=f"http://{host}:{port}", **keys).create_bucket(Bucket="lake")
    yield f"s3://test:test@lake/prefix?scheme=http&endpoint_override={host}:{port}&region=us-east-1"
    server.stop()


@pytest.fixture(params=["folder", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake") if request.param == "folder" else request.getfixturevalue("bucket"))


def test_what_is_written_is_read_back(lake: Lake) -> None:
    assert lake.write_table("a/b.parquet", TABLE.schema, [TABLE, TABLE]) == 6
    assert lake.read_table("a/b.parquet").equals(pa.concat_tables([TABLE, TABLE]).combine_chunks())
    assert sum(b.num_rows for b in lake.read_batches(File("a/b.parquet", 6), 2)) == 6
    assert lake.last_row("a/b.parquet", ["x", "y"]) == {"x": 3, "y": "c"}
    lake.check_writable()


def test_a_target_is_complete_only_for_the_inputs_its_manifest_names(lake: Lake) -> None:
    manifest = Manifest(
        "test", {"cut": [1, 2], "fingerprint": "f"}, (File("a/b.parquet", 3, {"date": "2013-01-01"}),), {"base": 0}
    )
    assert lake.made_from("m.json", manifest.inputs) is None
    lake.commit("m.json", manifest)
    assert lake.made_from("m.json", {"cut": [1, 2], "fingerprint": "f"}) == manifest
    assert lake.made_from("m.json", {"cut": [1, 3], "fingerprint": "f"}) is None
    assert lake.made_from("m.json", {"cut": [1, 2], "fingerprint": "g"}) is None


def test_something_that_is_no_manifest_is_named(lake: Lake) -> None:
    lake.write_bytes("broken.json", b"{")
    with pytest.raises(LakeError, match=r"broken\.json is no manifest"):
        lake.manifest("broken.json")


def test_identities_survive_the_lake(lake: Lake) -> None:
    rng = np.random.default_rng(1)
    known = Identities(1000)
    hashes = rng.integers(0, 2**63, (500, 2)).astype(np.uint64)
    known.mark(hashes, known.advance(np.arange(500)))
    snapshot = known.snapshot(500)
    inputs = layout.identity_inputs("topic", 0, 500)
    write_identities(lake, "identities/x", inputs, snapshot)
    back = read_identities(lake, "identities/x", inputs)
    assert back is not None and back.watermark_ms == snapshot.watermark_ms and back.position == 500
    assert (back.hashes == snapshot.hashes).all() and (back.seen_ms == snapshot.seen_ms).all()
    assert read_identities(lake, "identities/x", layout.identity_inputs("topic", 0, 501)) is None
    again = Identities(1000, back)
    assert again.mark(hashes, again.advance(np.full(500, 600))).all()


class _Dies:
    """A process that dies at a named point."""

    def __init__(self, at: str) -> None:
        self.at = at

    def reach(self, name: str) -> None:
        if name == self.at:
            raise SystemExit(name)


@pytest.mark.parametrize("point", ["lake.before_fsync", "lake.before_rename"])
def test_a_writer_that_dies_before_the_rename_leaves_the_file_as_it_was(tmp_path: Path, point: str) -> None:
    Lake(str(tmp_path)).write_bytes("f", b"before")
    with pytest.raises(SystemExit):
        Lake(str(tmp_path), _Dies(point)).write_bytes("f", b"after")
    assert Lake(str(tmp_path)).read_bytes("f") == b"before"
    with pytest.raises(SystemExit):
        Lake(str(tmp_path), _Dies("lake.after_rename")).write_bytes("f", b"after")
    assert Lake(str(tmp_path)).read_bytes("f") == b"after"


def test_a_writer_whose_tables_fail_leaves_the_file_as_it_was_and_nothing_else(lake: Lake) -> None:
    lake.write_table("w/b.parquet", TABLE.schema, [TABLE, TABLE])

    def fails() -> Iterator[pa.Table]:
        yield TABLE
        raise RuntimeError("the log is gone")

    with pytest.raises(RuntimeError):
        lake.write_table("w/b.parquet", TABLE.schema, fails())
    assert lake.read_table(File("w/b.parquet", 6)).num_rows == 6
    folder = lake._fs.get_file_info(pa.fs.FileSelector(f"{lake._base}/w"))
    assert [f.base_name for f in folder if f.type == pa.fs.FileType.File and f.size] == ["b.parquet"]


def test_a_file_with_other_rows_than_its_manifest_says_is_refused(lake: Lake) -> None:
    lake.write_table("r/b.parquet", TABLE.schema, [TABLE])
    with pytest.raises(LakeError, match="its manifest says 4"):
        lake.read_table(File("r/b.parquet", 4))
    with pytest.raises(LakeError, match="its manifest says 4"):
        list(lake.read_batches(File("r/b.parquet", 4), 10))


def test_a_damaged_file_is_one_line(lake: Lake) -> None:
    lake.write_bytes("d/b.parquet", b"no parquet")
    with pytest.raises(LakeError, match="damaged"):
        lake.read_table("d/b.parquet")
