"""The folder that verdicts are dropped into."""

import csv
import hashlib
import logging
import os
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from jobs.label_ledger import LabelLedger, new_verdicts
from jobs.tables import arrow_schema
from jobs.verdict_masks import masked_file, masked_text, masked_verdict
from jobs.verdicts import SUFFIXES, VerdictFileError, read_verdicts

log = logging.getLogger("jobs.label")

TAKEN, REFUSED = "taken", "refused"
_LONGEST_NAME = 255  # bytes, on all usual file systems
_LEFT_ALONE = (
    f"is left alone: verdicts are expected in {', '.join(SUFFIXES)}, under names without _ in front"
)


class VerdictInbox:
    """Takes files in the order of their names into the ledger, each once, also across a crash.

    A file that cannot be used is refused, one that cannot be read or moved is tried again at the
    next look; neither keeps others from being taken. Hidden files (``.name``) are drafts.

    With ``masks`` no card number of theirs is kept: neither in the ledger, nor in the file that was
    taken or refused, nor in what is told of it.
    """

    def __init__(
        self,
        folder: Path,
        ledger: LabelLedger,
        clock: Callable[[], datetime],
        masks: bool = False,
    ) -> None:
        self._folder, self._ledger, self._clock, self._masks = folder, ledger, clock, masks
        self._told: dict[Path, set[str]] = {}

    def take_all(self) -> None:
        """Take the files that are there; what becomes of each is told once."""
        for path in self._files():
            try:
                self._see_to(path)
            except OSError as error:
                self._tell(path, f"cannot be read or moved, tried again: {_cause(error)}")

    def _files(self) -> list[Path]:
        try:
            there = sorted(p for p in self._folder.iterdir() if p.name[0] != "." and p.is_file())
        except OSError as error:
            self._tell(self._folder, f"cannot be read, tried again: {_cause(error)}")
            return []
        self._told = {path: self._told[path] for path in there if path in self._told}
        return there

    def _see_to(self, path: Path) -> None:
        if path.suffix.lower() not in SUFFIXES or path.name[0] == "_":
            self._tell(path, _LEFT_ALONE)
            return
        try:
            done = self._take(path)
        except VerdictFileError as error:
            why = masked_text(str(error)) if self._masks else str(error)
            self._tell(path, f"is refused: {why}")
            moved = self._move(path, REFUSED)
            reason = _free_path(moved.parent, moved.stem, ".reason.txt")
            reason.write_text(f"{why}\n", encoding="utf-8", errors="backslashreplace")
        else:
            self._tell(path, done, logging.INFO)
            self._move(path, TAKEN)

    def _take(self, path: Path) -> str:
        changed = path.stat().st_mtime_ns
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        name = _shown(path.name)
        # A copy that is dropped later is another file: a verdict may be taken back and repeated.
        identity = f"verdicts/{name}/{changed}/{digest}"
        if self._ledger.has_taken(identity):
            return "was taken before"
        now = self._clock()
        read = read_verdicts(path, now)
        if self._masks:
            read = [masked_verdict(verdict) for verdict in read]
        arrival, recorded_at = self._ledger.next_take(now)
        standing = self._ledger.standing()
        # One of a clock that was ahead is not known to training, and is recorded if it comes again.
        new = new_verdicts(read, standing[standing["recorded_at"] < recorded_at])
        rows = [
            verdict | {
                "recorded_at": recorded_at, "arrival": arrival, "file": name,
                "verified_at": verdict["verified_at"] or recorded_at,
            }
            for verdict in new
        ]  # fmt: skip
        if rows:
            self._ledger.append(pa.Table.from_pylist(rows, arrow_schema("labels")), identity)
        return f"is taken; new verdicts: {len(new)}; what stands already: {len(read) - len(new)}"

    def _move(self, path: Path, where: str) -> Path:
        folder = self._folder / where
        folder.mkdir(exist_ok=True)
        target = _free_path(folder, path.stem, path.suffix)
        masked = self._masked(path)
        if masked is None:
            path.rename(target)
        else:
            # Wherever this is cut off, the file lies in the inbox still, or stands here whole.
            draft = folder / f".{uuid.uuid4().hex}"
            draft.write_bytes(masked)
            draft.rename(target)
            path.unlink()
        self._told.pop(path, None)
        return target

    def _masked(self, path: Path) -> bytes | None:
        """The file without card numbers; None where it may stay as it is."""
        if not self._masks:
            return None
        raw = path.read_bytes()
        masked = masked_file(raw, path.suffix.lower())
        return None if masked == raw else masked

    def _tell(self, path: Path, what: str, level: int = logging.WARNING) -> None:
        """One line, unless the same was told before of a file that has been there since."""
        told = self._told.setdefault(path, set())
        if what not in told:
            told.add(what)
            log.log(level, "%s %s", _shown(path.name), what)


def _shown(name: str) -> str:
    """A file's name as text: bytes of it that are no UTF-8 as ``\\xe4``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _cause(error: OSError) -> str:
    return f"{error.strerror}: {_shown(error.filename)}" if error.filename else str(error)


def _free_path(folder: Path, stem: str, suffix: str) -> Path:
    """A path that nothing has: ``stem`` is cut where the name would be too long, and gets a random
    end where the name is in use.
    """
    path = folder / f"{_cut(stem, suffix)}{suffix}"
    if path.exists():
        suffix = f"-{uuid.uuid4().hex[:8]}{suffix}"
        path = folder / f"{_cut(stem, suffix)}{suffix}"
    return path


def _cut(stem: str, suffix: str) -> str:
    name, room = os.fsencode(stem), _LONGEST_NAME - len(os.fsencode(suffix))
    return stem if len(name) <= room else name[:room].decode("utf-8", "ignore")


def drop_verdict(folder: Path, verdict: Mapping[str, str | None]) -> None:
    """Drop one verdict, which ``jobs.verdicts.verdict_of`` has found to be one, as a file of its
    own; it appears whole.
    """
    name = f"verdict-{uuid.uuid4().hex}.csv"
    draft = folder / f".{name}"
    with draft.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(verdict))
        writer.writeheader()
        writer.writerow(verdict)
    draft.rename(folder / name)
