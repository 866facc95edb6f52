"""Commits to a Delta table that others change at the same time."""

from collections.abc import Callable
from typing import TypeVar

from deltalake.exceptions import CommitFailedError
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

ATTEMPTS = 10
_PAUSE_SECONDS = 0.5

T = TypeVar("T")


def committed(commit: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """What ``commit`` returns; it is called again where another commit was in conflict with its
    own, so it looks at the table anew each time.

    Raises:
        deltalake.exceptions.CommitFailedError: so it was at every attempt.
    """
    again = Retrying(
        retry=retry_if_exception_type(CommitFailedError),
        stop=stop_after_attempt(attempts),
        wait=wait_random(0, _PAUSE_SECONDS),
        reraise=True,
    )
    return again(commit)
