"""Paths in the lake: one function per noun, relative to the lake, with `/`.

Invariant: a path is a function of what the file holds (topic, fingerprint, offsets, cut), so writing it twice writes the same thing.
"""

from typing import Any

# Folders that have manifests, or copies of cuts
MANIFESTS = ("cuts", "master", "clean", "views", "identities", "tables")


def manifest(stem: str) -> str:
    """The manifest of what lies at `stem`, a path without an ending. Readers of a folder pass over names that begin with `_`."""
    folder, _, name = stem.rpartition("/")
    return f"{folder}/_{name}.json"


def master(topic: str, partition: int, start: int, end: int) -> str:
    """The archived log [start, end), without an ending."""
    return f"master/{topic}/partition={partition}/{start}-{end}"


def master_set_aside(topic: str, topic_id: str, partition: int, start: int, end: int) -> str:
    """The archived log of a topic that was deleted and made anew: another log, though it had the name."""
    return f"master/{topic}/topic_id={topic_id}/partition={partition}/{start}-{end}"


def clean(topic: str, fingerprint: str) -> str:
    """The folder of a source's accepted records."""
    return f"clean/{topic}/fingerprint={fingerprint}"


def clean_manifest(topic: str, fingerprint: str, partition: int, start: int, end: int) -> str:
    """The manifest of the accepted, rejected and identities of [start, end)."""
    return manifest(f"clean/{topic}/fingerprint={fingerprint}/manifests/{partition}-{start}-{end}")


def rejected(topic: str, fingerprint: str, name: str) -> str:
    """A file of rejected records."""
    return f"rejected/{topic}/fingerprint={fingerprint}/{name}.parquet"


def feed_rejects(feed: str, writing: str) -> str:
    """A file of rows of a feed that were rejected; `writing` is what no two writings share."""
    return f"rejected/feeds/{feed}/{writing}.parquet"


def table_rows(name: str, version: int, load: str) -> str:
    """The file of a version's rows; `load` is what no two loads share."""
    return f"{table(name, version)}/load={load}/rows.parquet"


def table_deleted(name: str, version: int, load: str) -> str:
    """The file of rows that deleted their keys, in a merge: of no version, and passed over by readers of the folder."""
    return f"{table(name, version)}/load={load}/_deleted.parquet"


def table_rejects(name: str, version: int, load: str) -> str:
    """A file of rows of a load that were rejected."""
    return f"rejected/tables/{name}/version={version}/load={load}.parquet"


def view(name: str, fingerprint: str, cut: int) -> str:
    """The folder of a view's states and values at a cut."""
    return f"views/{name}/fingerprint={fingerprint}/cut={cut}"


def view_manifest(name: str, fingerprint: str, cut: int) -> str:
    """The manifest of a view at a cut."""
    return manifest(f"{view(name, fingerprint, cut)}/manifest")


def current_view(name: str) -> str:
    """The manifest of the visible batch of a view: where to look for it without a look at Postgres."""
    return manifest(f"views/{name}/current")


def table(name: str, version: int) -> str:
    """The folder of one version of a table."""
    return f"tables/{name}/version={version}"


def table_manifest(name: str, version: int) -> str:
    """The manifest of a version of a table."""
    return manifest(f"{table(name, version)}/manifest")


def current_table(name: str) -> str:
    """The manifest of a table's newest version: where to look for it without a look at Postgres."""
    return manifest(f"tables/{name}/current")


def identities(topic: str, fingerprint: str, cut: int, partition: int) -> str:
    """The identities that a partition remembers at a cut, without an ending."""
    return f"identities/{topic}/fingerprint={fingerprint}/cut={cut}/partition={partition}"


def worker_identities(topic: str, fingerprint: str, partition: int, position: int, generation: int, epoch: int) -> str:
    """The identities that a worker remembered at a position, without an ending; one takeover (epoch) writes it, nobody else."""
    return f"identities/{topic}/fingerprint={fingerprint}/partition={partition}/{position}-{generation}-{epoch}"


def cut_file(date: str) -> str:
    """The copy of the cuts chosen for a night."""
    return f"cuts/{date}.json"


def identity_inputs(topic_id: str, partition: int, position: int) -> dict[str, Any]:
    """Inputs that a snapshot of identities is made from."""
    return {"topic_id": topic_id, "partition": partition, "position": position}


def is_manifest(path: str) -> bool:
    """True where a manifest, or the copy of a cut, may stand at a path that a stranger gave: below a folder of theirs, never out of it."""
    folder, *names = path.split("/")
    plain = path.isprintable() and "\\" not in path and not any(name.startswith(".") or not name for name in names)
    return plain and folder in MANIFESTS and len(names) > 0 and path.endswith(".json")
