from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.schema import check_payment
from jobs import arrivals
from jobs import bucket as bucket_module
from jobs.arrivals import PAYMENTS, cut_into_buckets, to_chunks
from jobs.blocks import from_block, join_blocks
from jobs.bucket import Bucket
from jobs.feature_arrays import arrays_of_table, records_of
from jobs.feature_pass import compute_features
from jobs.features import FEATURE_NAMES
from jobs.history import Records
from jobs.parse import PARSED
from tests.conftest import payment
from tests.memory import Detector
from tests.streams import rows_of

RECEIVED_AT = datetime(2024, 6, 2, tzinfo=UTC)
CARDS = [4000123412341234 + n for n in range(7)]
MANY = 16


def valid(position, number=None, card=0, source="api", received_at=RECEIVED_AT, **changes):
    """A row of a valid payment; ``number`` makes its `trans_num` (its position, if there is none)."""
    changes = {"cc_num": CARDS[card]} | changes
    values = check_payment(payment(position if number is None else number, **changes))
    return {"source": source, "position": position, "received_at": received_at} | values


def invalid(position, payload="{}", trans_num=None, received_at=RECEIVED_AT):
    """A row of a payload that is no valid payment."""
    return {
        "source": "api", "position": position, "received_at": received_at,
        "payload": payload, "reason": "amt: missing", "trans_num": trans_num,
    }  # fmt: skip


def parsed(*rows):
    return pa.Table.from_pylist(list(rows), schema=PARSED)


def positions(rows):
    return sorted(row["position"] for row in rows)


def test_the_first_by_source_and_position_wins_whatever_the_order_of_blocks():
    rows = [
        valid(5, 1, source="b", amt=1),
        valid(9, 1, source="a", amt=2),
        valid(10, 1, source="a", amt=3),
    ]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        tables = [parsed(rows[n]) for n in order]
        for batch in (tables, [pa.concat_tables(tables)]):
            ((first,), rejected, duplicates) = Detector().arrive(*batch)
            assert (first["source"], first["position"], first["amt"]) == ("a", 9, 2.0)
            assert rejected == duplicates == []


def test_a_payment_served_again_is_passed_over_whatever_differs():
    detector = Detector()
    assert positions(detector.arrive(parsed(valid(0, 1)))[0]) == [0]
    kept, _, duplicates = detector.arrive(parsed(valid(1, 1, amt=7), valid(2, 2)))
    assert positions(kept) == [2]
    assert duplicates == []


@pytest.mark.parametrize("buckets", [1, 3, MANY])
@pytest.mark.parametrize("other", range(1, len(CARDS)))
def test_a_trans_num_of_another_card_is_a_duplicate(buckets, other):
    together, one_by_one = Detector(buckets), Detector(buckets)
    rows = [valid(0, 1), valid(1, 1, card=other), valid(2, 2, card=other)]
    kept, _, duplicates = together.arrive(parsed(*rows))
    assert positions(kept) == [0, 2]
    assert duplicates == [("api", 1)]
    assert [one_by_one.arrive(parsed(row))[2] for row in rows] == [[], [("api", 1)], []]


def test_a_duplicate_that_is_served_again_is_named_once():
    """Else the job would count fewer payments than there are, and write none where it counts 0."""
    again = [valid(0, 1), valid(1, 1, card=1), valid(2, 1, card=1), valid(3, 1)]
    kept, _, duplicates = Detector().arrive(parsed(*again))
    assert positions(kept) == [0]
    assert duplicates == [("api", 1)]
    detector = Detector()
    for row, expected in zip(again, ([0], [], [], []), strict=True):
        assert positions(detector.arrive(parsed(row))[0]) == expected
    kept, _, duplicates = detector.arrive(parsed(valid(4, 1, card=1), valid(5, 1), valid(6, 2)))
    assert positions(kept) == [6]
    assert duplicates == []


def test_the_first_card_keeps_its_payment_where_another_comes_first_in_a_later_batch():
    detector = Detector()
    detector.arrive(parsed(valid(0, 1)))
    kept, _, duplicates = detector.arrive(parsed(valid(1, 1, card=1), valid(2, 1)))
    assert kept == []
    assert duplicates == [("api", 1)]


@pytest.mark.parametrize("card", [0, 1])
def test_a_trans_num_is_free_again_behind_the_horizon(card):
    for seconds, expected in ((0, []), (1, [1])):
        detector = Detector(seen_days=30)
        detector.arrive(parsed(valid(0, 1)))
        late = RECEIVED_AT + timedelta(days=30, seconds=seconds)
        assert (
            positions(detector.arrive(parsed(valid(1, 1, card, received_at=late)))[0]) == expected
        )


@pytest.mark.parametrize("together", [True, False])
def test_a_rejected_payload_is_kept_once_if_it_has_a_trans_num_and_each_time_else(together):
    named, other = '{"trans_num": "x"}', '{"trans_num": "x", "amt": -1}'
    rows = [
        invalid(0, named, "x"),
        invalid(1, named, "x"),
        invalid(2, other, "x"),
        invalid(3),
        invalid(4),
    ]
    detector = Detector()
    batches = [rows] if together else [[row] for row in rows]
    outputs = [detector.arrive(parsed(*batch)) for batch in batches]
    kept = [row for _, rejected, _ in outputs for row in rejected]
    assert positions(kept) == [0, 2, 3, 4]
    assert {(row["payload"], row["reason"]) for row in kept} == {
        (named, "amt: missing"),
        (other, "amt: missing"),
        ("{}", "amt: missing"),
    }


