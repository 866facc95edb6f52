"""The upkeep of a Delta table: small files put together, dead ones removed, the log shortened."""

import json
import logging
import re
from contextlib import suppress
from datetime import datetime

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from conf.sections import MaintainSettings
from jobs.checkpoints import DeltaPosition
from jobs.commits import committed, first_line, is_conflict
from jobs.storage import files_in, read_bytes, read_lines

log = logging.getLogger("jobs.maintain")

_MB = 1_000_000
_ATTEMPTS = 3
_COMMIT_NAME_LENGTH = 20
_COMMIT_NAME = re.compile(rf"\d{{{_COMMIT_NAME_LENGTH}}}\.json")
_LAST_CHECKPOINT = "_last_checkpoint"


def table_properties(settings: MaintainSettings) -> dict[str, str]:
    """What a table is told of retention: other tools than ours keep to it too."""
    return {
        "delta.deletedFileRetentionDuration": _interval(settings.vacuum_hours),
        "delta.logRetentionDuration": _interval(settings.log_hours),
        "delta.enableExpiredLogCleanup": "false",
    }


def _interval(hours: float) -> str:
    return f"interval {round(hours * 3600)} seconds"


class TableUpkeep:
    """Keeps one table in shape while others read and write it.

    Args:
        path: the table; it exists.
        name: for the log.
        reader: where a stream that reads the table stands, if there is one.
    """

    def __init__(
        self, path: str, name: str, settings: MaintainSettings, reader: DeltaPosition | None
    ) -> None:
        self._path, self._name, self._settings, self._reader = path, name, settings, reader
        self._log = f"{path}/_delta_log"

    def run(self, now: datetime) -> None:
        """Do all that there is to do, as of ``now`` (UTC); what is in conflict with other writers
        at each attempt is left to the next run, which the log says.
        """
        for step in (self._set_properties, self._compact):
            try:
                committed(step, _ATTEMPTS)
            except DeltaError as error:
                if not is_conflict(error):
                    raise
                log.info(
                    "%s: others changed it, left to the next run: %s", self._name, first_line(error)
                )
        moment = now.timestamp()
        if self._are_files_read(moment - self._settings.vacuum_hours * 3600):
            self._vacuum()
            self._shorten_log(moment - self._settings.log_hours * 3600)

    def _set_properties(self) -> None:
        table = DeltaTable(self._path)
        wanted = table_properties(self._settings)
        if wanted.items() <= table.metadata().configuration.items():
            return
        table.alter.set_table_properties(wanted)
        log.info("%s: the retention of the settings is set", self._name)

    def _compact(self) -> None:
        table = DeltaTable(self._path)
        size = round(self._settings.target_file_mb * _MB)
        done = table.optimize.compact(target_size=size)
        if done["numFilesRemoved"]:
            log.info(
                "%s: %d files put together into %d",
                self._name, done["numFilesRemoved"], done["numFilesAdded"],
            )  # fmt: skip

    def _vacuum(self) -> None:
        # Full: also files that a task wrote and nobody committed.
        removed = DeltaTable(self._path).vacuum(dry_run=False, full=True)
        if removed:
            log.info("%s: %d files removed that no commit names", self._name, len(removed))

    def _shorten_log(self, cutoff: float) -> None:
        """Remove commits that lie behind a checkpoint; then make one for the next run: whoever
        opens the table right now may still read what lies before it.
        """
        table = DeltaTable(self._path)
        before = self._commits()
        if self._is_log_read(cutoff):
            table.cleanup_metadata()
        left = self._commits()
        if len(left) < len(before):
            log.info(
                "%s: %d commits removed from the log, %d are left",
                self._name, len(before) - len(left), len(left),
            )  # fmt: skip
        if any(moment < cutoff for moment in left.values()):
            table.create_checkpoint()

    def _commits(self) -> dict[int, float]:
        """The commits that the log has, and when each was made (epoch seconds)."""
        return {
            int(name[:_COMMIT_NAME_LENGTH]): moment
            for name, moment in files_in(self._log).items()
            if _COMMIT_NAME.fullmatch(name)
        }

    def _are_files_read(self, cutoff: float) -> bool:
        """Whether the stream needs no file that may have been replaced before ``cutoff``."""
        if self._reader is None:
            return True
        commits = self._commits()
        unread = sorted(version for version in commits if version >= self._reader.version)
        first = next((version for version in unread if self._brings_rows(version)), None)
        is_read = first is None or commits[first] >= cutoff
        if is_read and not self._reader.is_snapshot:
            return True
        log.warning(
            "%s: nothing is removed: the alert job has not read all that was committed from "
            "version %d on; start it, or remove its checkpoint if it is not used any more",
            self._name, self._reader.version,
        )  # fmt: skip
        return False

    def _is_log_read(self, cutoff: float) -> bool:
        """Whether the stream's next start asks for no commit that lies behind the last checkpoint
        and is older than ``cutoff``, whether the commit brought rows or not.
        """
        if self._reader is None:
            return True
        if self._reader.asks_from is None:
            return False
        checkpoint = 0
        with suppress(FileNotFoundError):
            checkpoint = int(json.loads(read_bytes(self._log, _LAST_CHECKPOINT))["version"])
        is_young = self._commits().get(self._reader.asks_from, cutoff) >= cutoff
        return checkpoint <= self._reader.asks_from or is_young

    def _brings_rows(self, version: int) -> bool:
        lines = read_lines(self._log, f"{version:0{_COMMIT_NAME_LENGTH}d}.json")
        actions = [json.loads(line) for line in lines]
        return any(action.get("add", {}).get("dataChange") for action in actions)
