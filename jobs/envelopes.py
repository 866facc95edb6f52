"""What was landed, as envelopes: where a payload came from, in which order, when."""

import base64
import codecs
import hashlib
import json
import re
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.json_rows import cast_texts, read_block, read_objects

FOREIGN_SOURCE = "file:"
"""Prefix of `source` for a line that came without a valid envelope: the file's name follows."""

MOMENT = pa.timestamp("us", "UTC")

ENVELOPES = pa.schema(
    {
        "source": pa.string(),
        "position": pa.int64(),
        "received_at": MOMENT,
        "encoding": pa.string(),
        "payload": pa.string(),
    }
)
"""Where a payload came from, in which order, when; `encoding` is that of ingest
(``ingest.envelope``), or none."""

_EARLIEST_RECEIPT = pa.scalar(0, MOMENT)
_NOT_JSON = re.compile(rb"[:,\[\s-]Inf|-NaN")  # numbers to Arrow, not to JSON in Python
_LANDED = ENVELOPES.set(2, pa.field("received_at", pa.string()))

FILES = {"path": "string", "content": "binary", "read_at": "timestamp"}
"""A landed file, whole, and the time at which it is read; Spark's types."""

MESSAGES = {
    "value": "binary", "topic": "string", "partition": "int", "offset": "bigint",
    "timestamp": "timestamp", "read_at": "timestamp",
}  # fmt: skip
"""A message of a Kafka topic."""


def open_files(files: pa.Table) -> pa.Table:
    """The envelope of each line of landed files.

    Args:
        files: ``FILES``.

    Returns:
        ``ENVELOPES``, in any order. A line that is no envelope becomes the payload itself (base64
        where it is no UTF-8); its source is ``file:<name>``, its position a hash of the line. A
        time of receipt that is yet to come, or before 1970, becomes ``read_at``.
    """
    opened = [ENVELOPES.empty_table()]
    for path, content, read_at in zip(*files.select(list(FILES)).columns, strict=True):
        # As readers of text do: a byte order mark is not part of the first line.
        raw = content.as_buffer().to_pybytes().removeprefix(codecs.BOM_UTF8)
        envelopes = _read_landed(raw)
        if envelopes is None:
            envelopes = _open_lines(raw.splitlines(), path.as_py().rpartition("/")[2], read_at)
        opened.append(_received_by(envelopes, pa.repeat(read_at, len(envelopes))))
    return pa.concat_tables(opened)


def _read_landed(raw: bytes) -> pa.Table | None:
    """The envelopes in a file as ingest lands it; None where anything in it is not of that kind."""
    lines = raw.count(b"\n")
    # With every line an object from its first character to its last, as many objects as lines are
    # one a line.
    is_likely = raw[:1] == b"{" and raw[-2:] == b"}\n" and raw.count(b"}\n{") == lines - 1
    if not is_likely or not raw.isascii() or b"\r" in raw:
        return None
    if (b"Inf" in raw or b"-NaN" in raw) and _NOT_JSON.search(raw):
        return None
    read = read_block(pa.py_buffer(raw), _LANDED)
    if read is None or len(read) != lines or any(column.null_count for column in read.columns):
        return None
    times = cast_texts(read["received_at"].combine_chunks(), MOMENT)
    return None if times.null_count else read.set_column(2, ENVELOPES.field(2), times)


def _open_lines(lines: list[bytes], file: str, read_at: pa.Scalar) -> pa.Table:
    texts, _ = _texts(pa.chunked_array([pa.array(lines, pa.binary())]))
    envelopes, places = _read(texts)
    rest = _others(places, len(lines))
    foreign = [
        {
            "source": f"{FOREIGN_SOURCE}{file}",
            "position": int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1,
            "received_at": read_at.as_py(),
            "encoding": "none",
            "payload": text,
        }
        for text in texts.take(rest).to_pylist()
    ]
    return pa.concat_tables([envelopes, pa.Table.from_pylist(foreign, schema=ENVELOPES)])