def test_a_rejected_payload_does_not_take_the_trans_num_of_a_payment():
    name = valid(0, 1)["trans_num"]
    detector = Detector()
    kept, rejected, _ = detector.arrive(parsed(invalid(0, "{…}", name), valid(1, 1)))
    assert (positions(kept), positions(rejected)) == ([1], [0])


def test_a_payment_goes_out_with_every_column_as_it_came():
    row = valid(3, amt=12.34, category="ß…")
    ((out,), _, _) = Detector().arrive(parsed(row))
    assert list(out) == PAYMENTS.names
    names = [name for name in PAYMENTS.names if name not in FEATURE_NAMES]
    assert {name: out[name] for name in names} == {name: row.get(name) for name in names}


def test_only_first_arrivals_count_in_features():
    detector = Detector()
    detector.arrive(parsed(valid(0, 1), valid(1, 1), invalid(2, "{…}", "x")))
    kept, _, _ = detector.arrive(parsed(valid(3, 1), valid(4, 2), valid(5, 2), valid(6, 3)))
    assert [row["payment_count_by_card_24h"] for row in kept] == [1, 2]


def test_the_past_as_a_chunk_is_remembered_as_if_it_had_arrived():
    rows = [valid(n, card=n % 3, amt=n) for n in range(12)]
    names = "source position received_at payload reason cc_num trans_num category event_time amt"
    thin = parsed(*rows).select(names.split())
    for key, block in cut_into_buckets(thin, 2):
        (chunk,) = to_chunks(from_block(block))
        bucket = Bucket()
        bucket.add("0000", chunk)
        assert len(chunk.identifiers) == len(from_block(block))
        assert len(chunk.records) == (len(from_block(block)) if key >= 0 else 0)
        again = join_blocks(b for k, b in cut_into_buckets(parsed(*rows), 2) if k == key)
        (same,) = to_chunks(again)
        assert same.to_bytes() == chunk.to_bytes()


events = st.lists(
    st.tuples(
        st.integers(0, 3),  # the card
        st.integers(0, 7),  # the name
        st.sampled_from([0, 0, 1, 60, 86_400, -86_400]),  # event time, seconds
        st.sampled_from([True, True, True, False]),
        st.sampled_from([3, 3, 3, 24 * 12, 24 * 31]),  # hours since the one before
    ),
    max_size=24,
)


def rows_of_story(story):
    rows, received_at = [], RECEIVED_AT
    for position, (card, name, seconds, is_valid, hours) in enumerate(story):
        received_at += timedelta(hours=hours)
        moment = (received_at.timestamp() + seconds) * 1000
        rows.append(
            valid(position, name, card, received_at=received_at, current_time=moment, amt=position)
            if is_valid
            else invalid(position, f"{card}", f"{name}", received_at)
        )
    return rows


def first_arrivals(rows):
    """Those that their cards remember, and those whose name another card used before."""
    seen, first, taken = {}, [], []
    for row in rows:
        name, card, now = row["trans_num"], row.get("cc_num"), row["received_at"]
        known = {k: c for (n, c), k in seen.items() if n == name and (now - k).days < 30}
        if row.get("reason") or card in known.values():
            continue
        if known:
            taken.append(row)
        first.append(row)
        seen[name, card] = now
    return first, taken


@settings(max_examples=15, deadline=None)
@given(events, st.sets(st.integers(0, 24)), st.booleans())
def test_neither_buckets_nor_batches_change_what_goes_out(story, cuts, reverse):
    rows = rows_of_story(story)
    first, taken = first_arrivals(rows)
    features, _ = compute_features(arrays_of_table(parsed(*first)), Records.empty())
    expected = {
        row["position"]: tuple(features[name][n].tobytes() for name in FEATURE_NAMES)
        for n, row in enumerate(first)
        if row not in taken
    }
    bounds = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bucket_module, "_SMALLEST_BASE", 8)
        patch.setattr(bucket_module, "MOST_CHUNKS", 2)
        for buckets in (1, 3, MANY):
            detector, found, duplicates = Detector(buckets), {}, []
            for start, end in pairwise(bounds):
                tables = [parsed(*rows[start:end][n::2]) for n in (0, 1)]
                kept, _, named = detector.arrive(*(tables[::-1] if reverse else tables))
                found |= {
                    row["position"]: tuple(np.float64(row[n]).tobytes() for n in FEATURE_NAMES)
                    for row in kept
                }
                duplicates += named
            assert found == expected
            assert sorted(duplicates) == [("api", row["position"]) for row in taken]


def test_a_large_past_is_cut_into_chunks_that_share_no_card(monkeypatch):
    monkeypatch.setattr(arrivals, "_ROWS_A_CHUNK", 5)
    past = parsed(*(valid(n, card=n % 7) for n in range(60)))
    for key, block in cut_into_buckets(past, 2):
        arrived = from_block(block)
        chunks = list(to_chunks(arrived))
        hashes = [
            set((c.records.card if key >= 0 else c.identifiers.high).tolist()) for c in chunks
        ]
        assert len(chunks) > 2
        assert sum(map(len, hashes)) == len(set.union(*hashes))
        assert sum(len(c.identifiers) for c in chunks) == len(arrived)
        if key >= 0:
            told = [row for chunk in chunks for row in rows_of(chunk.records)]
            assert sorted(told) == sorted(rows_of(records_of(arrays_of_table(arrived))))
