"""Installation by `watershed init`: schemas, tables, a generation per topic with batch 0, and the views that answer.

    install(plans); install(plans) = install(plans)      and a changed plan changes nothing: it is refused
    after install: a position row per partition, batch 0 published and visible with cut = position = segment = start

Everything happens in one transaction under an advisory lock, and takes no lock that a worker, a night or a reader waits
for, unless the text of a view changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import unified_diff

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.schema import CreateTable

from pipeline.base.errors import Refused
from pipeline.definition.fingerprints import describe_source, describe_view, source_fingerprint, view_fingerprint
from pipeline.definition.source import Source
from pipeline.definition.view import View
from pipeline.handover import Generation, Vector
from pipeline.handover.generation import refuse_other_log
from pipeline.handover.replacement import Plan
from serving.merged_view import COMMON_VIEWS, merged_view, support
from serving.ops import tables
from serving.ops.adoptions import insert_adoptions
from serving.ops.generations import active_generation, definitions_of, foreign_view, free_number, not_set_up
from serving.postgres.quoting import quote
from serving.postgres.views import replace_view
from serving.stores.transactions import Transactions

SETUP_LOCK = 0x57415445525348  # "WATERSH": one init, rebuild or activation at a time


def install(engine: Engine, plans: Sequence[Plan]) -> list[Generation]:
    """Make what is missing; the active generation of each plan. Refused, changing nothing, when a plan differs from it."""
    _check_names(plans)
    return Transactions(engine).patiently(lambda connection: _install(connection, plans), again=True)


def _install(connection: Connection, plans: Sequence[Plan]) -> list[Generation]:
    _set_up(connection)
    found = []
    for plan in plans:
        generation = active_generation(connection, plan.source.topic)
        if generation is None:
            refuse_foreign_views(connection, plan)
            number = free_number(connection, plan.source.topic, [v.name for v in plan.views])
            generation = make_generation(connection, plan, number, plan.starts, "active")
            adopt_from_start(connection, generation, plan.versions)
        else:
            refuse_other_log(generation, plan.found)
            refuse_other_definition(connection, generation, plan.source, plan.views)
        publish_views(connection, plan.views, generation.number)
        found.append(generation)
    for name, select in COMMON_VIEWS.items():
        replace_view(
            connection, name, select, f"Watershed: {name.replace('_', ' ')} of every partition at this instant"
        )
    return found


def set_up(engine: Engine) -> None:
    """The schemas, and the tables of schema ops, where they are missing; Refused for a database that `install` would refuse."""
    Transactions(engine).patiently(_set_up, again=True)


def _set_up(connection: Connection) -> None:
    _refuse_encoding(connection)
    lock_setup(connection)
    _make_schemas(connection)


def _refuse_encoding(connection: Connection) -> None:
    """Keys and texts are any Unicode: another encoding than UTF8 could not hold some, and the first of them would end its worker."""
    found = connection.exec_driver_sql("SELECT current_setting('server_encoding'), current_database()").one()
    if found[0] != "UTF8":
        raise Refused(
            f"database {found[1]!r} has the encoding {found[0]}, which cannot hold every key and text; make one that can"
            " (createdb --encoding=UTF8 --template=template0 NAME), name it in WATERSHED_POSTGRES, and run `watershed init`"
        )


def require(engine: Engine, source: Source, views: Sequence[View]) -> Generation:
    """The active generation, if recorded for exactly these definitions; Refused else. Workers and nights begin so."""

    def read(connection: Connection) -> Generation:
        generation = active_generation(connection, source.topic)
        if generation is None:
            raise not_set_up(source.topic)
        refuse_other_definition(connection, generation, source, views)
        return generation

    return Transactions(engine).read(read)


def lock_setup(connection: Connection) -> None:
    """Until the end of the transaction nobody else sets up."""
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": SETUP_LOCK})


def make_generation(connection: Connection, plan: Plan, number: int, starts: Vector, status: str) -> Generation:
    """A generation with its tables, its position rows, and batch 0."""
    key = {"topic": plan.source.topic, "generation": number}
    generation = Generation(
        plan.source.topic,
        number,
        plan.topic_id,
        tuple(starts),
        source_fingerprint(plan.source),
        {view.name: view_fingerprint(view) for view in plan.views},
    )
    connection.execute(
        sa.insert(tables.generations).values(
            topic=generation.topic,
            number=number,
            topic_id=plan.topic_id,
            starts=list(starts),
            source_fingerprint=generation.source_fingerprint,
            definition="\n".join(describe_source(plan.source)),
            status=status,
        )
    )
    for view in plan.views:
        text = "\n".join(describe_view(view))
        connection.execute(
            sa.insert(tables.views).values(**key, view=view.name, fingerprint=view_fingerprint(view), definition=text)
        )
        _make_tables(connection, view, number)
    for partition, start in enumerate(starts):
        connection.execute(
            sa.insert(tables.positions).values(**key, partition=partition, position=start, segment=start)
        )
        connection.execute(sa.insert(tables.batch_counts).values(**key, number=0, partition=partition))
        for view in plan.views:
            connection.execute(
                sa.insert(tables.batch_views).values(**key, number=0, view=view.name, partition=partition)
            )
    now = sa.func.now()
    connection.execute(sa.insert(tables.cuts).values(**key, number=0, offsets=list(starts)))
    connection.execute(
        sa.insert(tables.batches).values(
            **key, number=0, status="published", complete=True, staged_at=now, published_at=now
        )
    )
    connection.execute(sa.insert(tables.visible).values(**key, number=0))
    return generation


def adopt_from_start(connection: Connection, generation: Generation, versions: Mapping[str, int]) -> None:
    """Put these versions in force from the start of the generation's log on."""
    insert_adoptions(connection, generation, 0, versions)


