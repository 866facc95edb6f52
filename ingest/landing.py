"""Where received rows land: whole, atomically, in order."""

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

_NAME = re.compile(r"payments-(\d{20})\.jsonl")
_MILLISECOND_NS = 1_000_000


class Landing(Protocol):
    """A place that takes the rows of one answer."""

    def land(self, lines: Sequence[str], first_position: int) -> str:
        """Land ``lines`` (envelopes, at least one) whole or not at all; returns where they are.

        Raises:
            FileExistsError: other rows have their place.
            OSError: nothing was landed, as far as can be told.
        """
        ...


class FileLanding:
    """A folder of JSON-lines files, one file an answer, read in the order of their times.

    A file is written under a name that begins with a dot, which Spark's file source passes over,
    and renamed when it is on the disk. Its modification time is later than that of every file
    before it by at least a millisecond, which is how fine Spark looks, also where the clock was
    set back: Spark reads files in that order.

    Only one process may land in a folder (see ``ingest.call_ledger.exclusive``).
    """

    def __init__(self, folder: Path, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Make ``folder`` where it is missing; remove what a killed process left half written.

        Args:
            clock_ns: the time in nanoseconds since the epoch.

        Raises:
            OSError: the folder cannot be made or read.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._clock_ns = clock_ns
        for left_over in folder.glob(".payments-*.tmp"):
            left_over.unlink()
        landed = (path for path in folder.iterdir() if not path.name.startswith("."))
        self._newest_ns = max((path.stat().st_mtime_ns for path in landed), default=0)

    def next_position(self) -> int:
        """The position behind the last row in the folder; 0 where there is none."""
        names = [match for path in self._folder.iterdir() if (match := _NAME.fullmatch(path.name))]
        if not names:
            return 0
        last = max(names, key=lambda match: int(match[1]))
        with (self._folder / last[0]).open("rb") as file:
            return int(last[1]) + sum(1 for _ in file)

    def path(self, first_position: int) -> Path:
        """The file of the rows from ``first_position`` on."""
        return self._folder / f"payments-{first_position:020d}.jsonl"

    def land(self, lines: Sequence[str], first_position: int) -> str:
        """Land ``lines`` as ``payments-<first position, 20 digits>.jsonl``; returns that name.

        Raises:
            OSError: nothing was landed: the disk is full, say, or the file is there already.
        """
        target = self.path(first_position)
        if target.exists():
            raise FileExistsError(None, "the file is there already", str(target))
        temporary = self._folder / f".{target.name}.tmp"
        modified_ns = max(self._clock_ns(), self._newest_ns + _MILLISECOND_NS)
        try:
            with temporary.open("w", encoding="utf-8", newline="\n") as file:
                file.writelines(f"{line}\n" for line in lines)
                file.flush()
                os.utime(temporary, ns=(modified_ns, modified_ns))
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._newest_ns = modified_ns
        self._sync_folder()
        return target.name

    def _sync_folder(self) -> None:
        """Without this the rename itself could be lost with the power; not all file systems can."""
        with suppress(OSError):
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
