"""Rows of `transactions` and the data files that tasks write, for tests of what is committed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from ingest.schema import check_payment
from jobs.arrivals import DUPLICATES, as_objects, identity_hashes
from jobs.data_files import DataFile, DataFileWriter
from jobs.features import FEATURE_NAMES
from jobs.parse import PARSED
from jobs.schemas import STATISTICS
from jobs.tables import arrow_schema
from tests.conftest import payment

NOON = datetime(2024, 11, 5, 12, 0, 0, 250_001, tzinfo=UTC)


def scored_rows(*positions: int, **changes: Any) -> pa.Table:
    """Rows of `transactions` that are hits; the position makes `trans_num` and time of receipt."""
    features = {name: place / 8 for place, name in enumerate(FEATURE_NAMES)}
    rows = [
        check_payment(payment(position)) | {
            "source": "api", "position": position, "ingested_at": NOON + timedelta(hours=position),
            "scored_at": NOON, "features": features, "fraud_score": 0.75, "prediction": True, "threshold": 0.5,
            "model_name": "forest", "model_version": "3", "reasons": ["far from home", "at night"],
        } | changes
        for position in positions
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=arrow_schema("transactions"))


def duplicates_at(*positions: int) -> pa.Table:
    """``jobs.arrivals.DUPLICATES``: the payments of these numbers, at these positions."""
    payments = pa.Table.from_pylist([check_payment(payment(n)) for n in positions], PARSED)
    hashes = identity_hashes(as_objects(payments["trans_num"]), as_objects(payments["cc_num"]))
    columns = {"source": ["api"] * len(positions), "position": positions, **hashes}
    return pa.table({name: columns[name] for name in DUPLICATES.names}, DUPLICATES)


def write_file(folder: str | Path, rows: pa.Table, table: str = "transactions") -> DataFile:
    """A data file with ``rows`` in the folder of ``table``, not committed."""
    with DataFileWriter(str(folder), arrow_schema(table), STATISTICS[table]) as writer:
        writer.write(rows)
        file = writer.finished()
    assert file is not None
    return file
