"""The settings of a session that our SQL rests on: one list, set at the start of every transaction and for that transaction only.

    the answer of a statement of ours = f(its text, the rows)        not of what a DBA set for the role, the database or the server

BEGIN itself says the isolation and READ WRITE or READ ONLY (serving.postgres.connection). The rest is one text, one round trip, in the
place of the ping that a pool would send. SET takes no snapshot, so a reader's instant is that of its own first statement. Nothing is set
for the session: behind PgBouncer in transaction mode that would reach other clients, and be lost with the server connection.
"""

PINNED = {
    # how statements are understood, and values written and read
    "search_path": "pg_catalog, pg_temp",  # every name of ours has its schema; nobody's function or operator comes in between
    "row_security": "off",  # a policy that would hide rows is an error, not a smaller answer
    "timezone": "'UTC'",
    "datestyle": "'ISO, YMD'",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "client_min_messages": "warning",
    # how long a statement may take: a night's COPY is long, and waits are bounded by the two timeouts below
    "statement_timeout": "0",
}
SINCE_17 = {"transaction_timeout": "0"}
# Left alone, for they change how long an answer takes and not which it is: planner, memory, tablespaces, logging.

# Every write is durable when it is answered, a worker's too: an answer that was seen does not go back when a server crashes, and cuts,
# purges and snapshots of identities are built on positions. `remote_apply` is stronger, and stays. Off nowhere: a commit's fsync is shared.
DURABLE = """SELECT pg_catalog.set_config('synchronous_commit',
  CASE pg_catalog.current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, true)"""


def pin(server_version: int, *, lock_timeout_ms: int, idle_timeout_ms: int, reads: bool) -> str:
    """The text that sets all of it until the end of the transaction; it must be the transaction's first.

    A writer's ends with a SELECT, which takes a snapshot: for READ COMMITTED, where each statement has its own.
    """
    values = {
        "lock_timeout": str(int(lock_timeout_ms)),
        "idle_in_transaction_session_timeout": str(int(idle_timeout_ms)),
        **PINNED,
        **(SINCE_17 if server_version >= 17 else {}),
    }
    texts = [f"SET LOCAL {name} TO {value}" for name, value in values.items()]
    return "; ".join(texts if reads else [*texts, DURABLE])


__all__ = ["PINNED", "pin"]
