"""Files of identities: what a partition remembers at an offset, written once and read back bit for bit.

read(write(snapshot)) = snapshot        identities_at(cut n) = the identities of log[0, cut n) within the horizon;  at batch 0: none
"""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.accept.dedupe import IdentitySnapshot
from pipeline.base.errors import Refused
from pipeline.columns.arrays import chunk
from pipeline.definition.fingerprints import source_fingerprint
from pipeline.definition.source import Source
from pipeline.handover import Generation
from pipeline.lake import layout
from pipeline.lake.lake import Known, Lake
from pipeline.lake.manifest import File, Manifest
from pipeline.lake.targets import IdentitiesAtCut

REPAIR = "watershed init --rebuild"
HINT = f"check the setting `lake`, or run `{REPAIR}`"


class IdentitiesMissing(Refused):
    """The lake does not have the identities at a cut, or has those of another one; the message says what to do."""


def identities_at(
    lake: Lake,
    source: Source,
    generation: Generation,
    number: int,
    partition: int,
    position: int,
    hint: str = HINT,
    repair: str = REPAIR,
) -> IdentitySnapshot | None:
    """The identities that the batch layer published with cut `number`, whose offset in the partition is `position`.

    None for batch 0, the log's start, where nothing is known yet; IdentitiesMissing, with `hint` as what to do and `repair` as the
    command of it, when they are not in the lake. The usual mistake: to take None for "missing", and to count duplicates twice.
    """
    if number == 0:
        return None
    target = IdentitiesAtCut(source.topic, generation.topic_id, source_fingerprint(source), number, partition, position)
    found = read_identities(lake, target.stem, target.inputs)
    if found is None:
        raise IdentitiesMissing(
            f"topic {source.topic}, partition {partition}: the identities at cut {number} ({target.path}) are missing from the lake"
            f" {lake.root.split('?')[0]} or belong to another cut; {hint}",
            repair=repair,
        )
    return found


def write_identities(lake: Lake, path: str, inputs: dict[str, Any], snapshot: IdentitySnapshot) -> File:
    """Write a snapshot and its manifest; `path` has no ending."""
    data: Any = np.ascontiguousarray(snapshot.hashes)
    hashes = pa.Array.from_buffers(pa.binary(16), len(snapshot.hashes), [None, pa.py_buffer(data)])
    table = pa.table({"identity": hashes, "seen_ms": pa.array(snapshot.seen_ms)})
    file = File(
        f"{path}.parquet",
        lake.write_table(f"{path}.parquet", table.schema, [table], Known(noise=["identity"], near=["seen_ms"])),
    )
    lake.commit(layout.manifest(path), Manifest("identities", inputs, (file,), {"watermark_ms": snapshot.watermark_ms}))
    return file


def read_identities(lake: Lake, path: str, inputs: dict[str, Any]) -> IdentitySnapshot | None:
    """The snapshot at the path (which has no ending), if it was made from just these inputs; else None."""
    manifest = lake.made_from(layout.manifest(path), inputs)
    if manifest is None:
        return None
    table = lake.read_table(manifest.files[0])
    raw = chunk(table.column("identity"))
    data = raw.buffers()[1]
    words = np.frombuffer(memoryview(data), np.uint64) if data is not None and data.size else np.empty(0, np.uint64)
    hashes = words.reshape(-1, 2)[raw.offset : raw.offset + len(raw)]
    position = inputs["position"]
    assert isinstance(position, int)
    seen = np.asarray(table.column("seen_ms").to_numpy(), np.int64)
    return IdentitySnapshot(position, int(manifest.facts["watermark_ms"]), np.array(hashes), seen)


__all__ = ["IdentitiesMissing", "identities_at", "read_identities", "write_identities"]
