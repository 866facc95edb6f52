"""What is remembered of a bucket of cards, and how it is laid out in Spark's state.

A bucket is a large base and the chunks that came since: a micro-batch writes only a small chunk of
its own, and now and then the chunks are merged into the base. A chunk never changes under its name,
so that a worker process reads each one once and keeps the bucket in memory from one micro-batch to
the next; what the state says is there decides, not the memory.
"""

import uuid
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from jobs.column_arrays import Marks
from jobs.first_arrival import Identifiers
from jobs.history import Integers, Records, forget

MOST_CHUNKS = 24
_SMALLEST_BASE = 4096
DAYS_OF_DOUBT = 14
"""How far receipts may lag behind the newest of their bucket, because a source lags or a clock was
set back: what a payment within it still sees is not forgotten, nor by a new checkpoint."""

PIECE_BYTES = 4 << 20
"""The largest value in the state."""

CACHE_BYTES = 1 << 30
"""How much of the state a worker process keeps in memory."""


@dataclass(frozen=True)
class Chunk:
    """Payments and identifiers that came in one go."""

    records: Records
    identifiers: Identifiers

    def to_bytes(self) -> bytes:
        """The number of payments (8 bytes), the payments, the identifiers."""
        payments = self.records.to_bytes()
        return len(payments).to_bytes(8, "little") + payments + self.identifiers.to_bytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Chunk":
        """The inverse of ``to_bytes``."""
        end = 8 + int.from_bytes(raw[:8], "little")
        return cls(Records.from_bytes(raw[8:end]), Identifiers.from_bytes(raw[end:]))

    def __len__(self) -> int:
        return max(len(self.records), len(self.identifiers))

    @property
    def size(self) -> int:
        """Bytes of the arrays."""
        return self.records.size + self.identifiers.size


EMPTY = Chunk(Records.empty(), Identifiers.empty())


class Storage(Protocol):
    """Where a bucket's chunks lie: names in order (the base first), and pieces of chunks."""

    def read_names(self) -> list[str]:
        """The names of the chunks; empty for a new bucket."""
        ...

    def write_names(self, names: list[str]) -> None:
        """Replace the names."""
        ...

    def read(self, name: str) -> bytes:
        """The piece of that name."""
        ...

    def write(self, name: str, piece: bytes) -> None:
        """Store a piece."""
        ...

    def remove(self, name: str) -> None:
        """Forget a piece."""
        ...


@dataclass
class Bucket:
    """A bucket in memory: ``base`` has its records in order and its identifiers sorted; ``recent``
    has its records in order of arrival and its identifiers sorted.
    """

    names: list[str] = field(default_factory=list)
    base: Chunk = EMPTY
    recent: Chunk = EMPTY

    def history(self, cards: Integers) -> Records:
        """What is remembered of ``cards`` (sorted), in order."""
        old = self.base.records.of_cards(cards)
        recent = self.recent.records
        place = np.searchsorted(cards, recent.card)
        known = cards[np.minimum(place, len(cards) - 1)] == recent.card if len(cards) else place > 0
        return old.merged(recent.take(known).in_order())

    def seen(self, new: Identifiers, horizon_seconds: int) -> tuple[Marks, Marks]:
        """As ``Identifiers.find``, over base and recent chunks."""
        same, other = self.base.identifiers.find(new, horizon_seconds)
        recently, otherwise = self.recent.identifiers.find(new, horizon_seconds)
        return same | recently, other | otherwise

    def add(self, name: str, chunk: Chunk) -> None:
        """Take over a chunk: the first one is the base."""
        self.names.append(name)
        if len(self.names) == 1:
            self.base = chunk
            return
        self.recent = Chunk(
            Records.join([self.recent.records, chunk.records]),
            Identifiers.join([self.recent.identifiers, chunk.identifiers]).sorted(),
        )

    @property
    def size(self) -> int:
        """Bytes of the arrays."""
        return self.base.size + self.recent.size


_cache: OrderedDict[int, Bucket] = OrderedDict()


