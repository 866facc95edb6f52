import csv
import gzip
import random
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from ingest.payment_files import PaymentFileError, event_times, first_of_each, read_payments
from ingest.schema import API_COLUMNS, InvalidPayment, check_payment, event_time_of

PAYMENT = {
    "cc_num": "4000123412341234",
    "merchant": "fraud_Bellmoor Market",
    "category": "grocery_pos",
    "amt": "41.57",
    "first": "Ada",
    "last": "Frost",
    "gender": "F",
    "street": "1 Elm Street",
    "city": "Rockport",
    "state": "MA",
    "zip": "01966",
    "lat": "42.6601",
    "long": "-70.62",
    "city_pop": "7000",
    "job": "Editor, magazine",
    "dob": "1985-02-28",
    "trans_num": "00ff",
    "merch_lat": "42.1",
    "merch_long": "-70.9",
    "is_fraud": "0",
    "current_time": "1732732699617",
    "trans_date_trans_time": "2020-06-21 12:14:25",
    "unix_time": "1371816865",
}
KAGGLE_COLUMNS = ("", *(name for name in PAYMENT if name != "current_time"))


def payment(**changes: str) -> dict[str, str]:
    return {**PAYMENT, **changes}


def write(path: Path, columns, *payments: dict[str, str]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for number, row in enumerate(payments):
            writer.writerow([row.get(name, str(number)) for name in columns])
    return path


def test_kaggles_format_takes_its_time_from_the_date(tmp_path):
    path = write(tmp_path / "fraudTest.csv", KAGGLE_COLUMNS, payment(), payment(zip="1966"))

    frame = read_payments(path)

    assert frame["event_time"].tolist() == [pd.Timestamp("2020-06-21 12:14:25", tz="UTC")] * 2
    assert frame["unix_time"].tolist() == [1371816865] * 2
    assert frame["zip"].tolist() == ["01966", "1966"]
    assert set(frame) == {*PAYMENT, "event_time"} - {"current_time"}


def test_the_apis_format_takes_its_time_from_current_time(tmp_path):
    frame = read_payments(write(tmp_path / "api.csv", API_COLUMNS, payment()))

    assert frame["event_time"].tolist() == [pd.Timestamp("2024-11-27 18:38:19.617", tz="UTC")]
    assert list(frame) == [*API_COLUMNS, "event_time"]


def test_columns_have_the_types_of_the_schema(tmp_path):
    frame = read_payments(write(tmp_path / "all.csv", PAYMENT, payment()))

    types = frame.dtypes.astype(str).to_dict()
    assert {types[name] for name in ("amt", "lat", "long", "merch_lat", "merch_long")} == {
        "float64"
    }
    assert {types[name] for name in ("city_pop", "is_fraud")} == {"int64"}
    assert {types[name] for name in ("current_time", "unix_time")} == {"Int64"}
    assert types["event_time"] == "datetime64[us, UTC]"
    texts = frame.select_dtypes(object)
    assert list(texts) == [
        *("cc_num", "merchant", "category", "first", "last", "gender", "street", "city", "state"),
        *("zip", "job", "dob", "trans_num", "trans_date_trans_time"),
    ]
    assert all(isinstance(value, str) for value in texts.iloc[0])


def test_files_of_both_formats_follow_one_another(tmp_path):
    api = write(tmp_path / "a.csv", API_COLUMNS, payment(trans_num="second"))
    kaggle = write(tmp_path / "b.csv", KAGGLE_COLUMNS, payment(trans_num="first"))

    frame = read_payments(kaggle, api)

    assert frame["trans_num"].tolist() == ["first", "second"]
    assert frame.index.tolist() == [0, 1]
    assert frame["trans_date_trans_time"].tolist() == ["2020-06-21 12:14:25", None]
    assert frame["current_time"].isna().tolist() == [True, False]
    assert frame["event_time"].dt.year.tolist() == [2020, 2024]


def test_gzip_is_read(tmp_path):
    plain = write(tmp_path / "a.csv", PAYMENT, payment())
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))

    pd.testing.assert_frame_equal(read_payments(packed), read_payments(plain))


def test_numbers_keep_their_last_bit(tmp_path):
    rng = random.Random(1)
    amounts = [rng.uniform(0, 1e4) for _ in range(500)]
    path = write(tmp_path / "a.csv", PAYMENT, *(payment(amt=repr(amount)) for amount in amounts))

    assert read_payments(path)["amt"].tolist() == amounts


def test_words_that_look_like_nothing_stay_text(tmp_path):
    path = write(tmp_path / "a.csv", PAYMENT, payment(last="Null", first="NA", job=""))

    row = read_payments(path).iloc[0]

    assert (row["last"], row["first"], row["job"]) == ("Null", "NA", "")


TIMES = [
    ("2020-06-21 12:14:25", 1732732699617),
    ("2020-06-21 12:14:25", None),
    (None, 1732732699617),
    (None, 1),
    (None, 0.1235),
    (None, None),
    (None, -1),
    (None, 1e14),
    (None, 7258118399999),
    (None, 7258118400000),
    ("2020-06-21", 1732732699617),
    ("2020-02-30 00:00:00", None),
    ("2020-6-1 1:02:03", None),
    ("2020-06-21 12:14:60", None),
    ("2020-06-21 12:14:25 ", None),
    ("1969-12-31 23:59:59", None),
    ("2199-12-31 23:59:59", None),
    ("2200-01-01 00:00:00", None),
    ("", 1732732699617),
]


