# ruff: noqa: S608 -- SQL is put together here from checked definitions alone, and every identifier is quoted
"""The merged views, as SQL made from definitions and from nothing else.

    serving.<view> = present( newest batch row of the group at or below the visible number  ⊕  Σ its live speed rows )

Conditions on key columns and window_start reach the primary keys of both tables: they are grouping columns, DISTINCT ON
columns, and plain columns of both arms of the UNION ALL. The visible number and cut are scalar subqueries, evaluated
once per statement; no function here is volatile, so a statement sees one snapshot.
"""

from pipeline.definition.view import View
from pipeline.fold.states import group_columns, state_fields
from serving.ops.tables import RECORD_COUNTS, VIEW_COUNTS, table_name
from serving.postgres.copy import quote


def literal(value: str) -> str:
    """A text literal."""
    return "'" + value.replace("'", "''") + "'"


def relation(schema: str, name: str) -> str:
    """A quoted schema-qualified name."""
    return f"{quote(schema)}.{quote(name)}"


def value_columns(view: View) -> list[tuple[str, str]]:
    """(name, SQL type) of the columns of serving.<view>, in order."""
    keys = [(name, view.types[name].postgres) for name in view.key]
    return [*keys, ("window_start", "timestamptz"), *((n, m.value.postgres) for n, m in view.measures.items())]


def support(views: tuple[View, ...]) -> list[str]:
    """The functions that the aggregates' SQL relies on, each once."""
    found = {
        statement: None for view in views for measure in view.measures.values() for statement in measure.sql_support()
    }
    return list(found)


def batch_states(view: View, generation: int) -> str:
    """The SELECT of the states that the visible batch has: of every group, the newest row at or below it."""
    group = ", ".join(quote(name) for name in group_columns(view))
    states = ", ".join(quote(name) for name in [*group_columns(view), *state_fields(view)])
    table = table_name(view.name, generation)
    here = f"v.topic = {literal(view.source.topic)} AND v.generation = {generation}"
    return f"""  SELECT {states} FROM (
    SELECT DISTINCT ON ({group}) {states} FROM {relation("batch", table)}
    WHERE batch <= (SELECT v.number FROM ops.visible v WHERE {here})
    ORDER BY {group}, batch DESC
  ) AS newest"""


def merged_view(view: View, generation: int, *, part: str = "both") -> str:
    """The SELECT of serving.<view> on one generation; of one layer's part alone with `part` batch or speed."""
    group = ", ".join(quote(name) for name in group_columns(view))
    states = ", ".join(quote(name) for name in [*group_columns(view), *state_fields(view)])
    values = []
    for name, measure in view.measures.items():
        fields = {f.name: quote(f"{name}__{f.name}") for f in measure.fields}
        values.append(f"({measure.sql(fields)})::{measure.value.postgres} AS {quote(name)}")
    table = table_name(view.name, generation)
    here = f"v.topic = {literal(view.source.topic)} AND v.generation = {generation}"
    cut = f"SELECT c.offsets FROM ops.visible v JOIN ops.cuts c USING (topic, generation, number) WHERE {here}"
    batch = batch_states(view, generation)
    speed = f"""  SELECT {states} FROM {relation("speed", table)}
  WHERE segment >= ({cut})[partition + 1]"""
    rows = {"both": f"{batch}\n  UNION ALL\n{speed}", "batch": batch, "speed": speed}[part]
    return f"SELECT {group}, {', '.join(values)}\nFROM (\n{rows}\n) AS states\nGROUP BY {group}"


ACTIVE = """FROM ops.positions p
JOIN ops.generations g ON g.topic = p.topic AND g.number = p.generation AND g.status = 'active'
JOIN ops.visible v ON v.topic = p.topic AND v.generation = p.generation
JOIN ops.cuts c ON c.topic = p.topic AND c.generation = p.generation AND c.number = v.number"""

FRESHNESS = f"""SELECT p.topic, p.partition, c.offsets[p.partition + 1] AS cut, p.position,
  c.chosen_at AS cut_at, p.position_at
{ACTIVE}"""


def _summed(names: tuple[str, ...]) -> tuple[str, str]:
    """(batch plus live, the live sums) of the counts of these names."""
    both = ", ".join(f"b.{n} + coalesce(live.{n}, 0) AS {n}" for n in names)
    return both, ", ".join(f"sum(s.{n})::bigint AS {n}" for n in names)


def _accounting() -> str:
    both, live = _summed(RECORD_COUNTS)
    return f"""SELECT p.topic, p.partition, {both}
{ACTIVE}
JOIN ops.batch_counts b ON b.topic = p.topic AND b.generation = p.generation AND b.number = v.number
  AND b.partition = p.partition
CROSS JOIN LATERAL (SELECT {live} FROM ops.segments s
  WHERE s.topic = p.topic AND s.generation = p.generation AND s.partition = p.partition
    AND s.start >= c.offsets[p.partition + 1]) AS live"""


def _view_accounting() -> str:
    both, live = _summed(VIEW_COUNTS)
    return f"""SELECT b.view, p.topic, p.partition, {both}
{ACTIVE}
JOIN ops.batch_views b ON b.topic = p.topic AND b.generation = p.generation AND b.number = v.number
  AND b.partition = p.partition
CROSS JOIN LATERAL (SELECT {live} FROM ops.segment_views s
  WHERE s.topic = p.topic AND s.generation = p.generation AND s.partition = p.partition AND s.view = b.view
    AND s.start >= c.offsets[p.partition + 1]) AS live"""


COMMON_VIEWS = {"freshness": FRESHNESS, "accounting": _accounting(), "view_accounting": _view_accounting()}
