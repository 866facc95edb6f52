import json

import pandas as pd

from ingest.schema import API_COLUMNS, InvalidPayment, check_payment
from ingest.simulator_faults import parse_faults
from ingest.simulator_sources import FileSource
from tests.simulator.simulated import NOON, Api, parsed, trans_nums


def test_the_first_call_finds_what_became_due_in_one_interval(source, frame):
    answer = Api(source, rate=2).call()

    assert answer.status == 200
    assert trans_nums(answer) == frame["trans_num"].head(24).tolist()


def test_rows_become_due_at_the_rate_and_the_last_ones_come_again(source, frame):
    api = Api(source, rate=2, overlap=3)
    api.call()

    second, third = api.call(after_seconds=10), api.call(after_seconds=0.5)

    assert trans_nums(second) == frame["trans_num"].iloc[21:44].tolist()
    assert trans_nums(third) == frame["trans_num"].iloc[41:45].tolist()


def test_a_clock_set_back_takes_no_row_back(source, frame):
    api = Api(source, rate=2, overlap=0)
    api.call()

    assert trans_nums(api.call(after_seconds=-30)) == []
    assert trans_nums(api.call(after_seconds=31)) == frame["trans_num"].iloc[24:26].tolist()


def test_an_answer_has_the_form_of_the_api(source, frame):
    content = parsed(Api(source, rate=1).call().body)

    assert list(content) == ["columns", "index", "data"]
    assert content["columns"] == list(API_COLUMNS)
    assert content["index"] == list(range(12))
    first = dict(zip(content["columns"], content["data"][0], strict=True))
    expected = frame.iloc[0]
    assert first["cc_num"] == int(expected["cc_num"])
    assert first["current_time"] == int(expected["unix_time"]) * 1000
    assert (first["amt"], first["city_pop"]) == (expected["amt"], expected["city_pop"])
    for name in ("cc_num", "city_pop", "is_fraud", "current_time"):
        assert isinstance(first[name], int)
    for row in content["data"]:
        check_payment(dict(zip(content["columns"], row, strict=True)))


def test_a_number_that_would_lose_zeros_stays_text(frame, tmp_path):
    changed = frame.head(3).assign(
        zip=["02108", "0", "97201"], cc_num=["0000400012341234", "4000123412341234", "123456789"]
    )
    changed.to_csv(tmp_path / "a.csv")

    rows = parsed(Api(FileSource([tmp_path / "a.csv"])).call().body)["data"]

    assert [row[API_COLUMNS.index("zip")] for row in rows] == ["02108", 0, 97201]
    assert [row[0] for row in rows] == ["0000400012341234", 4000123412341234, 123456789]


def test_the_body_is_now_json_and_now_text_that_holds_json(source):
    def kinds(seed: int) -> list[type]:
        api = Api(source, seed=seed)
        return [type(json.loads(api.call().body)) for _ in range(30)]

    assert {dict, str} == set(kinds(seed=1))
    assert kinds(seed=1) == kinds(seed=1) != kinds(seed=2)


def test_told_as_of_now_a_payment_has_the_moment_it_became_due(source):
    api = Api(source, rate=2, overlap=2, is_told_now=True)
    first = parsed(api.call(after_seconds=0).body)["data"]
    second = parsed(api.call(after_seconds=5).body)["data"]

    noon_ms = int(NOON * 1000)
    assert [row[-1] for row in first] == [noon_ms - 11_500 + 500 * i for i in range(24)]
    assert [row[-1] for row in second] == [noon_ms - 500 + 500 * i for i in range(12)]


def test_five_calls_in_any_minute(source):
    api = Api(source)
    allowed = [api.call(after_seconds=10).status for _ in range(5)]

    refused = api.call(after_seconds=5)

    assert allowed == [200] * 5
    assert (refused.status, refused.headers) == (429, {"Retry-After": "15"})
    assert api.call(after_seconds=14.9).status == 429
    assert api.call(after_seconds=0.1).status == 200
    assert api.call(after_seconds=9).status == 429


def test_refused_calls_use_nothing_up(source, frame):
    api = Api(source, calls_per_minute=1, rate=1, overlap=0)
    api.call()
    for _ in range(3):
        api.call(after_seconds=10)

    assert trans_nums(api.call(after_seconds=30)) == frame["trans_num"].iloc[60:120].tolist()


def test_an_exhausted_file_gives_empty_answers(source, frame):
    api = Api(source, rate=1e6)

    assert len(trans_nums(api.call())) == len(frame)
    assert parsed(api.call().body) == {"columns": list(API_COLUMNS), "index": [], "data": []}
    assert api.served()["distinct"] == len(frame)


def test_served_lists_what_good_answers_delivered(source, frame):
    api = Api(source, rate=1, overlap=3, faults=parse_faults("500=0.3,corrupt=0.1"))
    good = [answer for answer in (api.call() for _ in range(8)) if answer.is_delivered]
    rows = [row for answer in good for row in parsed(answer.body)["data"]]

    served = api.served(with_list=True)

    assert 0 < len(good) < 8
    assert (served["answers"], served["rows"]) == (len(good), len(rows))
    delivered = set(frame["trans_num"].iloc[: api.progress.next_row])
    assert served["distinct"] == len(delivered)
    assert served["trans_nums"] == sorted(served["trans_nums"])
    assert set(served["trans_nums"]) | set(served["corrupted_trans_nums"]) == delivered
    assert served["corrupted"] == len(served["corrupted_trans_nums"]) > 0
    assert not set(served["trans_nums"]) & set(served["corrupted_trans_nums"])
    valid = set()
    for row in rows:
        try:
            valid.add(check_payment(dict(zip(API_COLUMNS, row, strict=True)))["trans_num"])
        except InvalidPayment:
            continue
    assert sorted(valid) == served["trans_nums"]
    assert "trans_nums" not in api.served()


def test_two_rows_with_one_number_count_once(frame, tmp_path):
    pd.concat([frame.head(5), frame.head(2)]).to_csv(tmp_path / "a.csv")
    api = Api(FileSource([tmp_path / "a.csv"]))
    api.call()

    assert (api.served()["rows"], api.served()["distinct"]) == (7, 5)
