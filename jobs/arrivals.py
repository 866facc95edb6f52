"""What happens to a bucket's part of a micro-batch: Arrow tables in and out, no Spark.

The payments of a card meet in its bucket, which tells the first arrivals and computes their
features. Each payment's `trans_num` also goes to a bucket of identifiers, which knows whether
another card has used it before: that makes the payment a duplicate, though its own card remembers
it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jobs.blocks import split, to_block
from jobs.bucket import Bucket, Chunk
from jobs.bucket_keys import card_keys, identifier_keys
from jobs.feature_arrays import arrays_of_table, records_of, text_hash
from jobs.feature_pass import compute_features
from jobs.features import FEATURE_NAMES
from jobs.first_arrival import Identifiers, first_of, taken_among
from jobs.history import Integers, Records
from jobs.parse import PARSED

DUPLICATES = pa.schema(
    [PARSED.field("source"), PARSED.field("position"), ("high", pa.int64()), ("low", pa.int64())]
)
"""Where a payment came from, and the hashes of its `trans_num` (``jobs.first_arrival``): a source
that gives a position twice does not take one payment for another."""

PAYMENTS = pa.schema(
    [field for field in PARSED if field.name not in ("payload", "reason")]
    + [pa.field(name, pa.float64()) for name in FEATURE_NAMES]
)
"""Valid payments that arrive for the first time: address, columns, features."""

REJECTED = pa.schema(
    [PARSED.field(n) for n in ("source", "position", "payload", "reason", "received_at")]
)
"""Payloads that are no valid payment, with the reason."""

Output = dict[str, Any]
"""Values of ``jobs.card_memory.OPERATOR_OUTPUT``."""

_SECOND_KEY = "fraud-detector-1"
_ROWS_A_CHUNK = 100_000


def cut_into_buckets(
    parsed: pa.Table, buckets: int, are_remembered: bool = False
) -> Iterator[tuple[int, bytes]]:
    """Blocks and the keys of the state that they go to: each row in the block of its card, from 0
    on; the identifier of each valid payment in the block of its `trans_num`, below 0.

    Args:
        parsed: ``jobs.parse.PARSED``, or as much of it as is to be remembered.
        are_remembered: they only are; the blocks need no payloads.
    """
    is_valid = pc.is_null(parsed["reason"]).to_numpy()
    identity = _identities(parsed, is_valid)
    if are_remembered:
        parsed = parsed.drop_columns(["payload"])
    marked = pa.table({name: parsed[name] for name in parsed.column_names} | identity)
    keys = np.where(is_valid, identity["card"], identity["high"])
    for bucket, rows in split(marked, card_bucket(keys, buckets)):
        yield bucket, to_block(rows)
    thin = marked.select([*DUPLICATES.names, "received_at"])
    named = is_valid & identity["has_identity"]
    keys = identifier_bucket(identity["high"][named], buckets)
    for bucket, rows in split(thin.filter(pa.array(named)), keys):
        yield bucket, to_block(rows)


def card_bucket(hashes: Integers, buckets: int) -> Integers:
    """The key of the bucket of each card, by its hash."""
    return card_keys(buckets)[place_of(hashes, buckets)]


def identifier_bucket(hashes: Integers, buckets: int) -> Integers:
    """The key of the bucket of each identifier, by ``high``."""
    keys = identifier_keys(buckets)
    return keys[place_of(hashes, len(keys))]


def place_of(hashes: Integers, buckets: int) -> Integers:
    """The number of the bucket of each hash, from 0 to ``buckets`` - 1."""
    return np.asarray((hashes.view(np.uint64) % np.uint64(buckets)).astype(np.int64))


def _identities(parsed: pa.Table, is_valid: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """The hashes of each row. A rejected payload with a `trans_num` is identified by itself alone,
    which `rejected` holds.
    """
    valid = pa.array(is_valid)
    names = pc.if_else(valid, parsed["trans_num"], parsed["payload"])
    cards = pc.if_else(valid, parsed["cc_num"], None)
    return identity_hashes(as_objects(names), as_objects(cards)) | {
        "has_identity": pc.is_valid(parsed["trans_num"]).to_numpy()
    }


def identity_hashes(
    names: npt.NDArray[np.object_], cards: npt.NDArray[np.object_]
) -> dict[str, npt.NDArray[np.int64]]:
    """``high``, ``low`` (see ``jobs.first_arrival``) and ``card``, the hash of the card number."""
    card = text_hash(cards)
    low = (text_hash(names, _SECOND_KEY) ^ card) & 0xFFFFFFFF
    return {"high": text_hash(names), "low": low, "card": card}


def as_objects(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """Texts as Python's, what is missing as None."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=object)


