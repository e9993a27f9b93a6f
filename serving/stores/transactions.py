"""What the stores of nights, operators and refolds share: the definitions they were made for, and how long they try.

    one try waits at most `lock_timeout_s` for a lock; all tries together take about `patience_s`
"""

from collections.abc import Sequence

from sqlalchemy.engine import Engine

from pipeline.base.crash import CrashPoints, NoCrash
from pipeline.definition.view import View


class PatientStore:
    """Subclasses call `patiently` with `_patience_s`, and set `_lock_timeout_ms` in their transactions."""

    def __init__(
        self,
        engine: Engine,
        views: Sequence[View],
        *,
        lock_timeout_s: float = 2.0,
        patience_s: float = 60.0,
        crash: CrashPoints | None = None,
    ) -> None:
        self._engine = engine
        self._crash = crash or NoCrash()
        self._views = {view.name: view for view in views}
        self._lock_timeout_ms = round(lock_timeout_s * 1000)
        self._patience_s = patience_s


__all__ = ["PatientStore"]
