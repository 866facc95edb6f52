import json
from datetime import UTC, datetime
from typing import ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException

import ingest.kafka_landing
import ingest.topic
from conf.sections import KafkaSettings
from ingest.envelope import envelope_line
from ingest.kafka_landing import KafkaLanding, card_of
from ingest.topic import Message, TopicWriter, kept_offsets
from tests.conftest import free_port, payment

KAFKA = KafkaSettings(bootstrap_servers="127.0.0.1:9092", timeout_seconds=0.5)


class Told:
    def __init__(self, offset):
        self._offset = offset

    def partition(self):
        return self._offset % 2

    def offset(self):
        return self._offset


class ScriptedProducer:
    """Acknowledges what it is given, but for values in ``failures``; ``mute`` ones it never tells
    of until it is purged.
    """

    made: ClassVar = []
    failures: ClassVar = {}
    mute: ClassVar = set()

    def __init__(self, options, **_):
        self.options, self.values, self._waiting = options, [], []
        self.made.append(self)

    def produce(self, topic, value, key, on_delivery):
        error = self.failures.get(value.decode())
        if isinstance(error, Exception):
            raise error
        self._waiting.append((on_delivery, error, value.decode(), key))

    def flush(self, timeout):
        for item in [item for item in self._waiting if item[2] not in self.mute]:
            self._waiting.remove(item)
            on_delivery, error, value, key = item
            if error is None:
                self.values.append((key and key.decode(), value))
            on_delivery(error, Told(100 + len(self.values)))
        return len(self._waiting)

    def purge(self):
        for on_delivery, *_ in self._waiting:
            on_delivery(KafkaError(KafkaError._PURGE_INFLIGHT), None)
        self._waiting = []


@pytest.fixture
def producer(monkeypatch):
    for name, value in (("made", []), ("failures", {}), ("mute", set())):
        monkeypatch.setattr(ScriptedProducer, name, value)
    monkeypatch.setattr(ingest.topic, "Producer", ScriptedProducer)
    return ScriptedProducer


@pytest.fixture
def landing(producer):
    return KafkaLanding(TopicWriter(KAFKA, "payments"))


def timed_out():
    return KafkaError(KafkaError._MSG_TIMED_OUT)


def written(producer):
    return [value for made in producer.made for _, value in made.values]


def line(payload):
    return envelope_line("api", 0, datetime(2024, 11, 5, tzinfo=UTC), payload)


@pytest.mark.parametrize(
    ("payload", "card"),
    [
        (json.dumps(payment()), "4000123412341234"),
        (json.dumps(payment(cc_num="4000123412341234")), "4000123412341234"),
        (json.dumps(payment(cc_num="0000123412341234")), "0000123412341234"),
        (json.dumps(payment(cc_num=4.5)), None),
        (json.dumps(payment(cc_num=True)), None),
        (json.dumps(payment(cc_num=...)), None),
        (json.dumps(payment(cc_num=["4000123412341234"])), None),
        ("no json", None),
        ("[1]", None),
        ("7", None),
        ("[" * 100_000, None),
        ('{"cc_num": ' + "9" * 5000 + "}", None),
        (b"\xff\xfe", None),
    ],
)
def test_the_key_is_the_card_as_digits(payload, card):
    assert card_of(line(payload)) == card


def test_rows_land_in_order_and_are_acknowledged_by_all(landing, producer):
    lines = [line(json.dumps(payment(1))), line("no json")]
    assert landing.land(lines, 7) == "payments/0: 102 to 102, payments/1: 101 to 101"
    (made,) = producer.made
    assert made.values == [("4000123412341234", lines[0]), (None, lines[1])]
    assert made.options["acks"] == "all"
    assert made.options["enable.idempotence"] is True
    assert made.options["message.timeout.ms"] == 500


@pytest.mark.parametrize("error", [timed_out(), KafkaException(timed_out()), BufferError("full")])
def test_what_was_not_acknowledged_goes_out_before_the_next_answer(landing, producer, error):
    producer.failures = {"b": error}
    with pytest.raises(OSError, match=r"1 of 3 rows not written.* 1 go out again"):
        landing.land(["a", "b", "c"], 0)
    with pytest.raises(OSError, match="1 of 2 rows not written"):
        landing.land(["d"], 3)
    producer.failures = {}
    landing.land(["e"], 4)
    landing.land(["f"], 5)
    assert written(producer) == ["a", "c", "d", "b", "e", "f"]
    assert len(producer.made) == 3  # one that failed is used no more, one that works is kept


def test_a_row_without_an_answer_counts_as_not_written(landing, producer):
    producer.mute = {"b"}
    with pytest.raises(OSError, match="1 of 2 rows not written"):
        landing.land(["a", "b"], 0)
    producer.mute = set()
    landing.land(["c"], 2)
    assert written(producer) == ["a", "b", "c"]


def test_a_row_too_long_for_the_topic_does_not_hold_up_the_others(landing, producer):
    producer.failures = {"b": KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))}
    with pytest.raises(OSError, match="1 do not: too long"):
        landing.land(["a", "b"], 0)
    landing.land(["c"], 2)
    assert written(producer) == ["a", "c"]


def test_kept_rows_are_bounded(landing, producer, monkeypatch):
    monkeypatch.setattr(ingest.kafka_landing, "MAX_KEPT_ROWS", 2)
    producer.failures = dict.fromkeys("abc", timed_out())
    with pytest.raises(OSError, match="2 go out again before the next answer, 1 do not"):
        landing.land(["a", "b", "c"], 0)
    producer.failures = {}
    landing.land(["d"], 3)
    assert written(producer) == ["a", "b", "d"]


def test_the_end_tries_a_last_time_and_tells_of_what_is_lost(landing, producer, caplog):
    landing.close()
    assert producer.made == []
    producer.failures = {"a": timed_out()}
    with pytest.raises(OSError, match="not written"):
        landing.land(["a"], 0)
    landing.close()
    assert "rows that were received are lost" in caplog.text
    producer.failures = {}
    landing.close()
    assert written(producer) == ["a"]


def test_without_a_broker_nothing_counts_as_written():
    nobody = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}", timeout_seconds=0.5)
    delivery = TopicWriter(nobody, "payments").write([Message("k", "v")])
    assert delivery.offsets == {}
    assert [message for message, _ in delivery.failed] == [Message("k", "v")]
    with pytest.raises(OSError, match="no topic payments on 127"):
        kept_offsets(nobody, "payments")
