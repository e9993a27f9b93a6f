"""Definitions that take turns: a source's views as they are, and changed in ways that any views can be.

variants(views)[0] = views        the others have other fingerprints, and mostly other answers
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from pipeline import Count
from pipeline.definition.view import View

Definition = tuple[View, ...]


def variants(views: Sequence[View]) -> list[Definition]:
    """The views; with another aggregate in the first; and, where the source tells duplicates, with a quarter of the horizon."""
    first, *rest = views
    names = {*first.aggregates, *first.key, "window_start"}
    name = next(n for n in ("events", *(f"events_{k}" for k in range(2, len(names) + 3))) if n not in names)
    found = [tuple(views), (replace(first, aggregates={**first.aggregates, name: Count()}), *rest)]
    source = first.source
    shorter = timedelta(milliseconds=max(1, source.horizon_ms // 4))
    if source.identity is not None and shorter < source.identity_horizon:
        other = replace(source, identity_horizon=shorter)
        found.append(tuple(replace(view, source=other) for view in views))
    return found
