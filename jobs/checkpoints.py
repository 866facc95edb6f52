"""What a streaming query's checkpoint says of how far it has read."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from jobs.storage import files_in, read_lines


@dataclass(frozen=True)
class DeltaPosition:
    """How far a stream has read a Delta table.

    Attributes:
        version: the first commit that it has not read to its end.
        asks_from: the first commit that its next start asks the log for: Spark lists the last
            micro-batch once more, though it is done. None: all of them, as that micro-batch began
            with the table as it stood.
        is_snapshot: whether it is still reading the table as it stood at ``version``.
    """

    version: int
    asks_from: int | None
    is_snapshot: bool


def delta_position(checkpoint: str) -> DeltaPosition | None:
    """Where the query of ``checkpoint`` stands in its Delta table; None where it never began.

    A micro-batch that was planned and not committed is read again, so it does not count.
    """
    committed = last_batch(checkpoint, "commits")
    batch = last_batch(checkpoint, "offsets") if committed is None else committed
    if batch is None:
        return None
    offset = offset_of(checkpoint, batch)
    before = offset_of(checkpoint, batch - 1) if batch else None
    is_known = before is not None and not before["isStartingVersion"]
    return DeltaPosition(
        version=int(offset["reservoirVersion"]),
        asks_from=int(before["reservoirVersion"]) if before and is_known else None,
        is_snapshot=committed is None or bool(offset["isStartingVersion"]),
    )


def files_in_flight(checkpoint: str) -> set[str] | None:
    """The names of the files of a micro-batch of a file source that is planned and not committed:
    the next start reads them again. None: no batch is committed, so that may be any file.
    """
    if last_batch(checkpoint, "offsets") is None:
        return set()
    committed = last_batch(checkpoint, "commits")
    if committed is None:
        return None
    last = int(offset_of(checkpoint, committed)["logOffset"])
    folder = f"{checkpoint}/sources/0"
    return {
        unquote(entry["path"]).rpartition("/")[2]
        for name in files_in(folder)
        if name.removesuffix(".compact").isdigit() and int(name.removesuffix(".compact")) > last
        for entry in entries_of(folder, name)
        if entry["batchId"] > last
    }


def last_batch(checkpoint: str, kind: str) -> int | None:
    """The number of the last micro-batch in ``kind`` (`offsets`: planned, `commits`: done)."""
    return newest_batch(files_in(f"{checkpoint}/{kind}"))


def newest_batch(names: Iterable[str]) -> int | None:
    """The last micro-batch of those that files are named for; None where there is none."""
    return max((int(name) for name in names if name.isdigit()), default=None)


def batch_in_progress(checkpoint: str) -> int | None:
    """The number of the micro-batch that is planned and not done; None where there is none."""
    done, planned = last_batch(checkpoint, "commits"), last_batch(checkpoint, "offsets")
    return planned if planned is not None and (done is None or planned > done) else None


def offset_of(checkpoint: str, batch: int) -> dict[str, Any]:
    """Where the first source stood behind micro-batch ``batch``."""
    # A line with the format, one about the batch, and one a source.
    lines = read_lines(f"{checkpoint}/offsets", str(batch))
    offset: dict[str, Any] = json.loads(lines[2])
    return offset


def entries_of(folder: str, name: str) -> Iterator[dict[str, Any]]:
    """The files that a file of a file source's log names: `path`, `timestamp`, `batchId`."""
    for line in read_lines(folder, name)[1:]:  # behind the format
        yield json.loads(line)
