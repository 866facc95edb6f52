"""The training set as known at a time, on Delta tables of a few rows."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from ingest.payment_files import read_payments
from ingest.schema import check_payment
from jobs.tables import arrow_schema, ensure_table
from tests.conftest import payment
from tests.upkeep import keep_up
from training.dataset import NoExamples, build_dataset, moment_of
from training.validated import as_csv

T = datetime(2026, 3, 1, tzinfo=UTC)


def days_before(days):
    return T - timedelta(days=days)


@pytest.fixture
def fill(settings):
    """Append rows to a table; what is not told is NULL."""

    def append(table, *rows):
        path = ensure_table(settings.warehouse, table)
        write_deltalake(path, pa.Table.from_pylist(list(rows), arrow_schema(table)), mode="append")

    return append


def row(number, days=1, **changes):
    """A row of `transactions`, received so many days before T; the API says it is a fraud, and so
    does the model.
    """
    values = check_payment(payment(number, is_fraud=1, cc_num=4000_0000_0000 + number))
    told = {"source": "api", "position": number, "ingested_at": days_before(days)}
    return values | told | {"prediction": True, "fraud_score": 0.9, "label": True} | changes


def verdict(number, label, days=0.5, source="bank", line=1):
    return {
        "trans_num": f"{number:032x}", "label": label, "recorded_at": days_before(days),
        "source": source, "line": line,
    }  # fmt: skip


def file_of(tmp_path, *rows, name="history.csv"):
    path = tmp_path / name
    pd.DataFrame(rows).to_csv(path)
    return path


def told(dataset):
    """{number: (label, weight, origin)}."""
    rows = dataset.payments
    values = zip(rows["is_fraud"], rows["weight"], rows["origin"], strict=True)
    return {int(n, 16): value for n, value in zip(rows["trans_num"], values, strict=True)}


def test_verdicts_and_time_make_labels_and_nothing_else_does(settings, fill, tmp_path):
    fill(
        "transactions", row(1), row(2), row(3, 31), row(4, 31), row(5, 29), row(6, 0.1), row(7, -1)
    )
    fill("labels", verdict(1, True), verdict(2, False), verdict(4, True), verdict(7, True))
    fill("labels", verdict(6, False))
    files = [file_of(tmp_path, payment(8, is_fraud=1), payment(9))]
    known = build_dataset(files, settings, T)
    found = told(known)
    assert np.isnan(found.pop(5)[0])
    assert found == {
        8: (1, 1, "file"), 9: (0, 1, "file"), 3: (0, 1, "matured"), 4: (1, 1, "verified"),
        1: (1, 1, "verified"), 2: (0, 1, "verified"), 6: (0, 1, "verified"),
    }  # fmt: skip
    assert known.counts == {"file": 2, "verified": 4, "review": 0, "matured": 1, "context": 1}
    assert len(known.examples) == 7


def test_payments_stand_in_order_of_arrival_and_end_with_the_last_example(settings, fill, tmp_path):
    later = payment(9, current_time=1_717_245_300_000)
    files = [file_of(tmp_path, later, payment(8))]
    fill("transactions", row(1, 2, position=5), row(2, 3), row(3, 2, position=4), row(4, 0.1))
    fill("transactions", row(5, 2, source="aaa", position=9), row(6, 1))
    fill("duplicates", row(7, 2.5))
    fill("labels", verdict(6, True))
    known = build_dataset(files, settings, T)
    assert list(told(known)) == [8, 9, 2, 7, 5, 3, 1, 6]  # 4 is nobody's past
    assert (known.payments["ingested_at"][:2] == days_before(3)).all()
    assert known.payments["is_mature"].tolist() == [True, True] + [False] * 6


@pytest.mark.parametrize("table", ["transactions", "duplicates"])
def test_what_the_score_job_came_to_after_t_was_not_known_at_t(settings, fill, table):
    fill("transactions", row(1, 40))
    fill("labels", verdict(2, True), verdict(1, False))
    known = build_dataset([], settings, T)
    fill(table, row(2, 50, scored_at=T + timedelta(seconds=1)))
    assert build_dataset([], settings, T).fingerprint == known.fingerprint
    fill(table, row(3, 50, scored_at=T))
    assert set(told(build_dataset([], settings, T))) == {1, 3}
    later = build_dataset([], settings, T + timedelta(seconds=1))
    assert set(told(later)) == {1, 2, 3}


def test_the_last_verdict_until_then_counts(settings, fill):
    fill("transactions", row(1), row(2, 40))
    fill("labels", verdict(1, True, 3), verdict(1, False, 2), verdict(1, True, -1))
    assert told(build_dataset([], settings, T))[1] == (0, 1, "verified")
    assert told(build_dataset([], settings, T - timedelta(days=2.5)))[2] == (0, 1, "matured")
    assert told(build_dataset([], settings, T + timedelta(days=1)))[1] == (1, 1, "verified")


def test_verdicts_of_a_clock_that_was_ahead_are_counted(settings, fill, caplog):
    fill("transactions", row(1), row(2))
    ahead = datetime.now(UTC) + timedelta(days=365)
    fill("labels", verdict(1, True) | {"arrival": 1})
    build_dataset([], settings, T)
    assert not caplog.messages
    fill("labels", verdict(2, True) | {"arrival": 0, "recorded_at": ahead})
    fill("labels", verdict(1, False) | {"arrival": 0, "recorded_at": ahead})
    assert list(told(build_dataset([], settings, T))) == [1]
    assert caplog.messages[0].startswith(
        "2 verdicts are left out: they are recorded at a time yet "
    )
    caplog.clear()
    later = told(build_dataset([], settings, ahead))
    assert later == {1: (1, 1, "verified"), 2: (1, 1, "verified")}  # what arrived last
    assert not caplog.messages


def test_no_transaction_stands_twice(settings, fill, tmp_path):
    """What another card did with a trans_num is past alone."""
    card = row(1)["cc_num"]
    twice = [payment(1, is_fraud=1, cc_num=int(card)), payment(2), payment(2)]
    fill("transactions", row(1, 40), row(2, 40), row(3, 60), row(3, 20), row(4, 40))
    fill("duplicates", row(4, 50, cc_num="4999999999999"))
    fill("labels", verdict(2, True))
    known = build_dataset([file_of(tmp_path, *twice)], settings, T)
    rows = known.payments[["trans_num", "is_fraud", "origin", "cc_num"]]
    assert known.examples["trans_num"].is_unique
    assert rows[["is_fraud", "origin"]].fillna(-1).to_numpy().tolist() == [
        [1, "file"], [0, "file"], [0, "matured"], [-1, "context"], [-1, "context"], [0, "matured"],
    ]  # fmt: skip


def test_a_verdict_beats_what_a_file_says(settings, fill, tmp_path):
    files = [file_of(tmp_path, payment(1, is_fraud=1), payment(2), payment(3))]
    fill("labels", verdict(1, False), verdict(2, True, source="review"), verdict(3, True, -1))
    found = told(build_dataset(files, settings, T))
    assert found == {1: (0, 1, "verified"), 2: (1, 1, "review"), 3: (0, 1, "file")}


def test_a_verdict_on_another_cards_payment_says_nothing_of_the_file(settings, fill, tmp_path):
    files = [file_of(tmp_path, payment(1), payment(2, is_fraud=1))]
    fill("transactions", row(1, 40, cc_num="4999999999999"))
    fill("labels", verdict(1, True))
    assert [origin for _, _, origin in told(build_dataset(files, settings, T)).values()] == [
        "file", "file",
    ]  # fmt: skip
    assert build_dataset(files, settings, T).examples["is_fraud"].tolist() == [0, 1]


def drawn(number, probability, days=5):
    moment = days_before(days)
    return {"trans_num": f"{number:032x}", "drawn_at": moment, "probability": probability}


def test_a_fraud_that_only_its_review_found_stands_for_those_not_drawn(settings, fill):
    fill("transactions", *(row(number, 40) for number in range(1, 9)))
    fill("reviews", *(drawn(number, 0.05) for number in (1, 2, 3, 7, 8)))
    fill("reviews", drawn(4, 0.0001), drawn(5, 0.05, -1))
    by = {"source": "review"}
    fill("labels", verdict(1, True, **by), verdict(2, False, **by), verdict(3, True))
    fill("labels", verdict(4, True, **by), verdict(5, True, **by), verdict(6, True, **by))
    # Its holder reported it as well, before the analyst came to it; and another one after.
    fill("labels", verdict(7, True, 3), verdict(7, True, 2, **by))
    fill("labels", verdict(8, True, 3, **by), verdict(8, True, 2))
    assert told(build_dataset([], settings, T)) == {
        1: (1, 20, "review"), 2: (0, 1, "review"), 3: (1, 1, "verified"), 4: (1, 100, "review"),
        5: (1, 1, "review"), 6: (1, 1, "review"), 7: (1, 1, "verified"), 8: (1, 1, "verified"),
    }  # fmt: skip


def test_nothing_known_is_told(settings, fill):
    with pytest.raises(NoExamples, match="no payment has a label at 2026-03-01"):
        build_dataset([], settings, T)
    fill("transactions", row(1, 29))
    with pytest.raises(NoExamples, match=r"1, none with a verdict and none older than 30 days"):
        build_dataset([], settings, T)


def test_what_comes_later_and_rewriting_the_tables_change_no_bit(settings, fill, tmp_path):
    files = [file_of(tmp_path, payment(100), payment(101, is_fraud=1))]
    fill("transactions", *(row(number, 10 + number) for number in range(1, 40)))
    fill("duplicates", row(50, 20))
    fill("reviews", drawn(1, 0.1))
    fill("labels", verdict(1, True, source="review"), verdict(2, True))
    known = build_dataset(files, settings, T)
    content = as_csv(known.examples)
    fill("transactions", *(row(number, -number) for number in range(60, 70)))
    fill("labels", verdict(1, False, -1), verdict(2, False, -2), verdict(5, True, -3))
    fill("reviews", drawn(7, 0.5, -1))
    table = DeltaTable(settings.warehouse.table("transactions"))
    table.update(updates={"label": "true", "prediction": "false"}, predicate="position < 20")
    for name in ("transactions", "labels", "reviews"):
        table = DeltaTable(settings.warehouse.table(name))
        table.optimize.z_order(["trans_num"])
        table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    again = build_dataset(files, settings, T)
    assert again.fingerprint == known.fingerprint
    fill("transactions", row(70, -5), row(71, -6))
    keep_up(settings)
    again = build_dataset(files, settings, T)
    assert again.fingerprint == known.fingerprint
    assert as_csv(again.examples) == content
    later = build_dataset(files, settings, T + timedelta(days=4))
    assert later.fingerprint != known.fingerprint


def test_the_fingerprint_tells_labels_weights_and_the_past(settings, fill):
    fill("transactions", row(1, 40), row(2, 39))
    prints = {build_dataset([], settings, T).fingerprint}
    fill("duplicates", row(3, 39.5))
    prints.add(build_dataset([], settings, T).fingerprint)
    fill("labels", verdict(1, True, source="review"))
    prints.add(build_dataset([], settings, T).fingerprint)
    fill("reviews", drawn(1, 0.5))
    prints.add(build_dataset([], settings, T).fingerprint)
    assert len(prints) == 4


def test_examples_come_back_from_the_file_to_the_bit(settings, fill, tmp_path):
    odd = {"merchant": 'a "b", c', "city": "x\r\ny", "job": " NA", "street": "=1+1", "state": "",
           "amt": 0.1 + 0.2, "lat": 1e-7, "long": -122.68000000000001, "first": "Zoë\u2028"}  # fmt: skip
    fill("transactions", row(1, 40, **odd), row(2, 40, zip="00501", trans_date_trans_time=None))
    files = [file_of(tmp_path, payment(3, is_fraud=1, merch_lat=0.30000000000000004))]
    known = build_dataset(files, settings, T)
    path = tmp_path / "validated.csv"
    path.write_bytes(as_csv(known.examples))
    read = read_payments(path)
    expected = known.examples[read.columns].astype({"is_fraud": "int64"})
    pd.testing.assert_frame_equal(read, expected, check_exact=True)
    assert read["city"].iloc[1] == "x\r\ny"
    extra = pd.read_csv(path)
    assert extra["weight"].tolist() == [1, 1, 1]
    assert extra["origin"].tolist() == ["file", "matured", "matured"]
    assert extra["event_time"].str.startswith("2024-06-01T12:34:56").all()


def test_a_validated_file_and_the_tables_hold_each_payment_once(settings, fill, tmp_path):
    fill("transactions", row(1, 40), row(2, 39))
    path = tmp_path / "validated.csv"
    path.write_bytes(as_csv(build_dataset([], settings, T).examples))
    assert told(build_dataset([path], settings, T)) == {1: (0, 1, "file"), 2: (0, 1, "file")}


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-01T00:00:00Z", T),
        ("2026-03-01", T),
        ("2026-03-01T01:00:00+01:00", T),
    ],
)
def test_a_time_is_read_as_utc(text, moment):
    assert moment_of(text) == moment


def test_no_time_is_now_and_another_text_is_told():
    assert datetime.now(UTC) - moment_of("") < timedelta(seconds=10)
    with pytest.raises(ValueError, match=r"--as-of: expected a time .* 'soon'"):
        moment_of("soon")
