"""Commits to a Delta table that others change at the same time."""

from collections.abc import Callable
from typing import TypeVar

from deltalake.exceptions import CommitFailedError, DeltaError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

ATTEMPTS = 10
_PAUSE_SECONDS = 0.5

TABLE_ERRORS = (DeltaError, OSError)
"""What a table may raise and be well again a moment later."""

T = TypeVar("T")


def committed(commit: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """What ``commit`` returns; it is called again where another commit was in conflict with its
    own, so it looks at the table anew each time.

    Raises:
        deltalake.exceptions.CommitFailedError: so it was at every attempt.
    """
    again = Retrying(
        retry=retry_if_exception(is_conflict),
        stop=stop_after_attempt(attempts),
        wait=wait_random(0, _PAUSE_SECONDS),
        reraise=True,
    )
    return again(commit)


def is_conflict(error: BaseException) -> bool:
    """Whether another commit came in between; OPTIMIZE tells of it by a general ``DeltaError``."""
    if isinstance(error, CommitFailedError):
        return True
    return isinstance(error, DeltaError) and str(error).startswith("Failed to commit transaction")


def first_line(error: BaseException) -> str:
    """What an error says, for the log: Delta and S3 explain themselves in many lines."""
    return (str(error).splitlines() or [type(error).__name__])[0]
