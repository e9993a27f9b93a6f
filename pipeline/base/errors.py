"""Every error a user can mend is a WatershedError: one message that says what, where, what would be allowed, and what to do next.

    str(error)       text[: run `repair`][ (at place)]        for logs; the repair is in it once, in the text's own words or after it
    error.fields()   the same for a program, as a dict
    error.report()   text[ (at place)], and on a line of its own `next: repair`        for a console; every command prints this

Invariant: the command line prints `report()` and Luigi `str(error)`, and nothing else, for these; any other exception is a bug of ours.
"""

NEXT = "\n  next: "


class WatershedError(Exception):
    """Something the user can mend; its text is complete, one line where it can be.

    `repair` is the next command, bare, for a console or an API to show apart. The usual mistakes: to leave it to the text alone, and to
    raise `Other(str(error))`, which loses it.
    """

    place: str | None = None

    def __init__(self, text: str = "", *, repair: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.repair = repair

    def __str__(self) -> str:
        said = self.repair is None or f"`{self.repair}`" in self.text
        return self._at_place(self.text if said else f"{self.text}: run `{self.repair}`")

    def report(self) -> str:
        """Lines for a console: the text, then `next: ` and the command that mends it, where there is one."""
        return self._at_place(self.text) + (f"{NEXT}{self.repair}" if self.repair else "")

    def fields(self) -> dict[str, str]:
        """The error for a program: `error`, its text, and `repair`, where there is one."""
        return {"error": self._at_place(self.text)} | ({"repair": self.repair} if self.repair else {})

    def _at_place(self, text: str) -> str:
        return f"{text} (at {self.place})" if self.place else text


class DefinitionError(WatershedError):
    """A Source, View, Derived, constraint or aggregate that cannot mean anything; raised when it is constructed.

    `place` is file:line of the user's code that declares it, where that is known.
    """


class SettingsError(WatershedError):
    """A setting that is missing or cannot be used."""


class Refused(WatershedError):
    """Going on would break the promise of exactness (definition changed, log truncated, ...); `repair` is the command that mends it."""


class LogError(WatershedError):
    """The log cannot be read as asked."""


class StoreError(WatershedError):
    """Postgres cannot be used as asked."""


class LakeError(WatershedError):
    """The lake cannot be read or written as asked, or a manifest does not say what it must."""


class OriginError(WatershedError):
    """Data cannot be had where a definition says that it is, or is not what was promised: the last good version stays."""


class OriginAway(OriginError):
    """The same, but worth another try: a timeout, a refused connection, a server that answers 500 or 429.

    `retry_after_s`: how long the other side asks to be left alone (Retry-After); 0 where it did not say. `tried`: how often it was tried
    by whoever gave it up; 0 where nobody tried again yet.
    """

    retry_after_s: float = 0.0
    tried: int = 0


def did_you_mean(name: str, allowed: list[str]) -> str:
    """' Did you mean \"x\"?' for the closest of `allowed`, or nothing; the allowed names always follow in the caller's text."""
    from difflib import get_close_matches

    close = get_close_matches(name, allowed, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
