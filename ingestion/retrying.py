"""Another try for what is worth one, and for that alone.

    a call is made again  <=>  it raised OriginAway, and fewer than `attempts` were made        what it had done by then has no effect
    what one Retrier gave up, none around it tries again: a request is made `attempts` times in all, not attempts²

The n-th wait is drawn from [0, min(longest_s, first_s·2ⁿ)), so that many who fail together do not come back together; where the other side
said how long (Retry-After), it is at least that, and one longer than `patience_s` is not waited for at all.
"""

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from pipeline.base.errors import OriginAway

T = TypeVar("T")
ATTEMPTS = 6


class Retrier:
    """Calls that are made again when they raise OriginAway; `report` is told of each, and `retries` counts them.

    `count` is told of each retry too, by nothing but the call. Give it calls that only read, and that begin anew: a generator that has
    given rows is not one.
    """

    def __init__(
        self,
        report: Callable[[str], None] = lambda text: None,
        *,
        attempts: int = ATTEMPTS,
        first_s: float = 0.5,
        longest_s: float = 60.0,
        patience_s: float = 600.0,
        sleep: Callable[[float], None] = time.sleep,
        count: Callable[[], None] = lambda: None,
    ) -> None:
        self.retries = 0
        self._count = count
        self._report, self._attempts, self._patience_s, self._sleep = report, attempts, patience_s, sleep
        self._jittered = wait_random_exponential(multiplier=first_s, max=longest_s)

    def __call__(self, call: Callable[[], T]) -> T:
        """The call's answer; the last OriginAway, which says how often it was tried, or any other error at once."""
        tries = Retrying(
            retry=retry_if_exception(self._worth_it),
            wait=self._wait_s,
            stop=stop_after_attempt(self._attempts),
            before_sleep=self._before_sleep,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            return tries(call)
        except OriginAway as error:
            made = int(tries.statistics["attempt_number"])
            if made > 1:
                error.tried = made
                error.text = f"{error.text} (tried {made} times)"
            raise

    def _worth_it(self, error: BaseException) -> bool:
        return isinstance(error, OriginAway) and not error.tried and error.retry_after_s <= self._patience_s

    def _wait_s(self, state: RetryCallState) -> float:
        return max(self._jittered(state), _asked_s(state))

    def _before_sleep(self, state: RetryCallState) -> None:
        self.retries += 1
        self._count()
        error = state.outcome.exception() if state.outcome else None
        self._report(f"{error}; attempt {state.attempt_number + 1} of {self._attempts} in {state.upcoming_sleep:.1f} s")


def _asked_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.retry_after_s if isinstance(error, OriginAway) else 0.0
