"""The table `labels`: every verdict that ever came, and which of them stand at a time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from conf.sections import WarehouseSettings
from jobs.data_files import fitted
from jobs.envelopes import MOMENT
from jobs.tables import arrow_schema, ensure_table

_TICK = timedelta(microseconds=1)

SAID = ("label", "source", "analyst", "note")
"""What makes a verdict another one than that before it; and `verified_at`, where it is told."""


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
        """Append ``verdicts``, columns of `labels`, as those of ``file``: both at once, or none."""
        write_deltalake(
            self._table,
            fitted(verdicts, arrow_schema("labels")),
            mode="append",
            commit_properties=CommitProperties(app_transactions=[Transaction(file, 0)]),
        )

    def next_recorded(self, now: datetime) -> datetime:
        """The `recorded_at` of verdicts taken at ``now``: later than all that are there."""
        latest: datetime | None = pc.max(self._rows()["recorded_at"]).as_py()
        return now if latest is None else max(now, latest + _TICK)

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
    """The verdict that stands on each `trans_num`: the last one recorded until ``as_of`` (UTC, that
    moment included; None: until now).

    Args:
        ledger: columns of `labels`, in any order.

    Returns:
        The columns of `labels`, one row a `trans_num`, which is the index and a column, in the
        order in which they were recorded.
    """
    if as_of is not None:
        ledger = ledger.filter(pc.less_equal(ledger["recorded_at"], pa.scalar(as_of, MOMENT)))
    verdicts = ledger.to_pandas().sort_values(["recorded_at", "line"], kind="stable")
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
