"""`watershed rebuild`: the real-time views of a source refolded, partition by partition, and put in place of those that answer."""

from typing import Annotated

import typer

from console.commands.chosen import refuse_unknown
from console.commands.waiting import patient_database, patient_log, patient_schemas
from pipeline.base.crash import crash_points
from pipeline.lake.lake import Lake
from pipeline.settings import Settings, by_source
from serving.generations.create import require
from serving.stores.night import PostgresNightStore
from serving.stores.refold import PostgresRefoldStore
from speed_layer.refold import SourceRefold


def rebuild(
    views: Annotated[list[str] | None, typer.Argument(help="Views whose sources to refold; all by default.")] = None,
    from_start: Annotated[
        bool,
        typer.Option(
            "--from-start",
            help="Replay the whole log for the identities, instead of believing those of the last batch.",
        ),
    ] = False,
) -> None:
    """Refold the real-time views of a source from the cut, while the old ones are served; then put them in their place.

    A source's views share their segments, so all of them are folded.
    """
    names, settings, say = views or [], Settings.load(), typer.echo
    declared = settings.load_views()
    refuse_unknown(names, declared)
    database = patient_database(settings, "rebuild")
    log, lake, schemas = patient_log(settings), Lake(settings.lake), patient_schemas(settings, database)
    for topic, mine in by_source(declared).items():
        if names and not any(v.name in names for v in mine):
            continue
        generation = require(database, mine[0].source, mine)
        stores = PostgresRefoldStore(database, mine, crash=crash_points()), PostgresNightStore(database, mine)
        work = SourceRefold(
            mine[0].source, mine, generation, *stores, log, lake, from_start=from_start, schemas=schemas
        )
        say(f"{topic}: refolding the real-time views {', '.join(v.name for v in mine)}, which share their segments")
        for partition in range(generation.partitions):
            standing, new = work.partition(partition)
            records = sum(s.counts.records for s in new)
            say(
                f"  partition {partition}: [{standing.cut:,}, {standing.position:,}) refolded, {records:,} records in {len(new)} segments"
            )
    log.close()
