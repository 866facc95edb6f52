from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import bucket as bucket_module
from jobs.bucket import Bucket, Chunk, keep_bucket
from jobs.first_arrival import Identifiers
from jobs.history import MOST_DAYS, Records, forget
from tests.memory import NOW, SECONDS_A_DAY, DictStorage, Worker
from tests.streams import START, bound, records, rows_of

DAY_0 = 20_000
HORIZON = 30 * SECONDS_A_DAY
CARDS = np.array([-5, 3, 9])


def chunk(*payments):
    """Payments (card, event time after the start, days after the first arrival, identifier)."""
    rows = [(card, START + ms, n, 0, DAY_0 + day) for n, (card, ms, day, _) in enumerate(payments)]
    return Chunk(records(rows), identifiers(*((name, day) for _, _, day, name in payments)))


def identifiers(*pairs):
    """(identifier, days after the first arrival)."""
    names = np.array([name for name, _ in pairs], np.int64)
    days = np.array([day for _, day in pairs], np.float64)
    moments = ((DAY_0 + days) * SECONDS_A_DAY).astype(np.uint32)
    return Identifiers(names * 11, (names + 1).astype(np.uint32), moments)


@pytest.fixture
def eager(monkeypatch):
    """Merges come after a few payments."""
    small_merges(monkeypatch)


def small_merges(patch):
    patch.setattr(bucket_module, "_SMALLEST_BASE", 12)
    patch.setattr(bucket_module, "MOST_CHUNKS", 3)


def assert_holds(bucket, chunks, days=(0, 3)):
    """A payment that is received now, or days ago, sees all that it would of one big history."""
    everything = Records.join([one.records for one in chunks]).in_order()
    newest = int(everything.day.max(initial=0))
    for day in days:
        expected = forget(everything.of_cards(CARDS), newest - day)
        assert rows_of(forget(bucket.history(CARDS), newest - day)) == rows_of(expected)
    names = np.arange(40)
    for day in (newest - day - DAY_0 for day in days):
        new = identifiers(*((name, day) for name in names))
        known = Identifiers.join([one.identifiers for one in chunks]).sorted()
        expected, _ = known.find(new, HORIZON)
        assert bucket.seen(new, HORIZON)[0].tolist() == expected.tolist()


batches = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 9, 29, 33]),  # days since the last one
        st.lists(
            st.tuples(st.sampled_from(CARDS.tolist()), st.integers(0, 9), st.integers(0, 39)),
            max_size=6,
        ),
        st.sampled_from([0, 1]),  # the worker
        st.sampled_from(["", "", "", "dies", "rolled back", "rolled back elsewhere"]),
    ),
    max_size=14,
)


@settings(max_examples=50, deadline=None)
@given(batches, st.sampled_from([2, 1000]))
def test_many_micro_batches_equal_one_big_history(story, most_payments):
    """Whichever worker has the bucket, and whatever became of a task that it ran."""
    storage, workers, chunks, day = DictStorage(), [Worker(), Worker()], [], 0
    with pytest.MonkeyPatch.context() as patch:
        small_merges(patch)
        bound(patch, most_payments)
        for days, rows, number, mishap in story:
            day += days
            came = chunk(*((card, ms, day, name) for card, ms, name in rows))
            before = storage.copy()
            if mishap == "dies":
                workers[number].load(storage)
            if mishap.startswith("rolled back"):
                workers[number].remember(storage, came, HORIZON)
                storage = before
            if mishap.endswith("elsewhere"):
                number = 1 - number
            workers[number].remember(storage, came, HORIZON)
            chunks.append(came)
            assert sorted(storage.pieces()) == sorted(storage.chunks)
            assert len(storage.names) <= 3
            for worker in (*workers, Worker()):
                bucket = worker.load(storage)
                assert bucket.names == storage.names
                assert_holds(bucket, chunks)
                if worker in workers:
                    with worker.at_work():
                        keep_bucket(0, bucket)


def test_a_worker_reads_each_chunk_once(eager):
    storage, worker, other = DictStorage(), Worker(), Worker()
    for n in range(3):
        worker.remember(storage, chunk((3, n, 0, n)))
    assert storage.reads == []
    other.remember(storage, chunk((3, 3, 0, 3)))
    assert len(storage.reads) == 3
    storage.reads.clear()
    bucket = worker.load(storage)
    assert len(storage.reads) == 1  # the four were merged into one
    assert len(bucket.history(CARDS)) == 4


def test_a_large_chunk_is_stored_in_pieces(eager, monkeypatch):
    monkeypatch.setattr(bucket_module, "PIECE_BYTES", 50)
    storage, worker = DictStorage(), Worker()
    for n in range(9):
        worker.remember(storage, chunk((3, n, 0, n)))
        assert sorted(storage.pieces()) == sorted(storage.chunks)
        assert len(Worker().load(storage).history(CARDS)) == n + 1
    assert max(map(len, storage.chunks.values())) == 50
    assert len(storage.chunks) > 8


