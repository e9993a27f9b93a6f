"""The batch layer: `luigi --module tasks Nightly --date 2013-01-02`.

    batch(view) = f(log[0, cut))

A failing run exits non-zero and a task without a complete target is not done, with or without a luigi.cfg: both are set here,
where luigi_cfg says nothing, before luigi reads them.
"""

import logging

import luigi

from pipeline.errors import WatershedError

DEFAULTS = {
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


def _set_defaults() -> None:
    config = luigi.configuration.get_config()
    for section, options in DEFAULTS.items():
        for option, value in options.items():
            if not config.has_option(section, option):
                config.set(section, option, value)


class _OneLine(logging.Filter):
    """What a user can mend is logged as its message; a traceback is for bugs of ours."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, WatershedError):
            record.exc_info = None
            record.msg, record.args = f"{record.getMessage().splitlines()[0]}: {error}", ()
        return True


_set_defaults()
logging.getLogger("luigi-interface").addFilter(_OneLine())

from tasks.nightly import Archive, ChooseCut, Clean, FoldView, Nightly, Publish, Stage  # noqa: E402  (after the defaults)

__all__ = ["Archive", "ChooseCut", "Clean", "FoldView", "Nightly", "Publish", "Stage"]
