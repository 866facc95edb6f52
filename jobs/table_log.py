"""Commits of the score job to a Delta table, by delta-rs: each of them is made once.

Spark's own Delta writer takes 0.3 s for a commit, most of it to look at the table anew; this takes
a few milliseconds, whatever the table holds, and two writers on a local disk cannot replace each
other's commit. Any Delta reader or writer can share the table.
"""

import logging
import time
from collections.abc import Sequence

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from jobs.commits import first_line
from jobs.data_files import DataFile

log = logging.getLogger(__name__)

_ATTEMPTS = 5


class TableLog:
    """The log of the Delta table at ``path``, which exists."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._table = DeltaTable(path)

    def holds(self, application: str, version: int) -> bool:
        """Whether a commit of (``application``, ``version``), or of a later version, is there."""
        self._table.update_incremental()
        last = self._table.transaction_version(application)
        return last is not None and last >= version

    def append(self, files: Sequence[DataFile], application: str, version: int) -> bool:
        """Make ``files`` part of the table, once; returns whether this call did.

        Args:
            application: identity of the writing query; a new checkpoint has a new one.
            version: its micro-batch.

        Raises:
            deltalake.exceptions.CommitFailedError: others changed the table at every attempt.
        """
        for attempt in range(_ATTEMPTS):
            if self.holds(application, version):
                return False
            try:
                self._commit(files, application, version)
                return True
            except CommitFailedError as error:
                # Nothing was read for it, so it fits behind whatever came in between.
                if attempt == _ATTEMPTS - 1:
                    raise
                log.info("another writer changed %s, once more: %s", self.path, first_line(error))
        raise AssertionError("unreachable")

    def _commit(self, files: Sequence[DataFile], application: str, version: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        self._table.create_write_transaction(
            [
                AddAction(file.name, file.size, {}, file.modified_ms, True, file.statistics)
                for file in files
            ],
            "append",
            self._table.schema(),
            commit_properties=CommitProperties(
                # Spark's conflict check lets a MERGE pass beside appends that say so.
                custom_metadata={"isBlindAppend": True},
                app_transactions=[Transaction(application, version, now_ms)],
            ),
        )
