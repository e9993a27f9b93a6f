"""Views of schema serving: made, replaced, dropped, with the least lock that does.

the view's text is the one asked for  =>  nothing is touched      (its comment holds a fingerprint of its text)
"""

import hashlib

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.base.errors import Refused
from serving.postgres.quoting import literal, relation

COMMENT = sa.text("SELECT obj_description(to_regclass(:name), 'pg_class')")
GRANTS = sa.text("""
SELECT a.privilege_type, a.is_grantable,
  CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS grantee
FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = to_regclass(:name) AND a.grantee <> c.relowner
""")
CANNOT_REPLACE = "42P16"  # CREATE OR REPLACE VIEW: columns were renamed, removed or changed in type
DEPENDENTS = "2BP01"


def replace_view(connection: Connection, name: str, select: str, about: str) -> None:
    """Make serving.<name> this SELECT. Readers keep their grants, also when it must be dropped for other columns."""
    target = relation("serving", name)
    comment = f"{about} (text {hashlib.sha256(select.encode()).hexdigest()[:16]})"
    if connection.execute(COMMENT, {"name": target}).scalar_one() == comment:
        return
    create = f"VIEW {target} AS\n{select}".replace("%", "%%")
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"CREATE OR REPLACE {create}")
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != CANNOT_REPLACE:
            raise
        grants = connection.execute(GRANTS, {"name": target}).all()
        drop_view(connection, name)
        connection.exec_driver_sql(f"CREATE {create}")
        for grant in grants:
            option = " WITH GRANT OPTION" if grant.is_grantable else ""
            connection.exec_driver_sql(f"GRANT {grant.privilege_type} ON {target} TO {grant.grantee}{option}")
    connection.exec_driver_sql(f"COMMENT ON VIEW {target} IS {literal(comment)}".replace("%", "%%"))


def drop_view(connection: Connection, name: str) -> None:
    """Drop serving.<name> if it is there; Refused when somebody built a view upon it."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {relation('serving', name)}")
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != DEPENDENTS:
            raise
        detail = (getattr(getattr(error.orig, "diag", None), "message_detail", None) or "").replace("\n", "; ")
        raise Refused(
            f"serving.{name} gets other columns and must be dropped for it, but {detail}: drop what depends on it,"
            " run the command again, and make it anew"
        ) from error
