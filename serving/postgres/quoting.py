"""Names and texts as SQL has them, for what cannot be a bind parameter: identifiers, and the text of views.

quote(name) is one identifier, literal(value) one text, whatever is in them
"""


def quote(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text literal."""
    return "'" + value.replace("'", "''") + "'"


def relation(schema: str, name: str) -> str:
    """A quoted schema-qualified name."""
    return f"{quote(schema)}.{quote(name)}"
