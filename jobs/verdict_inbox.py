"""The folder that verdicts are dropped into."""

import csv
import hashlib
import logging
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa

from jobs.label_ledger import LabelLedger, new_verdicts
from jobs.tables import arrow_schema
from jobs.verdicts import SUFFIXES, VerdictFileError, read_verdicts

log = logging.getLogger("jobs.label")

TAKEN, REFUSED = "taken", "refused"
_TICK = timedelta(microseconds=1)


class VerdictInbox:
    """Takes files in the order of their names into the ledger, each once, also across a crash."""

    def __init__(self, folder: Path, ledger: LabelLedger, clock: Callable[[], datetime]) -> None:
        self._folder, self._ledger, self._clock = folder, ledger, clock

    def take_all(self) -> None:
        """Take the files that are there, and tell of each in one line."""
        for path in sorted(self._folder.iterdir()):
            if path.is_file() and path.suffix.lower() in SUFFIXES and path.name[0] not in "._":
                try:
                    told = self._take(path)
                except VerdictFileError as error:
                    self._move(path, REFUSED).with_suffix(".reason.txt").write_text(f"{error}\n")
                    log.warning("%s is refused: %s", path.name, error)
                except OSError as error:
                    log.warning("%s cannot be read or moved, tried again: %s", path.name, error)
                else:
                    self._move(path, TAKEN)
                    log.info("%s: %s", path.name, told)

    def _take(self, path: Path) -> str:
        changed = path.stat().st_mtime_ns
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        # A copy that is dropped later is another file: a verdict may be taken back and repeated.
        identity = f"verdicts/{path.name}/{changed}/{digest}"
        if self._ledger.has_taken(identity):
            return "taken before"
        now = self._clock()
        read = read_verdicts(path, now)
        new = new_verdicts(read, self._ledger.standing())
        latest = self._ledger.last_recorded()
        recorded_at = now if latest is None else max(now, latest + _TICK)
        rows = [
            verdict | {
                "recorded_at": recorded_at, "file": path.name,
                "verified_at": verdict["verified_at"] or recorded_at,
            }
            for verdict in new
        ]  # fmt: skip
        if rows:
            self._ledger.append(pa.Table.from_pylist(rows, arrow_schema("labels")), identity)
        return f"new verdicts: {len(new)}; what stands already: {len(read) - len(new)}"

    def _move(self, path: Path, where: str) -> Path:
        folder = self._folder / where
        folder.mkdir(exist_ok=True)
        target = folder / path.name
        if target.exists():
            target = folder / f"{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}"
        return path.rename(target)


def drop_verdict(folder: Path, verdict: Mapping[str, str | None]) -> None:
    """Drop one verdict as a file of its own; it appears whole."""
    name = f"verdict-{uuid.uuid4().hex}.csv"
    draft = folder / f".{name}"
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(verdict))
        writer.writeheader()
        writer.writerow(verdict)
    draft.rename(folder / name)