def one_by_one(text: str | None, milliseconds: float | None) -> datetime | None:
    try:
        return event_time_of(text, milliseconds)
    except InvalidPayment:
        return None


def test_event_times_is_event_time_of_for_every_row():
    frame = pd.DataFrame(TIMES, columns=["trans_date_trans_time", "current_time"], dtype=object)

    found = [None if pd.isna(time) else time.to_pydatetime() for time in event_times(frame)]

    assert found == [one_by_one(*pair) for pair in TIMES]
    assert event_times(frame[["current_time"]]).notna().sum() == 7
    assert event_times(frame[["trans_date_trans_time"]]).notna().sum() == 3


BAD_VALUES = [
    ("cc_num", "4000-1234"),
    ("cc_num", "1234567"),
    ("amt", "twelve"),
    ("amt", ""),
    ("amt", "-0.01"),
    ("amt", "inf"),
    ("lat", "90.5"),
    ("city_pop", "12.5"),
    ("dob", "1985-02-30"),
    ("dob", "28.02.1985"),
    ("dob", "19850228"),
    ("trans_num", ""),
    ("is_fraud", "2"),
    ("current_time", "yesterday"),
    ("trans_date_trans_time", "2020-02-30 00:00:00"),
    ("trans_date_trans_time", "soon"),
]


@pytest.mark.parametrize(("column", "value"), BAD_VALUES)
def test_a_bad_value_is_named_with_its_row(tmp_path, column, value):
    path = write(tmp_path / "bad.csv", PAYMENT, payment(), payment(**{column: value}))

    with pytest.raises(PaymentFileError) as caught:
        read_payments(path)

    message = str(caught.value)
    assert message.startswith(f"{path}: row 2: ")
    assert column in message
    assert f"found {value!r}" in message or f"{column} {value!r}" in message
    assert "row 1" not in message
    with pytest.raises(InvalidPayment):
        check_payment({**PAYMENT, column: value})


def test_a_row_without_any_time_is_named(tmp_path):
    path = write(tmp_path / "bad.csv", PAYMENT, payment(current_time="", trans_date_trans_time=""))

    with pytest.raises(PaymentFileError, match="row 1: event time: expected"):
        read_payments(path)


def test_of_many_problems_the_first_are_listed_and_the_rest_counted(tmp_path):
    rows = [payment(amt="?", lat="?")] * 6
    path = write(tmp_path / "bad.csv", PAYMENT, *rows)

    with pytest.raises(PaymentFileError, match=r"row 5: lat: .*; and 2 more$") as caught:
        read_payments(path)

    assert str(caught.value).count("; row ") == 9


def test_missing_columns_are_named_beside_those_there_are(tmp_path):
    columns = [name for name in KAGGLE_COLUMNS if name not in ("amt", "trans_date_trans_time")]
    path = write(tmp_path / "short.csv", columns, payment())

    with pytest.raises(PaymentFileError) as caught:
        read_payments(path)

    assert str(caught.value).startswith(
        f"{path}: missing columns amt, trans_date_trans_time or current_time; "
        "there are cc_num, merchant"
    )


def test_files_that_are_no_csv_are_refused(tmp_path):
    def content(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    header = ",".join(PAYMENT).encode()
    row = ",".join(f'"{value}"' for value in PAYMENT.values()).encode()
    not_whole = gzip.compress(random.Random(1).randbytes(1000))[:500]
    for path, problem in (
        (tmp_path / "none.csv", "no such file"),
        (content("empty.csv", b""), "not a CSV file"),
        (content("bytes.csv", b"\xff\xfe\x00\x01"), "not a CSV file"),
        (content("end.csv.gz", not_whole), "not a CSV file"),
        (content("long.csv", header + b"\n" + row + b",1\n"), "not a CSV file"),
    ):
        with pytest.raises(PaymentFileError, match=f"{path}: {problem}"):
            read_payments(path)
    with pytest.raises(PaymentFileError, match="no file"):
        read_payments()


def test_the_time_of_a_file_is_the_one_of_the_single_payment(tmp_path):
    path = write(tmp_path / "a.csv", PAYMENT, payment(), payment(trans_date_trans_time=""))

    expected = [datetime(2020, 6, 21, 12, 14, 25, tzinfo=UTC), event_time_of(None, 1732732699617)]

    assert read_payments(path)["event_time"].tolist() == expected


def test_of_payments_with_the_same_trans_num_the_first_counts(tmp_path):
    rows = [payment(trans_num=name * 32, amt=str(n)) for n, name in enumerate("abacb")]
    read = read_payments(write(tmp_path / "a.csv", PAYMENT, *rows))
    assert first_of_each(read)["amt"].tolist() == [0, 1, 3]
    assert first_of_each(read, ["b" * 32]).index.tolist() == [0, 1]
    assert first_of_each(read, ["b" * 32])["amt"].tolist() == [0, 3]
