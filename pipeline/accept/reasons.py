"""Reasons of rejections without the values in them: what is counted together, and may be shown where values may not.

    shape(reason of a record) = shape(reason of another)        for records that one rule rejects alike

A shape is for counting and showing. The reason itself, as the record's, stays whole.
"""

import re

QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
NUMBER_FIRST = re.compile(r"^((?:[a-z][a-z0-9_]*: )?)-?[0-9][0-9.eE+-]*(?:\.\.\.)?(?= (?:is|has|where)\b)")
PLACE = re.compile(r"\b(at (?:character|byte)|of) [0-9]+(?= |$|\b)")
RULE = re.compile(r": breaks ")


def shape(reason: str) -> str:
    """The reason with an ellipsis for each value of the record; a constraint, which is the rule's own, stays as it is."""
    if RULE.search(reason):
        return reason
    return PLACE.sub(r"\1 …", NUMBER_FIRST.sub(r"\1…", QUOTED.sub("…", reason)))


__all__ = ["shape"]
