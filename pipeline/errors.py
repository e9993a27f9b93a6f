"""Every error a user can mend is a WatershedError: one message that says what, where, what would be allowed, and what to do next.

Invariant: the command line and Luigi print `str(error)` and nothing else for these; any other exception is a bug of ours.
"""


class WatershedError(Exception):
    """Something the user can mend; its text is complete, one line where it can be."""


class DefinitionError(WatershedError):
    """A Source, View, Derived, constraint or aggregate that cannot mean anything; raised when it is constructed."""


class SettingsError(WatershedError):
    """A setting that is missing or cannot be used."""


class Refused(WatershedError):
    """Going on would break the promise of exactness (definition changed, log truncated, ...); names the command that repairs it."""


class LogError(WatershedError):
    """The log cannot be read as asked."""


class StoreError(WatershedError):
    """Postgres cannot be used as asked."""


class LakeError(WatershedError):
    """The lake cannot be read or written as asked, or a manifest does not say what it must."""


def did_you_mean(name: str, allowed: list[str]) -> str:
    """' Did you mean \"x\"?' for the closest of `allowed`, or nothing; the allowed names always follow in the caller's text."""
    from difflib import get_close_matches

    close = get_close_matches(name, allowed, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
