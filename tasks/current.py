"""views/<view>/_current.json: the manifest of the batch that is visible, where whoever reads the lake looks for it.

    current(view) = manifest(view at the visible cut)        whenever no publish or rollback is under way, and the last one came to its end

Postgres stays the truth: the file is written after the transaction, so for a moment, or after a crash until the next publish, rollback
or purge, it names the batch that was visible before. Purges write it before they delete, so the files that it names are there.
"""

import logging
from dataclasses import replace

from pipeline.base.errors import WatershedError
from pipeline.handover import Cut, Generation
from pipeline.lake import layout
from pipeline.lake.manifest import Manifest
from pipeline.lake.targets import ViewAtCut
from tasks.night.night import Night

LOG = logging.getLogger("luigi-interface")


def write_current(night: Night) -> None:
    """Write it for every view of the source, until the visible batch is the one that was written; nothing for a generation that does
    not answer. Safe to run again, and beside others: whoever writes last has looked last, also at which generation answers.
    """
    written: int | None = None
    while (active := night.store.active(night.source.topic)) is not None:
        if active.number != night.generation.number:
            if written is not None:
                # Another generation took over meanwhile: its own file may be the one that was overwritten
                _write_for(night, active)
            return
        visible = _visible(night)
        if visible.number == written:
            return
        for name in night.view_fingerprints:
            content = _current(night, name, visible)
            path = layout.current_view(name)
            if night.lake.manifest(path) != content:
                night.lake.commit(path, content)
        written = visible.number


def _write_for(night: Night, active: Generation) -> None:
    """write_current for a generation whose definitions are known from its record alone."""
    for gone in sorted(night.view_fingerprints.keys() - active.views.keys()):
        night.lake.delete_manifest(layout.current_view(gone))
    other = replace(night, generation=active)
    other.source_fingerprint, other.view_fingerprints = active.source_fingerprint, dict(active.views)
    write_current(other)


def try_write_current(night: Night) -> None:
    """write_current for whoever has published: that has landed, so an error here is told and not raised."""
    try:
        write_current(night)
    except WatershedError as error:
        LOG.warning(
            "%s: %s still names the batch before; the next night writes it: %s",
            night.source.topic,
            "_current.json",
            error,
        )


def _visible(night: Night) -> Cut:
    return max((c for c in night.store.ledger(night.generation) if c.status == "published"), key=lambda c: c.number)


def _current(night: Night, name: str, visible: Cut) -> Manifest:
    facts = {
        "batch": visible.number,
        "generation": visible.generation,
        "night": str(visible.date) if visible.date else None,
    }
    if visible.number == 0:  # the start of the log: no view has a file yet, or has one again
        g = night.generation
        target = ViewAtCut(
            name, g.topic, g.topic_id, night.view_fingerprints[name], 0, tuple(g.starts), tuple(visible.offsets)
        )
        return Manifest("current", target.inputs, (), facts)
    target = night.targets(visible.number).view(name)
    return Manifest("current", target.inputs, target.require(night.lake, night.is_kept).files, facts)


__all__ = ["try_write_current", "write_current"]
