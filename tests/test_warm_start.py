"""What a new checkpoint is given of the past."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.bucket import DAYS_OF_DOUBT, Chunk
from jobs.history import MOST_DAYS
from jobs.schemas import WRITTEN_TABLES
from jobs.tables import arrow_schema, ensure_table
from jobs.warm_start import past_chunks
from tests.conftest import payment
from tests.written_rows import scored_rows

NOW = datetime(2024, 12, 24, 12, tzinfo=UTC)


@pytest.fixture
def past(spark, settings, tmp_path):
    """The amounts, in dollars, of the payments that a new checkpoint is given, and how many
    identifiers; ``rows`` are those of `transactions`.
    """

    def given(rows, rejected=(), **score):
        path, *_ = [ensure_table(settings.warehouse, name) for name in WRITTEN_TABLES]
        write_deltalake(path, pa.concat_tables(rows), mode="append")
        write_deltalake(
            settings.warehouse.table("rejected"),
            pa.Table.from_pylist(list(rejected), arrow_schema("rejected")),
            mode="append",
        )
        job = settings.model_copy(update={"score": settings.score.model_copy(update=score)})
        chunks = past_chunks(spark, job, {"api": 99, "b": 99}, str(tmp_path / "past"), NOW)
        kept = {True: [], False: []}
        for row in chunks.collect():
            kept[row["bucket"] >= 0].append(Chunk.from_bytes(bytes(row["block"])))
        cents = [c for chunk in kept[True] for c in chunk.records.cents.tolist()]
        names = [sum(len(chunk.identifiers) for chunk in kept[cards]) for cards in (True, False)]
        once = {row["payload"] for row in rejected if "trans_num" in row["payload"]}
        assert names == [len(cents) + len(once), len(cents)]
        return sorted(c / 100 for c in cents)

    return given


def received(position, days_ago, **changes):
    return scored_rows(
        position, amt=float(position), ingested_at=NOW - timedelta(days=days_ago), **changes
    )


def test_a_payment_that_a_lagging_source_still_sees_is_given(past):
    """As the buckets of a stream that runs: the source may lag by ``DAYS_OF_DOUBT``."""
    still = MOST_DAYS + DAYS_OF_DOUBT
    rows = [received(1, still), received(2, 0, source="b"), received(3, still + 2)]
    assert past(rows) == [1, 2]


def test_what_was_rejected_is_given_once_and_not_what_may_come_again(past):
    payloads = ['{"trans_num": "a"}'] * 3 + ['{"trans_num": "b"}', "no json", "no json"]
    moments = [NOW - timedelta(days=place) for place in range(len(payloads))]
    bad = [
        {"source": "api", "position": 9, "payload": payload, "reason": "r", "received_at": moment}
        for payload, moment in zip(payloads, moments, strict=True)
    ]
    assert past([received(7, 1), received(8, 1)], bad) == [7, 8]


def test_a_receipt_in_the_future_takes_no_payment_away(past):
    assert past([received(1, 20), received(2, 0), received(3, -400)]) == [1, 2, 3]


def test_a_payment_of_files_counts_once_and_not_where_the_tables_hold_it(past, tmp_path):
    path = tmp_path / "history.csv"
    other = {"cc_num": 5000123412341234}
    told = [payment(1, amt=91), payment(2, amt=92), payment(4, amt=94), payment(2, amt=95)]
    pd.DataFrame([*told, payment(2, amt=96, **other)]).to_csv(path, index=False)
    rows = [received(1, 2), received(3, 1), received(3, 40, source="b")]
    assert past(rows, history=(str(path),)) == [1, 3, 3, 92, 94, 96]