def judge_cards(arrived: pa.Table, bucket: Bucket, horizon_seconds: int) -> tuple[Output, Chunk]:
    """Which rows of a bucket of cards arrive for the first time, and the features of the payments
    among them.

    Args:
        arrived: rows of ``cut_into_buckets``, in order of arrival.
        horizon_seconds: how long an identifier is remembered.

    Returns:
        What goes out, and what is to be remembered.
    """
    identified = arrived["has_identity"].to_numpy()
    identifiers = identifiers_of(arrived)
    known, _ = bucket.seen(identifiers, horizon_seconds)
    is_first = ~identified | first_of(identifiers, known, horizon_seconds)
    is_valid = pc.is_null(arrived["reason"]).to_numpy()
    payments = arrived.filter(pa.array(is_first & is_valid))
    rejected = arrived.filter(pa.array(is_first & ~is_valid))
    arrays = arrays_of_table(payments)
    history = bucket.history(np.unique(arrays["card"]))
    features, records = compute_features(arrays, history)
    output: Output = {"received": len(arrived), "valid": len(payments), "invalid": len(rejected)}
    if len(payments):
        columns = {name: payments[name] for name in PAYMENTS.names if name not in features}
        output["payments"] = to_block(pa.table(columns | features, schema=PAYMENTS))
    if len(rejected):
        output["rejected"] = to_block(rejected.select(REJECTED.names))
    return output, Chunk(records, identifiers.take(is_first & identified))


def judge_identifiers(
    arrived: pa.Table, bucket: Bucket, horizon_seconds: int
) -> tuple[Output, Chunk]:
    """Which payments have a `trans_num` that another card used before, of those that their own
    cards' buckets let pass.

    Args, returns: as ``judge_cards``.
    """
    identifiers = identifiers_of(arrived)
    known, elsewhere = bucket.seen(identifiers, horizon_seconds)
    # As its card's bucket has it: that one passes over what is served again, so it is named once.
    is_first = first_of(identifiers, known, horizon_seconds)
    is_taken = is_first & elsewhere
    is_taken[is_first] |= taken_among(identifiers.take(is_first), horizon_seconds)
    chunk = Chunk(Records.empty(), identifiers.take(is_first))
    if not is_taken.any():
        return {}, chunk
    taken = arrived.select(DUPLICATES.names).filter(pa.array(is_taken))
    return {"received": 0, "valid": 0, "invalid": 0, "duplicates": to_block(taken)}, chunk


def to_chunks(arrived: pa.Table) -> Iterator[Chunk]:
    """All payments and rejected payloads, or identifiers, of a bucket as they are remembered: in
    chunks of moderate size, each card, or identifier, in one of them.

    Args:
        arrived: rows of ``cut_into_buckets``, in order of arrival, each the first of its kind.
    """
    named = arrived
    if "cc_num" in arrived.column_names:
        is_valid = pc.is_null(arrived["reason"])
        payments, named = arrived.filter(is_valid), arrived.filter(pc.invert(is_valid))
        chunk = Chunk(records_of(arrays_of_table(payments)), identifiers_of(payments))
        yield from in_parts(chunk, payments["card"].to_numpy())
    yield from in_parts(Chunk(Records.empty(), identifiers_of(named)), named["high"].to_numpy())


def in_parts(chunk: Chunk, hashes: Integers) -> Iterator[Chunk]:
    """A large chunk as several, which no ``hash`` is in two of; each hash stands for a row."""
    count = -(-len(hashes) // _ROWS_A_CHUNK)
    # The lower bits chose the bucket.
    part = (hashes.view(np.uint64) >> np.uint64(40)) % np.uint64(max(count, 1))
    for number in range(count):
        here = part == number
        records = chunk.records.take(here) if len(chunk.records) else chunk.records
        yield Chunk(records, chunk.identifiers.take(here))


def identifiers_of(arrived: pa.Table) -> Identifiers:
    """The identifiers in ``high``, ``low`` and ``received_at``."""
    seconds = arrived["received_at"].to_numpy().astype("datetime64[s]").astype(np.int64)
    return Identifiers(
        arrived["high"].to_numpy(),
        arrived["low"].to_numpy().astype(np.uint32),
        seconds.astype(np.uint32),
    )
