"""Blocks: many rows as one binary value, in Arrow's IPC format.

Between parsing and scoring, rows travel through Spark as blocks of a bucket: a shuffle moves a few
large values, and the Python workers read the columns without any conversion. Spark's own rows come
back where the tables are written.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def to_block(rows: pa.Table) -> bytes:
    """The rows as one value."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
    return bytes(sink.getvalue().to_pybytes())


def from_block(block: bytes | pa.Buffer) -> pa.Table:
    """The inverse of ``to_block``; its columns look into ``block``."""
    return pa.ipc.open_stream(block).read_all()


def join_blocks(blocks: Iterable[bytes | pa.Buffer]) -> pa.Table:
    """The rows of all blocks (at least one), one after the other."""
    return pa.concat_tables([from_block(block) for block in blocks]).combine_chunks()


def split(rows: pa.Table, keys: npt.NDArray[np.int64]) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each key, keys ascending, rows in their order."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    rows = rows.take(pa.array(order))
    bounds = np.append(np.flatnonzero(np.append(True, keys[1:] != keys[:-1])), len(keys))
    for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        if end > start:
            yield int(keys[start]), rows.slice(start, end - start)