def load_bucket(number: int, storage: Storage) -> Bucket:
    """The bucket as the state has it; of what this process read before, only what is new is read.

    The caller owns it until ``keep_bucket``; a task that dies in between leaves nothing behind.
    """
    names = storage.read_names()
    bucket = _cache.pop(number, None)
    if bucket is None or names[: len(bucket.names)] != bucket.names:
        same_base = bucket is not None and names[:1] == bucket.names[:1]
        bucket = Bucket(names[:1], bucket.base) if bucket and same_base else Bucket()
    for name in names[len(bucket.names) :]:
        raw = b"".join(storage.read(piece) for piece in pieces_of(name))
        bucket.add(name, Chunk.from_bytes(raw))
    return bucket


def keep_bucket(number: int, bucket: Bucket) -> None:
    """Keep the bucket in this process for the next micro-batch, within ``CACHE_BYTES``."""
    _cache[number] = bucket
    while len(_cache) > 1 and sum(kept.size for kept in _cache.values()) > CACHE_BYTES:
        _cache.popitem(last=False)


def append_chunk(
    bucket: Bucket, chunk: Chunk, storage: Storage, horizon_seconds: int, now: float
) -> None:
    """Remember what came, in memory and in the state; merge where the chunks have become many.

    Args:
        chunk: records in order of arrival, identifiers in any order.
        horizon_seconds: how long identifiers are remembered.
        now: epoch seconds. Receipts lie in the past: one that is dated later, because a clock was
            wrong, makes nothing else be forgotten.
    """
    if not len(chunk):
        return
    sorted_chunk = Chunk(chunk.records, chunk.identifiers.sorted())
    if not bucket.names:
        sorted_chunk = Chunk(chunk.records.in_order(), sorted_chunk.identifiers)
    _store(bucket, sorted_chunk, storage)
    grown = len(bucket.recent) > _SMALLEST_BASE // 4 + len(bucket.base) * _share(bucket)
    if grown or len(bucket.names) > MOST_CHUNKS:
        into_base = grown or len(bucket.base) < _SMALLEST_BASE
        _merge(bucket, storage, _merged(bucket, horizon_seconds, now) if into_base else None)
    storage.write_names(bucket.names)


def _share(bucket: Bucket) -> float:
    # Buckets grow alike: without a share of its own for each they would all be merged at once.
    return 0.2 + 0.1 * int(bucket.names[0][:4], 16) / 0xFFFF


def _store(bucket: Bucket, chunk: Chunk, storage: Storage) -> None:
    raw = chunk.to_bytes()
    count = -(-len(raw) // PIECE_BYTES)
    name = f"{uuid.uuid4().hex}-{count}"
    for number, piece in enumerate(pieces_of(name)):
        storage.write(piece, raw[number * PIECE_BYTES : (number + 1) * PIECE_BYTES])
    bucket.add(name, chunk)


def pieces_of(name: str) -> list[str]:
    """What the chunk of that name is stored under, piece by piece: Spark holds a value of its state
    several times in memory when it is written.
    """
    return [f"{name}/{number}" for number in range(int(name.rpartition("-")[2]))]


def _merge(bucket: Bucket, storage: Storage, base: Chunk | None) -> None:
    """Replace the recent chunks, and the base too where there is a new one, by one chunk."""
    stale = bucket.names[1 if base is None else 0 :]
    if base is not None:
        merged = base
        bucket.names, bucket.base, bucket.recent = [], EMPTY, EMPTY
    else:
        merged = bucket.recent
        bucket.names, bucket.recent = bucket.names[:1], EMPTY
    for name in stale:
        for piece in pieces_of(name):
            storage.remove(piece)
    _store(bucket, merged, storage)


def _merged(bucket: Bucket, horizon_seconds: int, now: float) -> Chunk:
    identifiers = Identifiers.join([bucket.base.identifiers, bucket.recent.identifiers]).sorted()
    newest = min(int(identifiers.arrived_at.max(initial=0)), int(now)) - DAYS_OF_DOUBT * 86_400
    records = bucket.base.records.merged(bucket.recent.records.in_order())
    today = min(int(records.day.max(initial=0)), int(now) // 86_400) - DAYS_OF_DOUBT
    return Chunk(forget(records, today), identifiers.since(newest - horizon_seconds))