def open_messages(messages: pa.Table) -> pa.Table:
    """The envelope of each message.

    Args:
        messages: ``MESSAGES``.

    Returns:
        ``ENVELOPES``, in any order. Source is ``<topic>/<partition>`` and position the offset; the
        rest is that of the envelope where the value is one. Another producer's message is the
        payload itself, received at its timestamp. No receipt is later than ``read_at``.
    """
    texts, is_text = _texts(messages["value"])
    envelopes, places = _read(texts)
    rest = _others(places, len(messages))
    bare = pa.table(
        {
            "source": pa.nulls(len(rest), pa.string()),
            "position": pa.nulls(len(rest), pa.int64()),
            "received_at": messages["timestamp"].take(rest).cast(MOMENT),
            "encoding": pc.if_else(is_text.take(rest), "text", "base64"),
            "payload": texts.take(rest),
        },
        schema=ENVELOPES,
    )
    order = pa.concat_arrays([places, rest])
    opened = pa.concat_tables([envelopes, bare])
    partitions = messages["partition"].cast(pa.string())
    sources = pc.binary_join_element_wise(messages["topic"], partitions, "/").take(order)
    opened = opened.set_column(0, "source", sources)
    opened = opened.set_column(1, "position", messages["offset"].take(order))
    return _received_by(opened, messages["read_at"].take(order).combine_chunks())


def _read(texts: pa.StringArray) -> tuple[pa.Table, pa.Array]:
    """The envelopes among the texts, and their places."""
    read, found, _ = read_objects(texts, [_LANDED])
    times = cast_texts(read["received_at"].combine_chunks(), MOMENT)
    read = read.set_column(2, "received_at", times)
    is_whole = np.ones(len(read), np.bool_)
    for name in ENVELOPES.names:
        is_whole &= pc.is_valid(read[name]).to_numpy()
    slow = []
    rest = _others(pa.array(found[is_whole], pa.int64()), len(texts))
    places: list[int] = []
    for place, text in zip(rest.to_pylist(), texts.take(rest).to_pylist(), strict=True):
        envelope = _read_one(text)
        if envelope is not None:
            slow.append(envelope)
            places.append(place)
    whole = read.filter(pa.array(is_whole)).cast(ENVELOPES)
    return (
        pa.concat_tables([whole, pa.Table.from_pylist(slow, schema=ENVELOPES)]),
        pa.array([*found[is_whole].tolist(), *places], pa.int64()),
    )


def _read_one(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
        envelope = {name: found[name] for name in ENVELOPES.names}
        envelope["received_at"] = datetime.fromisoformat(envelope["received_at"])
        row = pa.Table.from_pylist([envelope], schema=ENVELOPES)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, pa.ArrowException):
        return None
    return envelope if not any(row[name].null_count for name in ENVELOPES.names) else None


def _others(places: pa.Array, n: int) -> pa.Array:
    rest = np.ones(n, np.bool_)
    rest[places.to_numpy()] = False
    return pa.array(np.flatnonzero(rest), pa.int64())


def _received_by(envelopes: pa.Table, read_at: pa.Array) -> pa.Table:
    """With ``read_at`` for a time of receipt that cannot be: one to come, or before 1970."""
    told, latest = envelopes["received_at"].combine_chunks(), read_at.cast(MOMENT)
    can_be = pc.and_(pc.less_equal(told, latest), pc.greater_equal(told, _EARLIEST_RECEIPT))
    return envelopes.set_column(2, "received_at", pc.if_else(can_be, told, latest))


def _texts(values: pa.ChunkedArray) -> tuple[pa.StringArray, pa.BooleanArray]:
    """Bytes as text, base64 where they are no UTF-8 (ingest never lands any), and where they are;
    a value that is missing (a tombstone of Kafka) is empty text.
    """
    values = values.combine_chunks()
    try:
        texts = pc.fill_null(values.cast(pa.string()), "")
        return texts, pa.array(np.ones(len(texts), np.bool_))
    except pa.ArrowInvalid:
        readable = [_readable(value or b"") for value in values.to_pylist()]
        texts, is_text = zip(*readable, strict=True)
        return pa.array(texts, pa.string()), pa.array(is_text)


def _readable(value: bytes) -> tuple[str, bool]:
    try:
        return value.decode(), True
    except UnicodeDecodeError:
        return base64.b64encode(value).decode(), False
