"""Nested events: pushes as a repository's host sends them to a webhook, about 600 bytes of JSON; made up.

    keys, minutes, amounts, copies, broken ones of chunks(form=WEBHOOK) = those of benchmarks.events.FLAT, so expected(n) is the same

One in two has two commits, the others one; the message of a commit has escapes; the time is in epoch seconds; names are in camelCase.
"""

import numpy as np

from benchmarks.events import Bytes, Form, Ints, Mask, write_digits

SHA = b"0" * 40
COMMIT = (
    b'{"id":"%s","message":"fix \\"cut\\" of the night\\nsee #0000","isDistinct":true,"author":{"name":"Zo\\u00eb"},"added":["a.py"]}'
    % SHA
)
TEMPLATE = b"".join((
    b'{"delivery":{"id":"00000000-0000-0000-0000-000000000000","attempt":1},"action":"push","ref":"refs/heads/main",',
    b'"repository":{"id":100000,"name":"s0000","isPrivate":false,"owner":{"login":"acme","id":77,"siteAdmin":false},',
    b'"topics":["data","etl"],"pushedAt":0000000000},',
    b'"commits":[', COMMIT, b",", COMMIT, b"],",
    b'"usage":{"compute":{"amount":-0000.00,"currency":"EUR"}},"sender":{"login":"ann","id":1000},"forced":null}',
))  # fmt: skip
PUSHED_AT = TEMPLATE.index(b'"pushedAt":') + len(b'"pushedAt":')
FIRST = TEMPLATE.index(COMMIT)
SECOND = TEMPLATE.index(COMMIT, FIRST + 1)
SHA_AT, ISSUE_AT = COMMIT.index(SHA), COMMIT.index(b"#") + 1
SENDER = TEMPLATE.index(b'"id":1000}') + len(b'"id":')
REPOSITORY = TEMPLATE.index(b'"id":100000') + len(b'"id":1')


def _write(rows: Bytes, kept: Mask, time_ms: Ints, rng: np.random.Generator) -> None:
    """The time, and what the view does not read: commits, issues, who pushed."""
    count = len(rows)
    write_digits(rows, PUSHED_AT, time_ms // 1000, 10)
    for commit in (FIRST, SECOND):
        digits = np.frombuffer(rng.bytes(20 * count).hex().encode(), np.uint8).reshape(count, 40)
        rows[:, commit + SHA_AT : commit + SHA_AT + 40] = digits
        write_digits(rows, commit + ISSUE_AT, rng.integers(0, 10_000, count), 4)
    write_digits(rows, SENDER, rng.integers(1000, 10_000, count), 4)
    write_digits(rows, REPOSITORY, rng.integers(0, 100_000, count), 5)
    kept[rng.random(count) < 0.5, SECOND - 1 : SECOND + len(COMMIT)] = False  # with the comma before it


def _no_time(rows: Bytes, kept: Mask, which: Ints) -> None:
    rows[which, PUSHED_AT : PUSHED_AT + 10] = np.frombuffer(b'"no time."', np.uint8)


WEBHOOK = Form(
    TEMPLATE,
    id=TEMPLATE.index(b'"delivery":{"id":"') + len(b'"delivery":{"id":"'),
    key=TEMPLATE.index(b'"s0000"') + 1,
    value=TEMPLATE.index(b"-0000.00"),
    cut=FIRST + 60,
    write=_write,
    spoil_time=_no_time,
)
