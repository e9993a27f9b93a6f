"""Formats: the way in which a record's value holds its event. A format is part of what a source is.

decode(source, records) = decode(source, one record after the other), whatever the format
"""

from dataclasses import dataclass

from pipeline.base.declared import Declared


class Format(metaclass=Declared):
    """A way in which a record's value holds its event. Its repr stands in the fingerprint, but for Json(), the default."""


@dataclass(frozen=True)
class Json(Format):
    """One JSON object, read strictly: RFC 8259, UTF-8, at most 64 levels."""
