"""Verdicts into `transactions`: which payments they are about, and the MERGE that fills `label`."""

from collections.abc import Iterable
from datetime import datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from conf.sections import WarehouseSettings
from jobs.commits import committed
from jobs.data_files import fitted, read_file
from jobs.tables import arrow_schema, ensure_table

_SOURCE_COLUMNS = {"label": "label", "source": "label_source", "recorded_at": "labelled_at"}
"""What a MERGE fills in: columns of `labels` and of `transactions`."""


class LabelMerge:
    """Keeps the labels in `transactions` in step with the verdicts that stand.

    What was filled in before is read from the table, once a process. A verdict whose payment is
    not there waits; it is looked for in files that the table has got since.
    """

    def __init__(self, warehouse: WarehouseSettings) -> None:
        self._path = ensure_table(warehouse, "transactions")
        self._searched: set[str] = set()
        self._waiting: set[str] = set()
        self._filled: dict[str, datetime] = {}

    @property
    def waiting(self) -> int:
        """The number of verdicts whose payment is not in the table."""
        return len(self._waiting)

    def apply(self, standing: pd.DataFrame) -> int:
        """Fill in what ``standing`` (``jobs.label_ledger.standing_verdicts``) says.

        Returns:
            The number of payments that have another label now, or the same from another verdict.

        Raises:
            deltalake.exceptions.CommitFailedError: others changed the same files at every attempt.
        """
        recorded = _by_number(standing)
        open_ = {name for name, moment in recorded.items() if self._filled.get(name) != moment}
        if not open_:
            return 0
        return committed(lambda: self._apply(standing, open_))

    def _apply(self, standing: pd.DataFrame, open_: set[str]) -> int:
        table = DeltaTable(self._path)
        files = set(pa.table(table.get_add_actions())["path"].to_pylist())
        found = pd.concat(
            [
                self._payments(open_ & self._waiting, files - self._searched),
                self._payments(open_ - self._waiting, files),
            ]
        )
        verdicts = standing.loc[found["trans_num"]]
        is_other = found["labelled_at"].to_numpy() != verdicts["recorded_at"].to_numpy()
        if is_other.any():
            merge_labels(table, verdicts[is_other].drop_duplicates("trans_num"), found[is_other])
        self._filled |= _by_number(verdicts)
        self._waiting = open_ - set(verdicts.index)
        self._searched = files
        return int(is_other.sum())

    def _payments(self, numbers: set[str], files: Iterable[str]) -> pd.DataFrame:
        """The payments of some `trans_num` in some files; when they were received and labelled."""
        columns = ["trans_num", "ingested_at", "labelled_at"]
        schema = arrow_schema("transactions")
        empty = pa.schema([schema.field(name) for name in columns]).empty_table()
        wanted = pa.array(sorted(numbers), pa.string())
        found = [empty]
        for name in files if numbers else ():
            rows = fitted(read_file(self._path, name, columns), empty.schema)
            found.append(rows.filter(pc.is_in(rows["trans_num"], wanted)))
        payments: pd.DataFrame = pa.concat_tables(found).to_pandas()
        return payments


def _by_number(verdicts: pd.DataFrame) -> dict[str, datetime]:
    return dict(zip(verdicts["trans_num"], verdicts["recorded_at"], strict=True))


def merge_labels(table: DeltaTable, verdicts: pd.DataFrame, payments: pd.DataFrame) -> None:
    """One commit that fills in ``verdicts`` (`label`, `source`, `recorded_at` by `trans_num`).

    Args:
        payments: the payments they are about, with `ingested_at`. Only files with such times are
            opened, and payments that are received later can be appended at the same time: without
            the bounds every append since the table was read would be in conflict.

    Raises:
        deltalake.exceptions.CommitFailedError: another commit touched such files since.
    """
    fields = [arrow_schema("labels").field(name) for name in ("trans_num", *_SOURCE_COLUMNS)]
    source = pa.Table.from_pandas(verdicts, pa.schema(fields), preserve_index=False)
    first, last = (_literal(moment) for moment in payments["ingested_at"].agg(["min", "max"]))
    table.merge(
        source,
        "payment.trans_num = verdict.trans_num"
        f" AND payment.ingested_at >= {first} AND payment.ingested_at <= {last}",
        source_alias="verdict",
        target_alias="payment",
    ).when_matched_update(
        {column: f"verdict.{name}" for name, column in _SOURCE_COLUMNS.items()}
    ).execute()


def _literal(moment: pd.Timestamp) -> str:
    text = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return f"arrow_cast('{text}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
