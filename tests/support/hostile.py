"""What a DBA may have set for a role or a database, and the worst of it for SQL that rests on defaults."""

import psycopg2
from sqlalchemy.engine import make_url

HOSTILE = {
    "repeatable read": {"default_transaction_isolation": "'repeatable read'"},
    "serializable": {"default_transaction_isolation": "serializable"},
    "read only": {"default_transaction_read_only": "on"},
    "statements of a second": {
        "statement_timeout": "'1s'",
        "lock_timeout": "'1ms'",
        "idle_in_transaction_session_timeout": "0",
    },
    "commits that may be lost": {"synchronous_commit": "off"},
    "another search_path": {"search_path": "decoys, public"},
    "other forms": {
        "datestyle": "'SQL, DMY'",
        "intervalstyle": "sql_standard",
        "timezone": "'Asia/Kathmandu'",
        "extra_float_digits": "-15",
        "bytea_output": "escape",
        "standard_conforming_strings": "off",
        "array_nulls": "off",
        "transform_null_equals": "on",
        "row_security": "on",
        "client_min_messages": "debug1",
    },
}
DECOYS = """
CREATE SCHEMA IF NOT EXISTS decoys;
CREATE OR REPLACE FUNCTION decoys.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT timestamptz '1999-01-01' $$;
CREATE OR REPLACE FUNCTION decoys.unnest(bigint[]) RETURNS SETOF bigint LANGUAGE sql AS $$ SELECT 0::bigint WHERE false $$;
"""


def execute(url: str, sql: str) -> None:
    """The statements by themselves, without anything of ours between."""
    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
    finally:
        connection.close()


def make_hostile(url: str, settings: dict[str, str]) -> None:
    """From the next connection on: for this user in this database, which outdoes what is set for either or the server."""
    place = make_url(url)
    if "decoys" in settings.get("search_path", ""):
        execute(url, DECOYS)
    role = f'ALTER ROLE "{place.username}" IN DATABASE "{place.database}"'
    # By one connection: the next would begin with those that are set, such as read only.
    execute(url, "; ".join(f"{role} SET {name} TO {value}" for name, value in settings.items()))
