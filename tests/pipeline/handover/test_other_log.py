"""A log that is not the one on record is refused in one place and one wording, each refusal with the command that repairs it."""

from __future__ import annotations

import pytest

from pipeline.base.errors import LogError, Refused
from pipeline.handover.generation import Generation, refuse_other_log
from pipeline.log.log import Compacted, Repartitioned, TopicDescription, TopicRecreated

GENERATION = Generation("payments", 3, "id-1", (0, 0), "source", {})


def found(partitions: int = 2, topic_id: str = "id-1", **configs: str) -> TopicDescription:
    return TopicDescription(
        "payments", partitions, topic_id, {name.replace("_", "."): value for name, value in configs.items()}
    )


@pytest.mark.parametrize("same", [found(), found(cleanup_policy="delete"), found(retention_ms="1")])
def test_the_log_on_record_is_let_pass(same: TopicDescription) -> None:
    refuse_other_log(GENERATION, same)


@pytest.mark.parametrize(
    ("other", "kind", "what", "command"),
    [
        (
            found(topic_id="id-2"),
            TopicRecreated,
            r"deleted and made anew \(id 'id-2', was 'id-1'\)",
            "init --rebuild --accept-loss",
        ),
        (
            found(topic_id=""),
            TopicRecreated,
            r"deleted and made anew \(id '', was 'id-1'\)",
            "init --rebuild --accept-loss",
        ),
        (found(5, "id-2"), TopicRecreated, "deleted and made anew", "init --rebuild --accept-loss"),
        (found(3), Repartitioned, "has 3 partitions, and 2 when it was set up", "init --rebuild"),
        (found(1), Repartitioned, "has 1 partitions, and 2 when it was set up", "init --rebuild"),
        (found(cleanup_policy="compact"), Compacted, "is compacted", "cleanup.policy=delete"),
        (found(cleanup_policy="compact,delete"), Compacted, "is compacted", "cleanup.policy=delete"),
    ],
)
def test_another_log_is_refused_with_what_repairs_it(
    other: TopicDescription, kind: type[Exception], what: str, command: str
) -> None:
    with pytest.raises(kind, match=f"topic payments (was )?{what}") as refused:
        refuse_other_log(GENERATION, other)
    assert command in str(refused.value) and "\n" not in str(refused.value)
    assert isinstance(refused.value, Refused) and isinstance(refused.value, LogError)
