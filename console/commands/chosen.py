"""The views and topics that a command is given by name, or a line that says which there are."""

from collections.abc import Iterable, Sequence

from pipeline.base.errors import DefinitionError, Refused, did_you_mean
from pipeline.definition.view import View


def refuse_unknown(names: Iterable[str], views: Sequence[View]) -> None:
    """DefinitionError for a name that no view has."""
    known = [view.name for view in views]
    for name in names:
        if name not in known:
            raise DefinitionError(
                f"there is no view {name!r}; there are {', '.join(known)}.{did_you_mean(name, known)}"
            )


def one_topic(topic: str | None, known: Sequence[str], command: str) -> str:
    """The topic that is named, or the only one; Refused otherwise. `command` is how to say which."""
    if topic is None and len(known) == 1:
        return known[0]
    if topic is None:
        raise Refused(f"there are several topics: say which, `{command} TOPIC`, one of {', '.join(known)}")
    if topic not in known:
        raise Refused(f"there is no topic {topic!r}; there are {', '.join(known)}.{did_you_mean(topic, list(known))}")
    return topic
