import numpy as np
import pytest
from pyspark.sql import functions as F

from jobs.bucket_keys import card_keys, identifier_keys, spark_hash

INT = np.iinfo(np.int32)
SOME = [1, 2, 16, 64, 256]


def test_the_hash_is_sparks(spark):
    numbers = [0, 1, -1, 2, 42, -42, 65_535, 65_536, 10**9, INT.min, INT.min + 1, INT.max,
               *range(-300, 300), *range(INT.min, INT.max, 2**24 - 3)]  # fmt: skip
    rows = spark.createDataFrame([(number,) for number in numbers], "number INT")
    expected = [row[0] for row in rows.select(F.hash("number")).collect()]
    found = spark_hash(np.array(numbers))
    assert found.dtype == np.int32
    assert found.tolist() == expected


def check_spread(keys):
    """As many keys in every partition, for every number of partitions that allows it."""
    assert len(np.unique(keys)) == len(keys)
    assert np.abs(keys).max() <= INT.max
    for partitions in range(1, len(keys) + 1):
        if len(keys) % partitions == 0:
            partition = spark_hash(keys).astype(np.int64) % partitions
            counts = np.bincount(partition, minlength=partitions)
            assert (counts == len(keys) // partitions).all(), partitions


@pytest.mark.parametrize("n", [*SOME, 3, 60])
def test_cards_have_keys_from_0_on_that_spread_evenly(n):
    keys = card_keys(n)
    assert len(keys) == n
    assert keys.min() >= 0
    check_spread(keys)


@pytest.mark.parametrize(("n", "count"), [*zip(SOME, [1, 1, 4, 16, 64], strict=True), (7, 1)])
def test_identifiers_have_a_quarter_of_the_keys_below_0_that_spread_evenly(n, count):
    keys = identifier_keys(n)
    assert len(keys) == count
    assert keys.max() < 0
    check_spread(keys)


@pytest.mark.parametrize("n", [8, 4096])
def test_each_key_is_the_first_number_that_fits(n):
    keys = card_keys(n)
    places = spark_hash(np.arange(keys.max() + 1)).astype(np.int64) % n
    assert np.unique(places, return_index=True)[1].tolist() == keys.tolist()
