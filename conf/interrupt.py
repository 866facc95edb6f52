"""Ctrl-C before a program has set up how it ends: quietly, without a traceback."""

import sys
from types import TracebackType

INTERRUPTED = 130
"""Exit status: 128 and the number of SIGINT, as shells have it."""


def end_quietly_on_ctrl_c() -> None:
    """From now on a ``KeyboardInterrupt`` that nobody catches, also while modules are imported or
    an error while cleaning up after it, ends the process with ``INTERRUPTED`` and prints nothing.
    A second call changes nothing.
    """
    if sys.excepthook is not _end:
        global _before
        _before, sys.excepthook = sys.excepthook, _end


_before = sys.excepthook


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            raise SystemExit(INTERRUPTED)
        cause = cause.__cause__ or cause.__context__
    _before(kind, error, trace)
