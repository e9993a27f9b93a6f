"""The batch layer: `luigi --module tasks Nightly --date 2013-01-02`.

    batch(view) = f(log[0, cut))

A failing run exits non-zero and a task without a complete target is not done, with or without a luigi.cfg: both are set here,
where luigi_cfg says nothing, before luigi reads them.
"""

import logging

import luigi

from one_heap import one_heap

one_heap()

from pipeline.base.errors import WatershedError  # noqa: E402 -- it imports pyarrow

DEFAULTS = {
    "core": {"log_level": "INFO"},  # luigi's own is DEBUG, in which a night's lines drown
    "retcode": {
        "already_running": "10",
        "missing_data": "20",
        "not_run": "25",
        "task_failed": "30",
        "scheduling_error": "35",
        "unhandled_exception": "40",
    },
    "worker": {"check_complete_on_run": "true"},
}
TRACEBACK = "Traceback (most recent call last):"


def _set_defaults() -> None:
    config = luigi.configuration.get_config()
    for section, options in DEFAULTS.items():
        for option, value in options.items():
            if not config.has_option(section, option):
                config.set(section, option, value)


class _OneLine(logging.Filter):
    """Filter that logs an error that a user can mend as its message; a traceback is for bugs of ours.

    Luigi logs an exception of run() with exc_info, and one of complete() as formatted text.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage()
        if isinstance(error, WatershedError):
            said: str | None = str(error)
        else:
            said = _mendable(text) if TRACEBACK in text else None
        if said is not None:
            record.exc_info = record.exc_text = None
            record.msg, record.args = f"{text.splitlines()[0].rstrip(':')}: {said}", ()
        return True


def _mendable(text: str) -> str | None:
    """The message of the WatershedError that a formatted traceback ends with, if it does."""
    kinds = [WatershedError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    lines = text.rstrip().splitlines()
    last = max(n for n, line in enumerate(lines) if line.startswith(TRACEBACK))
    for n, line in enumerate(lines[last:], last):
        name, _, message = line.partition(": ")
        if any(name == f"{kind.__module__}.{kind.__qualname__}" for kind in kinds):
            return "\n".join([message, *lines[n + 1 :]])
    return None


_set_defaults()
logging.getLogger("luigi-interface").addFilter(_OneLine())

from tasks.loads import Load  # noqa: E402  (after the defaults)
from tasks.nightly import Archive, ChooseCut, Clean, FoldView, Nightly, Publish, Stage  # noqa: E402  (after the defaults)

__all__ = ["Archive", "ChooseCut", "Clean", "FoldView", "Load", "Nightly", "Publish", "Stage"]
