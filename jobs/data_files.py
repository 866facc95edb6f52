"""The data files of a Delta table, written where the rows are: by the tasks of a micro-batch.

A file belongs to its table only once a commit names it (``jobs.table_log``); what a task leaves
behind that died, no reader ever sees, and VACUUM removes it.
"""

import json
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.storage import delete_file, storage_of

_UP = timedelta(microseconds=999)  # statistics have milliseconds, cut off; a bound must hold


@dataclass(frozen=True)
class DataFile:
    """A Parquet file in the folder of its table: ``name``, bytes, epoch milliseconds, and Delta's
    statistics of it as JSON.
    """

    name: str
    size: int
    modified_ms: int
    statistics: str


class DataFileWriter:
    """Writes one file of a table, piece by piece; none where no row comes. As a context, it leaves
    no file behind that is not ``finished``.

    Args:
        folder: of the table, which exists.
        schema: of the table.
        bounded: columns whose least and greatest value the statistics have: UTC timestamps.
    """

    def __init__(self, folder: str, schema: pa.Schema, bounded: Sequence[str]) -> None:
        self._schema = schema
        self.name = f"part-{uuid.uuid4().hex}.snappy.parquet"
        self._folder = folder
        self._sink: pa.NativeFile | None = None
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        self._bounds: dict[str, list[datetime]] = {column: [] for column in bounded}
        self._nulls = dict.fromkeys(bounded, 0)
        self._is_finished = False

    def write(self, rows: pa.Table) -> None:
        """Add rows: the columns of the schema, those that are missing are NULL.

        Raises:
            OSError: they cannot be written.
        """
        if not len(rows):
            return
        if self._writer is None:
            files, path = storage_of(self._folder)
            self._sink = files.open_output_stream(f"{path}/{self.name}")
            self._writer = pq.ParquetWriter(self._sink, self._schema, compression="snappy")
        self._writer.write_table(fitted(rows, self._schema))
        self._rows += len(rows)
        for name, known in self._bounds.items():
            bounds = pc.min_max(rows[name]).as_py()
            known += [bound for bound in bounds.values() if bound is not None]
            self._nulls[name] += rows[name].null_count

    def finished(self) -> DataFile | None:
        """The file, whole; None where no row came.

        Raises:
            OSError: it cannot be written to its end.
        """
        if self._writer is None or self._sink is None:
            return None
        self._writer.close()
        size = self._sink.tell()
        self._sink.close()
        self._is_finished = True
        return DataFile(self.name, size, time.time_ns() // 1_000_000, self._statistics())

    def _statistics(self) -> str:
        bounded = {name: known for name, known in self._bounds.items() if known}
        return json.dumps(
            {
                "numRecords": self._rows,
                "minValues": {name: _moment(min(known)) for name, known in bounded.items()},
                "maxValues": {name: _moment(max(known) + _UP) for name, known in bounded.items()},
                "nullCount": self._nulls,  # without it Spark passes over no file
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_finished and self._writer is not None and self._sink is not None:
            with suppress(OSError, ValueError):
                self._writer.close()
            with suppress(OSError, ValueError):
                self._sink.close()
            remove_file(self._folder, self.name)


def fitted(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of ``schema``, in its order and types; those that are missing are NULL."""
    there = set(rows.column_names)
    columns = [
        rows[field.name] if field.name in there else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def read_file(folder: str, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a file, or some of their columns."""
    files, path = storage_of(folder)
    with files.open_input_file(f"{path}/{name}") as file:
        return pq.ParquetFile(file).read(columns=columns)


def remove_file(folder: str, name: str) -> None:
    """Remove a file that no commit names; one that cannot be removed is VACUUM's to remove."""
    with suppress(OSError):
        delete_file(folder, name)


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
