"""Why a streaming query failed, in one line where an operator can do something about it."""

import re

_CAUSE = re.compile(
    r"^(?:Caused by: |: )?((?:[\w$]+\.)*\w*(?:Error|Exception|Refused)\w*: .+)$", re.M
)
_PLAN = "=== Streaming Query ==="

_DAMAGED = re.compile(
    r"Checksum error: |Incomplete log file|Failed to read log file|CANNOT_LOAD_STATE_STORE"
    r"|MismatchedInputException|the state names a piece"
)
"""What Spark says of a checkpoint's files that are cut, empty or gone."""

_OPERATING_SYSTEM = re.compile(
    r"No space left on device|Permission denied|Read-only file system|Disk quota exceeded"
    r"|Input/output error|Connection refused|Could not connect"
)

_WORKER_GONE = re.compile(
    r"Python worker exited unexpectedly|reading the port number from pyspark\.daemon"
)


def told(text: str, checkpoint: str) -> str:
    """The failure of a query: one line with the cause and what to do, where it is the disk, a
    right, a server, a worker or the checkpoint; else ``text`` as it is, without the query's plan.

    Args:
        text: of Spark's exception.
        checkpoint: the query's.
    """
    text = text.split(_PLAN)[0].rstrip()
    if _WORKER_GONE.search(text):
        return (
            "a Python worker died: the system had no memory left, somebody ended it, or the model "
            "did; start again, nothing is lost"
        )
    if _OPERATING_SYSTEM.search(text):
        return (
            f"{cause(text, _OPERATING_SYSTEM)}: when that is mended, start again; nothing is lost"
        )
    if _DAMAGED.search(text):
        return (
            f"the checkpoint {checkpoint} cannot be read ({cause(text, _DAMAGED)}): where that "
            "stays so, move the checkpoint away and start again; a new one goes on behind what the "
            "tables hold"
        )
    return text


def cause(text: str, sign: re.Pattern[str]) -> str:
    """The last exception in ``text`` that shows ``sign``; else the line that does."""
    named = [found[1] for found in _CAUSE.finditer(text) if sign.search(found[1])]
    lines = named or [line.strip() for line in text.splitlines() if sign.search(line)]
    return lines[-1].rstrip(".")
