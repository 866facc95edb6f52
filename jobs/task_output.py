"""What a task of a micro-batch does with operator output: it scores the payments, writes the rows
of the tables into data files of its own, and reports to the driver, which commits them.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql.types import BinaryType, LongType, StringType, StructField, StructType

from jobs.arrivals import as_objects, identity_hashes
from jobs.blocks import from_block, join_blocks, to_block
from jobs.data_files import DataFile, DataFileWriter
from jobs.hits_topic import HIT_COLUMNS
from jobs.schemas import STATISTICS
from jobs.tables import arrow_schema

ROWS_AT_ONCE = 10_000

Address = tuple[str, int]
"""Source and position."""

Duplicate = tuple[str, int, int, int]
"""A row of ``jobs.arrivals.DUPLICATES``."""

HIT_COLUMNS_AT = (*HIT_COLUMNS, "source", "position")
"""What is told of a hit, and its address."""

Judge = Callable[[pa.Table], pa.Table]
"""``jobs.scoring.SCORED`` from ``jobs.arrivals.PAYMENTS``."""

TASK_REPORT = StructType(
    [
        StructField("received", LongType()),
        StructField("valid", LongType()),
        StructField("invalid", LongType()),
        StructField("files", StringType()),
        StructField("duplicates", BinaryType()),
        StructField("hits", BinaryType()),
        StructField("troubles", StringType()),
    ]
)
"""A task's rows received, its valid and invalid first arrivals on their cards; the data files as
JSON by table; ``jobs.arrivals.DUPLICATES`` and the hits with their addresses as blocks or NULL;
what `champion` or `challenger` said that failed, as JSON."""

_REPORT = pa.schema(
    [
        *((name, pa.int64()) for name in ("received", "valid", "invalid")),
        ("files", pa.string()),
        *((name, pa.binary()) for name in ("duplicates", "hits")),
        ("troubles", pa.string()),
    ]
)


@dataclass(frozen=True)
class Folders:
    """Where the tasks write: the folders of `transactions` and `rejected`."""

    transactions: str
    rejected: str

    def writer(self, table: str) -> DataFileWriter:
        """A writer of a file of ``table``."""
        return writer_of(table, getattr(self, table))


def writer_of(table: str, folder: str) -> DataFileWriter:
    """A writer of a file of ``table``, which lies in ``folder``."""
    return DataFileWriter(folder, arrow_schema(table), STATISTICS[table])


@dataclass(frozen=True)
class BatchReport:
    """The reports of all tasks of a micro-batch: counts, data files by table, ``duplicates``, and
    hits (``HIT_COLUMNS_AT``) where they were asked for; ``troubles``: what `champion` or
    `challenger` said that failed.
    """

    received: int
    valid: int
    invalid: int
    files: Mapping[str, list[DataFile]]
    duplicates: frozenset[Duplicate]
    hits: pa.Table | None
    troubles: Mapping[str, str] = field(default_factory=dict)


def score_and_write(
    batches: Iterator[pa.RecordBatch],
    folders: Folders,
    judge: Judge,
    tells_hits: bool,
    troubles: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[pa.RecordBatch]:
    """Work through a task's part of a micro-batch.

    Args:
        batches: ``jobs.card_memory.OPERATOR_OUTPUT``.
        folders: of the tables.
        judge: scores payments.
        tells_hits: whether the report has the hits.
        troubles: what ``judge`` leaves there is reported.

    Returns:
        One row, ``TASK_REPORT``.
    """
    counts = dict.fromkeys(("received", "valid", "invalid"), 0)
    duplicates: list[pa.Table] = []
    hits: list[pa.Table] = []
    with folders.writer("transactions") as transactions, folders.writer("rejected") as rejected:

        def opened() -> Iterator[pa.Table]:
            for batch in batches:
                for name in counts:
                    counts[name] += pc.sum(batch[name]).as_py() or 0
                duplicates.extend(_blocks(batch["duplicates"]))
                for rows in _blocks(batch["rejected"]):
                    rejected.write(rows)
                yield from _blocks(batch["payments"])

        for payments in gathered(opened()):
            rows = judge(payments)
            transactions.write(rows)
            if tells_hits:
                hits.append(hits_of(rows))
        files = {"transactions": transactions.finished(), "rejected": rejected.finished()}
    yield report_of(counts, files, duplicates, hits, troubles)


def report_of(
    counts: Mapping[str, int],
    files: Mapping[str, DataFile | None],
    duplicates: list[pa.Table],
    hits: list[pa.Table],
    troubles: Mapping[str, str] = MappingProxyType({}),
) -> pa.RecordBatch:
    """A task's report as a row of ``TASK_REPORT``."""
    told = {name: asdict(file) for name, file in files.items() if file is not None}
    row = {
        **counts,
        "files": json.dumps(told),
        "duplicates": to_block(pa.concat_tables(duplicates)) if duplicates else None,
        "hits": to_block(pa.concat_tables(hits)) if hits else None,
        "troubles": json.dumps(dict(troubles)),
    }
    return pa.RecordBatch.from_pylist([row], schema=_REPORT)


def collect_reports(reports: DataFrame) -> BatchReport:
    """Run the tasks (``reports``: ``TASK_REPORT``) and add up what they tell."""
    rows = reports.collect()
    files: dict[str, list[DataFile]] = {}
    for row in rows:
        for table, told in json.loads(row["files"]).items():
            files.setdefault(table, []).append(DataFile(**told))
    named = [bytes(row["duplicates"]) for row in rows if row["duplicates"] is not None]
    hits = [bytes(row["hits"]) for row in rows if row["hits"] is not None]
    return BatchReport(
        received=sum(row["received"] for row in rows),
        valid=sum(row["valid"] for row in rows),
        invalid=sum(row["invalid"] for row in rows),
        files=files,
        duplicates=frozenset(rows_of(join_blocks(named)) if named else ()),
        hits=join_blocks(hits) if hits else None,
        troubles={role: said for row in rows for role, said in json.loads(row["troubles"]).items()},
    )


def gathered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The rows of ``tables``, some ten thousand at once: a call of a model has its price."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(len(rows) for rows in waiting) >= ROWS_AT_ONCE:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


def hits_of(rows: pa.Table) -> pa.Table:
    """The hits among rows of `transactions`: ``HIT_COLUMNS_AT``."""
    return rows.filter(rows["prediction"]).select(HIT_COLUMNS_AT)


def addresses_of(rows: pa.Table) -> list[Address]:
    """The addresses of rows, one after the other."""
    return rows_of(rows.select(["source", "position"]))


def at_addresses(rows: pa.Table, addresses: Collection[Address]) -> pa.BooleanArray:
    """Which rows are at ``addresses``."""
    return pa.array([address in addresses for address in addresses_of(rows)], pa.bool_())


def are_duplicates(rows: pa.Table, duplicates: Collection[Duplicate]) -> pa.BooleanArray:
    """Which rows (`source`, `position`, `trans_num`, `cc_num`) are among ``duplicates``."""
    hashes = identity_hashes(as_objects(rows["trans_num"]), as_objects(rows["cc_num"]))
    columns = {name: hashes[name] for name in ("high", "low")}
    told = pa.table({"source": rows["source"], "position": rows["position"], **columns})
    return pa.array([row in duplicates for row in rows_of(told)], pa.bool_())


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    """The rows as tuples."""
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _blocks(column: pa.Array) -> list[pa.Table]:
    return [from_block(block.as_buffer()) for block in column if block.is_valid]
