"""The table `labels`: every verdict that ever came, and which of them stand at a time."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from conf.sections import WarehouseSettings
from jobs.commits import committed
from jobs.data_files import fitted
from jobs.envelopes import MOMENT
from jobs.tables import arrow_schema, ensure_table

log = logging.getLogger("jobs.label")

_TICK = timedelta(microseconds=1)
CLOCK_SLACK = timedelta(hours=1)
"""So far recorded times run ahead of a clock that was put back, so that they keep growing; a ledger
that is further ahead was written by a clock that was wrong."""

SAID = ("label", "source", "analyst", "note")
"""What makes a verdict another one than that before it; and `verified_at`, where it is told."""


_ORDER = ["arrival", "recorded_at", "line"]


class LabelLedger:
    """Reads and appends to the table `labels`. One process writes it at a time."""

    def __init__(self, warehouse: WarehouseSettings) -> None:
        self._table = DeltaTable(ensure_table(warehouse, "labels"))
        self._read: tuple[int, pa.Table] | None = None

    def has_taken(self, file: str) -> bool:
        """Whether the verdicts of ``file`` (an identity, no name) stand in the ledger."""
        self._table.update_incremental()
        return self._table.transaction_version(file) is not None

    def append(self, verdicts: pa.Table, file: str) -> None:
        """Append ``verdicts``, columns of `labels`, as those of ``file``: both at once, or none.

        Raises:
            deltalake.exceptions.CommitFailedError: others changed the table at every attempt.
        """
        committed(lambda: self._append(fitted(verdicts, arrow_schema("labels")), file))

    def _append(self, rows: pa.Table, file: str) -> None:
        before, version = self._rows(), self._table.version()
        write_deltalake(
            self._table,
            rows,
            mode="append",
            commit_properties=CommitProperties(app_transactions=[Transaction(file, 0)]),
        )
        self._table.update_incremental()
        if self._table.version() == version + 1:
            # Nobody else wrote: a thousand small files are not read again for each one that comes.
            new = rows.select(before.column_names).cast(before.schema)
            self._read = (version + 1, pa.concat_tables([before, new]))

    def next_take(self, now: datetime) -> tuple[int, datetime]:
        """`arrival` and `recorded_at` of verdicts taken at ``now`` (UTC): the time is later than
        that of the take before, but where that is more than ``CLOCK_SLACK`` yet to come; then it
        is ``now``, and a warning says so.
        """
        rows = self._rows()
        if not len(rows):
            return 0, now
        order = [("arrival", "descending"), ("recorded_at", "descending")]  # NULL stands last
        last = rows.select([name for name, _ in order]).sort_by(order).slice(0, 1).to_pylist()[0]
        arrival = 0 if last["arrival"] is None else last["arrival"] + 1
        if last["recorded_at"] - now <= CLOCK_SLACK:
            return arrival, max(now, last["recorded_at"] + _TICK)
        log.warning(
            "verdicts were recorded as of %s, which is yet to come: the clock was wrong, and "
            "training does not know them until then; drop their files again",
            last["recorded_at"].isoformat(timespec="seconds"),
        )
        return arrival, now

    def standing(self, as_of: datetime | None = None) -> pd.DataFrame:
        """``standing_verdicts`` of what the table holds now."""
        return standing_verdicts(self._rows(), as_of)

    def _rows(self) -> pa.Table:
        """All rows, read anew only where the table has changed: a job asks every few seconds."""
        self._table.update_incremental()
        version = self._table.version()
        if self._read is None or self._read[0] != version:
            self._read = (version, self._table.to_pyarrow_table())
        return self._read[1]


def standing_verdicts(ledger: pa.Table, as_of: datetime | None = None) -> pd.DataFrame:
    """The verdict that stands on each `trans_num`: of those recorded until ``as_of`` (UTC, that
    moment included; None: of all) the one that arrived last.

    Args:
        ledger: columns of `labels`, in any order.

    Returns:
        The columns of `labels`, one row a `trans_num`, which is the index and a column, in the
        order in which they arrived.
    """
    if as_of is not None:
        ledger = ledger.filter(pc.less_equal(ledger["recorded_at"], pa.scalar(as_of, MOMENT)))
    verdicts = ledger.to_pandas().sort_values(_ORDER, kind="stable", na_position="first")
    last = verdicts.drop_duplicates("trans_num", keep="last")
    standing: pd.DataFrame = last.set_index("trans_num", drop=False)
    return standing


def new_verdicts(
    verdicts: Sequence[dict[str, Any]], standing: pd.DataFrame
) -> list[dict[str, Any]]:
    """Those of ``verdicts`` that say something else than the verdict that stands when their turn
    comes, in their order.

    Args:
        verdicts: rows of `labels`; `verified_at` is None where it was not told.
        standing: as ``standing_verdicts`` returns it.
    """
    stands: dict[str, dict[str, Any]] = {
        row["trans_num"]: {
            str(name): None if pd.isna(value) else value for name, value in row.items()
        }
        for row in standing.loc[
            standing.index.isin([verdict["trans_num"] for verdict in verdicts])
        ].to_dict("records")
    }
    new = []
    for verdict in verdicts:
        known = stands.get(verdict["trans_num"])
        if known is None or _differ(verdict, known):
            stands[verdict["trans_num"]] = verdict
            new.append(verdict)
    return new


def _differ(verdict: dict[str, Any], known: dict[str, Any]) -> bool:
    if any(verdict[name] != known[name] for name in SAID):
        return True
    return verdict["verified_at"] not in (None, known["verified_at"])