def publish_views(connection: Connection, views: Iterable[View], generation: int) -> None:
    """The merged views on one generation, and the functions they call."""
    ordered = tuple(views)
    for statement in support(ordered):
        connection.exec_driver_sql(statement.replace("%", "%%"))
    for view in ordered:
        about = f"Watershed: topic {view.source.topic} by {', '.join(view.key)}, {view.window}; exact up to serving.freshness"
        replace_view(connection, view.name, merged_view(view, generation), about)


def _make_schemas(connection: Connection) -> None:
    have = set(connection.scalars(sa.text("SELECT nspname FROM pg_namespace")))
    for schema in tables.SCHEMAS:
        if schema not in have:
            connection.exec_driver_sql(f"CREATE SCHEMA {quote(schema)}")
    tables.OPS.create_all(connection)


def _make_tables(connection: Connection, view: View, generation: int) -> None:
    for table in (tables.batch_table(view, generation), tables.speed_table(view, generation)):
        connection.execute(CreateTable(table))
        for index in table.indexes:
            index.create(connection)


def _check_names(plans: Sequence[Plan]) -> None:
    owners: dict[str, str] = {}
    for plan in plans:
        for view in plan.views:
            if view.name in owners:
                topics = f"topics {owners[view.name]} and {plan.source.topic}"
                raise Refused(f"two views are named {view.name!r} ({topics}), and serving has room for one; rename one")
            owners[view.name] = plan.source.topic


def refuse_foreign_views(connection: Connection, plan: Plan) -> None:
    """A view's name belongs to one topic at a time."""
    found = foreign_view(connection, plan.source.topic, [v.name for v in plan.views])
    if found is not None:
        view, topic = found
        raise Refused(
            f"serving.{view} answers for topic {topic}; to give it to topic {plan.source.topic}, first take it out of"
            f" the views of {topic} and run `watershed init --rebuild`, or rename one of the two"
        )


def refuse_other_definition(
    connection: Connection, generation: Generation, source: Source, views: Sequence[View]
) -> None:
    """Refused, with the lines that differ, unless the definitions are the recorded ones."""
    loaded = {view.name: view_fingerprint(view) for view in views}
    if source_fingerprint(source) == generation.source_fingerprint and loaded == dict(generation.views):
        return
    recorded = definitions_of(connection, generation)
    now = {"": "\n".join(describe_source(source))} | {view.name: "\n".join(describe_view(view)) for view in views}
    changes = [f"view {name} is new" for name in sorted(now.keys() - recorded.keys())]
    changes += [f"view {name} is gone" for name in sorted(recorded.keys() - now.keys())]
    for name in sorted(recorded.keys() & now.keys()):
        what = f"view {name}" if name else "the source"
        changes += [f"{what}: {line}" for line in _differing(recorded[name], now[name], bool(name))]
    raise Refused(
        f"the definitions of topic {generation.topic} are not those on record (generation {generation.number}):\n  "
        + "\n  ".join(changes)
        + "\nput them back as they were, or record the change and refold the log with `watershed init --rebuild`",
        repair="watershed init --rebuild",
    )


def _differing(before: str, after: str, is_view: bool) -> list[str]:
    """The lines that differ; a view's heading repeats its source's fingerprint, which is said of the source already."""
    lines = list(unified_diff(before.split("\n"), after.split("\n"), lineterm="", n=0))
    changed = [f"{line[0]} {line[1:]}" for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    own = [line for line in changed if not (is_view and line[2:].startswith("watershed view"))]
    return own or ([] if is_view else changed)
