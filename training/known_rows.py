"""What files and Delta tables hold of payments until a time, in one form and in order of arrival.

The tables are read without Spark, as they stand now: a time in the rows themselves says what was
known when, so that a table may be compacted, merged into and vacuumed in between.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from conf.sections import WarehouseSettings
from ingest.pan_cipher import PanCipher
from ingest.payment_files import read_payments
from ingest.schema import PAYMENT_FIELDS
from jobs.data_files import fitted
from jobs.envelopes import MOMENT
from jobs.model import TRUTH
from jobs.tables import arrow_schema

PLACE = "place"
"""Where a payment was read: `file`, `transactions` or `duplicates`."""

_FIELDS = {field.name: field for field in PAYMENT_FIELDS}
_MOMENTS: Final = "datetime64[us, UTC]"
KNOWN_COLUMNS = (*_FIELDS, "event_time", "ingested_at", PLACE)
_READ = [*(name for name in _FIELDS if name != TRUTH), "event_time", "ingested_at"]
_ORDERED = ("source", "position")


def payments_of_files(paths: Sequence[str | Path], cipher: PanCipher | None = None) -> pd.DataFrame:
    """``KNOWN_COLUMNS`` of the payments in CSV files, by event time and `trans_num`; they were
    there before all others, so that `ingested_at` is NaT. ``cipher``: as for ``read_payments``.

    Raises:
        ingest.payment_files.PaymentFileError: a file cannot be used.
    """
    if not paths:
        return _whole(pd.DataFrame({"event_time": pd.Series([], dtype=_MOMENTS)}), "file")
    payments = read_payments(*paths, cipher=cipher)
    payments = payments.sort_values(["event_time", "trans_num"], ignore_index=True)
    return _whole(payments, "file")


def payments_of_tables(warehouse: WarehouseSettings, as_of: datetime) -> pd.DataFrame:
    """``KNOWN_COLUMNS`` of the payments in `transactions` and `duplicates` that were received and
    scored until ``as_of`` (UTC), by time of receipt, source and position. What the score job came
    to only later was not in the tables then.

    The simulated truth of the API is not even read: `is_fraud` is NaN.
    """
    tables = []
    for name in ("transactions", "duplicates"):
        rows = rows_until(warehouse, name, [*_READ, *_ORDERED, "scored_at"], "ingested_at", as_of)
        # Rows of `duplicates` from before it had the column do not tell it.
        is_scored = pc.less_equal(rows["scored_at"], pa.scalar(as_of, MOMENT))
        rows = rows.filter(pc.fill_null(is_scored, True))
        tables.append(rows.append_column(PLACE, pa.array([name] * len(rows), pa.string())))
    order = [(name, "ascending") for name in ("ingested_at", *_ORDERED)]
    rows = pa.concat_tables(tables).sort_by(order).drop_columns([*_ORDERED, "scored_at"])
    rows = rows.set_column(rows.column_names.index("dob"), "dob", rows["dob"].cast(pa.string()))
    frame: pd.DataFrame = rows.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return _whole(frame)


def rows_until(
    warehouse: WarehouseSettings, name: str, columns: Sequence[str], moment: str, as_of: datetime
) -> pa.Table:
    """Some ``columns`` of those rows of the table ``name`` whose ``moment`` is not later than
    ``as_of`` (UTC); no rows where there is no such table.
    """
    schema = pa.schema([arrow_schema(name).field(column) for column in columns])
    path = warehouse.table(name)
    if not DeltaTable.is_deltatable(path):
        return schema.empty_table()
    rows = DeltaTable(path).to_pyarrow_dataset()
    there = [column for column in columns if column in rows.schema.names]
    until = pc.field(moment) <= pa.scalar(as_of, MOMENT)
    return fitted(rows.to_table(there, filter=until), schema)


def _whole(payments: pd.DataFrame, place: str | None = None) -> pd.DataFrame:
    """Every column of ``KNOWN_COLUMNS``, with the types of ``read_payments``; the truth as float64,
    NaN where it is not told.
    """
    columns: dict[str, pd.Series] = {}
    for name, field in _FIELDS.items():
        column = payments.get(name, pd.Series(None, index=payments.index, dtype=object))
        if field.type == "number" or name == TRUTH:
            columns[name] = column.astype("float64")
        elif field.type == "integer":
            numbers = column.astype("Int64")
            is_whole = field.required and not numbers.isna().any()
            columns[name] = numbers.astype("int64") if is_whole else numbers
        else:
            texts = column.astype(object)
            columns[name] = texts.where(texts.notna(), None)
    columns["event_time"] = payments["event_time"].astype(_MOMENTS)
    received = payments.get("ingested_at", pd.Series(pd.NaT, index=payments.index))
    columns["ingested_at"] = pd.to_datetime(received, utc=True).astype(_MOMENTS)
    columns[PLACE] = payments[PLACE] if place is None else pd.Series(place, index=payments.index)
    return pd.DataFrame(columns)[list(KNOWN_COLUMNS)]
