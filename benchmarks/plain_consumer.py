"""The plain consumer: what one would write without Spark, one process a core.

It is given every advantage: a process finds the lines of its own cards in files of its own (as a
Kafka topic's partitions by card would give it), the lines are read by Arrow without any check of
what stands in them, the state is the same sorted arrays as ours but never leaves the memory, and
the processes do not wait for one another. A payment that came before is known by a set.
What it does not have: its state is lost with the process, and a crash repeats or loses rows.
"""

import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake
from pyspark.sql.pandas.types import to_arrow_schema

from benchmarks.places import FILE_ROWS, Place
from benchmarks.plan import CORES
from benchmarks.score_job import Turn
from ingest.schema import PAYMENT_FIELDS
from jobs.bucket import EMPTY, Bucket, Chunk
from jobs.bucket_keys import card_keys
from jobs.envelopes import MOMENT
from jobs.feature_arrays import arrays_of_table, text_hash
from jobs.feature_pass import compute_features
from jobs.first_arrival import Identifiers
from jobs.history import Records, forget
from jobs.parse import PAYMENT_COLUMNS
from jobs.schemas import TRANSACTIONS
from jobs.scoring import LATER_COLUMNS, ModelVersion, load_archive, scored
from jobs.task_output import ROWS_AT_ONCE

_ENVELOPE = pa.schema(
    {
        "source": pa.string(),
        "position": pa.int64(),
        "received_at": pa.timestamp("ms", "UTC"),
        "payload": pa.string(),
    }
)
_AS_NUMBERS = {"cc_num": pa.int64(), "zip": pa.int64()}
_PAYLOAD = pa.schema(
    [
        pa.field(field.name, _AS_NUMBERS.get(field.name, PAYMENT_COLUMNS.field(field.name).type))
        if field.type != "date"
        else pa.field(field.name, pa.string())
        for field in PAYMENT_FIELDS
    ]
)
_STORED = to_arrow_schema(TRANSACTIONS, timezone="UTC")
_BASE_SHARE = 8  # recent payments are merged into the base when they are this part of it


class Memory:
    """The payments of a process's cards, and which it has seen."""

    def __init__(self, chunks: list[Chunk]) -> None:
        records = Records.join(chunk.records for chunk in chunks).in_order()
        self._bucket = Bucket(["base"], Chunk(records, Identifiers.empty()))
        self._seen = set(
            np.concatenate([EMPTY.identifiers.high, *(c.identifiers.high for c in chunks)]).tolist()
        )

    def first_arrivals(self, payments: pa.Table) -> pa.Table:
        """The payments that were not seen before; they are from now on."""
        names = text_hash(payments["trans_num"].to_numpy().astype(object)).tolist()
        new = set(names)
        if len(new) == len(names) and self._seen.isdisjoint(new):
            self._seen |= new
            return payments
        kept = []
        for name in names:
            kept.append(name not in self._seen)
            self._seen.add(name)
        return payments.filter(pa.array(kept))

    def features(self, payments: pa.Table) -> dict[str, Any]:
        """The features of payments, which are remembered."""
        arrays = arrays_of_table(payments)
        history = self._bucket.history(np.unique(arrays["card"]).astype(np.int64))
        features, records = compute_features(arrays, history)
        self._bucket.add("recent", Chunk(records, Identifiers.empty()))
        if len(self._bucket.recent) * _BASE_SHARE > len(self._bucket.base):
            merged = self._bucket.base.records.merged(self._bucket.recent.records.in_order())
            kept = forget(merged, int(records.day.max(initial=0)))
            self._bucket = Bucket(["base"], Chunk(kept, Identifiers.empty()))
        return features


class PlainConsumer:
    """One process of it: the cards whose bucket's number, divided by ``CORES``, leaves ``process``.

    Args:
        place: its files.
        process: its number.
        model: the version that scores.
        rows: of a batch over all processes.
    """

    def __init__(self, place: Place, process: int, model: ModelVersion, rows: int) -> None:
        pa.set_cpu_count(1)
        pa.set_io_thread_count(1)
        self._folder = place.shares(process)
        self._files_a_batch = max(1, rows // FILE_ROWS)
        keys = card_keys(place.buckets)[process::CORES]
        paths = [place.past / f"{key:+06d}.parquet" for key in keys.tolist()]
        tables = [pq.read_table(path) for path in paths if path.exists()]
        blocks = [block.as_py() for table in tables for block in table["block"]]
        self._memory = Memory([Chunk.from_bytes(block) for block in blocks])
        self._model = model
        self._loaded = load_archive(model.archive, model.inputs)
        self._table = open_table(place)

    def turn(self, names: list[str]) -> Turn:
        """Work through landed files."""
        step = self._files_a_batch
        return [self._batch(names[start : start + step]) for start in range(0, len(names), step)]

    def _batch(self, names: list[str]) -> dict[str, Any]:
        marks = [time.perf_counter()]
        payments = read_payments(b"".join((self._folder / name).read_bytes() for name in names))
        payments = self._memory.first_arrivals(payments)
        marks.append(time.perf_counter())
        features = self._memory.features(payments)
        marks.append(time.perf_counter())
        columns = {name: payments[name] for name in payments.column_names} | features
        whole = pa.table(columns)
        parts = [
            scored(whole.slice(start, ROWS_AT_ONCE), self._model, self._loaded)
            for start in range(0, len(whole), ROWS_AT_ONCE)
        ]
        marks.append(time.perf_counter())
        write_deltalake(self._table, _as_stored(pa.concat_tables(parts)), mode="append")
        marks.append(time.perf_counter())
        spent = dict(
            zip(("parse", "features", "model", "Delta"), np.diff(marks).tolist(), strict=True)
        )
        return {"rows": len(payments), "seconds": marks[-1] - marks[0], "parts": spent}


def read_payments(lines: bytes) -> pa.Table:
    """Landed lines as columns, in the quickest way there is: nothing is checked."""
    envelopes = _read(pa.py_buffer(lines), _ENVELOPE)
    texts = envelopes["payload"].combine_chunks()
    whole = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    payload = _read(pc.binary_join(whole, "\n")[0].as_buffer(), _PAYLOAD)
    columns = {name: payload[name] for name in payload.column_names}
    for name in _AS_NUMBERS:
        columns[name] = columns[name].cast(pa.string())
    columns["dob"] = columns["dob"].cast(pa.date32())
    times = columns["current_time"].cast(pa.timestamp("ms", "UTC"))
    return pa.table(
        {
            "source": envelopes["source"],
            "position": envelopes["position"],
            "received_at": envelopes["received_at"].cast(MOMENT),
            **columns,
            "event_time": times.cast(MOMENT),
        }
    )


def _read(lines: pa.Buffer, schema: pa.Schema) -> pa.Table:
    return pyarrow.json.read_json(
        pa.BufferReader(lines),
        read_options=pa.json.ReadOptions(use_threads=False, block_size=len(lines) + 1),
        parse_options=pa.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore"
        ),
    ).combine_chunks()


def open_table(place: Place) -> DeltaTable:
    """The table that all processes append to, made with the columns and settings of ours."""
    return DeltaTable.create(
        str(place.of("plain") / "transactions"),
        schema=_STORED,
        mode="ignore",
        configuration={
            "delta.checkpointInterval": "100",
            "delta.dataSkippingStatsColumns": "event_time,ingested_at",
        },
    )


def _as_stored(rows: pa.Table) -> pa.Table:
    for name in LATER_COLUMNS:
        rows = rows.append_column(name, pa.nulls(len(rows), _STORED.field(name).type))
    return rows.select(_STORED.names).cast(_STORED)
