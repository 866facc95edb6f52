import json
from collections import Counter

import pytest

from ingest.schema import API_COLUMNS, InvalidPayment, check_payment
from ingest.simulator_answers import Progress
from ingest.simulator_faults import (
    ANSWER_FAULTS,
    CORRUPTIONS,
    FaultError,
    Faults,
    corrupted,
    parse_faults,
)
from tests.simulator.simulated import Api, parsed, trans_nums

FAULT_SIGNS = {
    "429": (429, {"Retry-After": "12"}),
    "429-bare": (429, {}),
    "500": (500, {}),
    "503": (503, {}),
    "timeout": (504, {}),
    "drop": (200, {}),
    "malformed": (200, {}),
}


@pytest.mark.parametrize("fault", ANSWER_FAULTS)
def test_a_spoiled_answer_delivers_nothing_so_that_its_rows_come_again(source, frame, fault):
    spoiled = Api(source, rate=1, hold_seconds=7, faults=Faults({fault: 1.0}))
    answer = spoiled.call()

    assert (answer.status, answer.headers) == FAULT_SIGNS[fault]
    assert answer.is_cut == (fault == "drop")
    assert answer.hold_seconds == (7 if fault == "timeout" else 0)
    assert not answer.is_delivered
    assert spoiled.progress == Progress()
    sound = Api(source, rate=1, progress=spoiled.progress).call()
    assert sound.is_delivered
    assert trans_nums(sound) == frame["trans_num"].head(12).tolist()


def test_malformed_bodies_end_early_or_are_no_utf8(source):
    api = Api(source, faults=Faults({"malformed": 1.0}))
    errors = Counter()
    for _ in range(40):
        with pytest.raises(ValueError, match=r".") as caught:
            json.loads(api.call().body.decode())
        errors[caught.type] += 1

    assert set(errors) == {json.JSONDecodeError, UnicodeDecodeError}
    assert min(errors.values()) > 5


def test_faults_happen_as_often_as_told(source):
    api = Api(source, faults=parse_faults("500=0.2, 503=0.3"))

    statuses = Counter(api.call().status for _ in range(1000))

    assert statuses[500] == pytest.approx(200, abs=50)
    assert statuses[503] == pytest.approx(300, abs=50)
    assert statuses[200] == pytest.approx(500, abs=60)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("501=0.1", "unknown fault '501'; there are 429, 429-bare, 500, 503, timeout, drop, "),
        ("500", "fault 500: expected a probability from 0 to 1, found ''"),
        ("500=often", "found 'often'"),
        ("corrupt=1.1", "found '1.1'"),
        ("drop=-0.1", "found '-0.1'"),
        ("500=nan", "found 'nan'"),
        ("500=0.6,503=0.6", "add up to 1.2"),
        ("500=0.1,500=0.2", "given twice"),
    ],
)
def test_faults_that_cannot_be_are_refused(text, problem):
    with pytest.raises(FaultError) as caught:
        parse_faults(text)

    assert problem in str(caught.value)


def test_faults_are_read():
    assert parse_faults("") == Faults({})
    assert parse_faults("500=0.1, corrupt=0.02,") == Faults({"500": 0.1}, corrupt=0.02)


def test_every_corruption_makes_a_payment_invalid(source):
    sound = dict(zip(API_COLUMNS, parsed(Api(source).call().body)["data"][0], strict=True))
    seen = set()
    for row in range(500):
        spoiled = corrupted(1, row, sound)
        differing = {name for name in API_COLUMNS if spoiled[name] is not sound[name]}
        assert len(differing) == 1
        seen |= {(name, repr(spoiled[name])) for name in differing}
        with pytest.raises(InvalidPayment):
            check_payment(spoiled)

    assert seen == {(column, repr(value)) for column, value in CORRUPTIONS}


def test_a_corrupt_row_is_corrupt_in_the_same_way_each_time(source):
    api = Api(source, rate=10, overlap=60, faults=Faults({}, corrupt=0.2))
    first, second = (parsed(api.call().body)["data"] for _ in range(2))

    assert repr(second[:60]) == repr(first[60:])
    sound = parsed(Api(source, rate=10).call().body)["data"]
    wrong = sum(repr(row) != repr(whole) for row, whole in zip(first, sound, strict=True))
    assert 12 <= wrong <= 36


def test_corrupt_rows_are_the_same_whichever_rows_are_asked():
    faults = Faults({}, corrupt=0.1)
    whole = faults.is_corrupt(1, 0, 10_000)

    assert (faults.is_corrupt(1, 4000, 8300) == whole[4000:8300]).all()
    assert 900 < whole.sum() < 1100
    assert (faults.is_corrupt(2, 0, 10_000) != whole).any()
    assert len(faults.is_corrupt(1, 5, 5)) == 0
