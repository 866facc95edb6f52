"""The keys of Spark's state: one a bucket, chosen so that Spark spreads them evenly.

Spark puts a key into partition ``hash(key) mod partitions``. The key of bucket i of n is the first
number whose hash is i modulo n, so that every partition has as many buckets as any other where the
number of partitions divides that of buckets: sixteen numbers in a row are nine here and seven
there.
"""

from functools import cache

import numpy as np

from jobs.history import Integers

_SEED = 42  # Spark's, for hash partitioning
_AT_ONCE = 1 << 14


@cache
def card_keys(buckets: int) -> Integers:
    """The keys of ``buckets`` buckets of cards: from 0 on."""
    return _keys(buckets, sign=1)


@cache
def identifier_keys(buckets: int) -> Integers:
    """The keys of the buckets of identifiers beside ``buckets`` of cards: below 0. They are a
    quarter as many: every key has its price, and there is little to do for one.
    """
    return _keys(max(1, buckets // 4), sign=-1)


def _keys(count: int, sign: int) -> Integers:
    keys = np.full(count, -1, np.int64)
    is_found = np.zeros(count, np.bool_)
    start = 0
    while not is_found.all():
        numbers = np.arange(start, start + _AT_ONCE)
        places = spark_hash(sign * numbers - (sign < 0)).astype(np.int64) % count
        found, first = np.unique(places, return_index=True)
        new = ~is_found[found]
        keys[found[new]] = numbers[first[new]]
        is_found[found] = True
        start += _AT_ONCE
    return sign * keys - (sign < 0)


def spark_hash(numbers: Integers) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Spark's ``hash`` of INT columns: 32-bit MurmurHash3 (Austin Appleby), of four bytes each."""
    with np.errstate(over="ignore"):
        k = numbers.astype(np.int32).view(np.uint32)
        k = _rotated(k * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
        h = _rotated(np.uint32(_SEED) ^ k, 13) * np.uint32(5) + np.uint32(0xE6546B64)
        h ^= np.uint32(4)
        h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        return (h ^ (h >> np.uint32(16))).view(np.int32)


def _rotated(
    values: np.ndarray[tuple[int], np.dtype[np.uint32]], bits: int
) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    return (values << np.uint32(bits)) | (values >> np.uint32(32 - bits))