def test_a_base_is_not_read_again_for_the_chunks_behind_it():
    storage, worker, other = DictStorage(), Worker(), Worker()
    worker.remember(storage, chunk((3, 0, 0, 0)))
    before = storage.copy()
    worker.remember(storage, chunk((3, 1, 0, 1)))
    storage = before
    other.remember(storage, chunk((9, 2, 0, 2)))
    storage.reads.clear()
    bucket = worker.load(storage)
    assert storage.reads == storage.pieces(1)
    assert [row[0] for row in rows_of(bucket.history(CARDS))] == [3, 9]


def test_a_bucket_of_the_same_number_in_another_state_is_another():
    worker, one, another = Worker(), DictStorage(), DictStorage()
    worker.remember(one, chunk((3, 0, 0, 0)))
    assert len(worker.load(another).history(CARDS)) == 0
    worker.remember(one, chunk((3, 1, 0, 1)))
    worker.remember(another, chunk((9, 0, 0, 0)))
    assert [row[0] for row in rows_of(worker.load(another).history(CARDS))] == [9]
    assert [row[0] for row in rows_of(worker.load(one).history(CARDS))] == [3, 3]


def test_a_task_that_died_with_a_chunk_in_its_hands_leaves_none():
    storage, worker = DictStorage(), Worker()
    worker.remember(storage, chunk((3, 0, 0, 0)))
    before = storage.copy()
    with worker.at_work():
        bucket = bucket_module.load_bucket(0, storage)
        bucket_module.append_chunk(bucket, chunk((3, 1, 0, 1)), storage, HORIZON, NOW)
    bucket = worker.load(before)
    assert bucket.names == before.names
    assert len(bucket.history(CARDS)) == 1


def test_nothing_to_remember_writes_nothing():
    storage, worker = DictStorage(), Worker()
    worker.remember(storage, chunk())
    assert storage.chunks == {}
    worker.remember(storage, chunk((3, 0, 0, 0)))
    names = storage.read_names()
    worker.remember(storage, chunk())
    assert storage.names == names


def test_the_cache_is_bounded_and_keeps_what_was_used_last(monkeypatch):
    cache = OrderedDict()
    monkeypatch.setattr(bucket_module, "_cache", cache)
    large = Bucket(["a"], chunk(*((3, n, 0, n) for n in range(10))))
    monkeypatch.setattr(bucket_module, "CACHE_BYTES", 3 * large.size)
    for number in (1, 2, 3, 4, 5):
        keep_bucket(number, large)
        assert sum(kept.size for kept in cache.values()) <= bucket_module.CACHE_BYTES
    assert list(cache) == [3, 4, 5]
    storage = DictStorage()
    storage.names = ["a"]
    assert bucket_module.load_bucket(3, storage) is large
    keep_bucket(3, large)
    keep_bucket(6, large)
    assert list(cache) == [5, 3, 6]


def test_a_merge_forgets_what_no_later_payment_can_see(eager):
    storage, worker = DictStorage(), Worker()
    worker.remember(storage, chunk((3, 0, 0, 0)), HORIZON)
    worker.remember(storage, chunk(*((9, n, 2 * MOST_DAYS, 1 + n) for n in range(8))), HORIZON)
    assert len(storage.names) == 1
    (merged,) = map(Chunk.from_bytes, storage.chunks.values())
    assert set(merged.records.card) == {9}
    assert 0 not in merged.identifiers.high


@pytest.mark.parametrize("days_behind", [0, 3, 14])
def test_a_merge_keeps_what_a_payment_with_a_clock_behind_still_sees(eager, days_behind):
    for days in (MOST_DAYS, 30):
        storage, worker = DictStorage(), Worker()
        worker.remember(storage, chunk((3, 0, 0, 0)))
        worker.remember(storage, chunk(*((9, n, days + days_behind, 1) for n in range(8))))
        assert len(storage.names) == 1
        bucket = worker.load(storage)
        assert len(forget(bucket.history(CARDS[1:2]), DAY_0 + days)) == 1
        assert bucket.seen(identifiers((0, days)), HORIZON)[0].tolist() == [days == 30]


def test_a_receipt_in_the_future_makes_a_merge_forget_nothing_else(eager):
    storage, worker, now = DictStorage(), Worker(), (DAY_0 + 20) * SECONDS_A_DAY
    worker.remember(storage, chunk((3, 0, 0, 0)), now=now)
    glitch = [(9, n, 400 if n == 3 else 20, 1 + n) for n in range(8)]
    worker.remember(storage, chunk(*glitch), now=now)
    assert len(storage.names) == 1
    bucket = worker.load(storage)
    assert len(forget(bucket.history(CARDS[1:2]), DAY_0 + 20)) == 1
    assert bucket.seen(identifiers((0, 20)), HORIZON)[0].tolist() == [True]


@pytest.mark.parametrize(
    "parts", [chunk(), chunk((3, 1, 2, 5)), Chunk(Records.empty(), identifiers((1, 2)))]
)
def test_a_chunk_is_the_same_through_bytes(parts):
    again = Chunk.from_bytes(parts.to_bytes())
    assert rows_of(again.records) == rows_of(parts.records)
    assert again.identifiers.to_bytes() == parts.identifiers.to_bytes()
    assert len(again) == len(parts)
    assert again.size == parts.size
