import json
from datetime import UTC, datetime
from typing import ClassVar

import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, KafkaException

import ingest.kafka_landing
import ingest.topic
from conf.sections import KafkaSettings
from ingest.envelope import envelope_line
from ingest.kafka_landing import KafkaLanding, card_of
from ingest.pan_cipher import PanCipher
from ingest.reveal import reveal
from ingest.topic import Message, TopicWriter, kept_offsets
from jobs.envelopes import open_messages
from jobs.parse import Rules, parse_payloads
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
    longest: ClassVar = 10**9  # bytes of a message, to the producer, and of a batch, to the topic
    longest_batch: ClassVar = 10**9

    def __init__(self, options, **_):
        self.options, self.values, self._waiting = options, [], []
        self.made.append(self)

    def produce(self, topic, value, key, on_delivery):
        error = self.failures.get(value.decode())
        if isinstance(error, Exception):
            raise error
        if len(value) > self.longest:
            raise KafkaException(too_large())
        self._waiting.append((on_delivery, error, value.decode(), key))

    def flush(self, timeout):
        is_large = sum(len(item[2]) for item in self._waiting) > self.longest_batch
        for item in [item for item in self._waiting if item[2] not in self.mute]:
            self._waiting.remove(item)
            on_delivery, error, value, key = item
            error = too_large() if is_large else error
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
    fresh = {"made": [], "failures": {}, "mute": set(), "longest": 10**9, "longest_batch": 10**9}
    for name, value in fresh.items():
        monkeypatch.setattr(ScriptedProducer, name, value)
    monkeypatch.setattr(ingest.topic, "Producer", ScriptedProducer)
    return ScriptedProducer


@pytest.fixture
def landing(producer, tmp_path):
    return KafkaLanding(TopicWriter(KAFKA, "payments"), tmp_path / "too-long")


def timed_out():
    return KafkaError(KafkaError._MSG_TIMED_OUT)


def too_large():
    return KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)


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


def rejected(*values):
    """Payload and reason of each message, as the score job rejects it."""
    n = len(values)
    now = pa.array([datetime(2025, 1, 1, tzinfo=UTC)] * n, pa.timestamp("us", "UTC"))
    messages = {
        "value": pa.array([value.encode() for value in values]), "topic": ["payments"] * n,
        "partition": pa.array([0] * n, pa.int32()), "offset": pa.array(range(n), pa.int64()),
        "timestamp": now, "read_at": now,
    }  # fmt: skip
    rows = parse_payloads(open_messages(pa.table(messages)), Rules()).to_pylist()
    return [(row["payload"], row["reason"]) for row in rows]


LONG = {
    "a payment": json.dumps(payment(1, merchant="m" * 1_100_000)),
    "no text": b"\xff" * 800_000,
    "long characters": json.dumps(payment(1, merchant="\U0001f0a1" * 200_000)),
}


@pytest.mark.parametrize("payload", LONG.values(), ids=LONG)
@pytest.mark.parametrize("side", ["longest", "longest_batch"])
def test_of_a_row_too_long_for_the_topic_the_beginning_lands_and_the_whole_is_kept(
    landing, producer, tmp_path, payload, side, caplog
):
    setattr(producer, side, 1_000_000)
    short, long = line(json.dumps(payment(2))), line(payload)
    assert landing.land([short, long, short], 0).startswith("payments/0: ")
    landing.land([short], 2)
    values = written(producer)
    cut = max(values, key=len)
    assert (values.count(short), len(values)) == (3, 4)
    assert [key for made in producer.made for key, value in made.values if value == cut] == [
        card_of(long)
    ]
    (file,) = (tmp_path / "too-long").iterdir()
    assert file.read_text() == f"{long}\n"
    assert f"a row of {len(long):,} bytes is too long for topic payments" in caplog.text
    ((beginning, reason),) = rejected(cut)
    assert len(beginning) == 10_000
    assert json.loads(long)["payload"].startswith(beginning)
    assert reason == (
        f"too long for the topic: {len(long):,} bytes; ingest keeps the whole in {file}"
    )


def test_of_an_encrypted_row_no_part_lands_and_the_file_can_be_read(landing, producer, tmp_path):
    cipher = PanCipher(bytes(range(32)))
    producer.longest = 1_000_000
    landing.land([line(cipher.encrypted(b"x" * 900_000))], 0)
    ((payload, reason),) = rejected(*written(producer))
    assert payload == ""
    assert reason.startswith("too long for the topic: 1,200,")
    (file,) = (tmp_path / "too-long").iterdir()
    (whole,) = reveal(file.read_text().splitlines(), cipher)
    assert whole["payload"] == "x" * 900_000


def test_what_is_too_long_together_goes_one_by_one(landing, producer, tmp_path):
    lines = [line(json.dumps(payment(n))) for n in range(5)]
    producer.longest_batch = len(lines[0]) + 10
    landing.land(lines, 0)
    assert written(producer) == lines
    assert not (tmp_path / "too-long").exists()


def test_a_topic_of_short_messages_gets_no_beginning(landing, producer):
    producer.longest = 1000
    landing.land([line("x" * 2000)], 0)
    ((payload, reason),) = rejected(*written(producer))
    assert payload == ""
    assert reason.startswith("too long for the topic: 2,1")


def test_a_row_of_which_nothing_can_be_written_is_kept(landing, producer, tmp_path, monkeypatch):
    producer.longest = 100
    for lines in ([line("x" * 2000)], []):
        with pytest.raises(OSError, match=r"1 of 1 rows not written, .*size.* 1 go out again"):
            landing.land(lines, 0)
    producer.longest = 1000
    (file,) = (tmp_path / "too-long").iterdir()
    file.unlink()
    with monkeypatch.context() as full:
        full.setattr("os.replace", raise_full)
        with pytest.raises(OSError, match="2 rows not written, full;"):
            landing.land(["short"], 1)
    landing.land(["short"], 2)
    landing.land(["short"], 3)
    assert written(producer).count("short") == 3
    assert len(written(producer)) == 4
    assert file.exists()


def raise_full(*_):
    raise OSError("full")


def test_what_another_producer_says_of_a_cut_is_no_reason_of_ours():
    for encoding in ("cut from x bytes, whole in y", "cut from 1 bytes, whole in \x1b[2J", "cut"):
        text = json.dumps(json.loads(line("a")) | {"encoding": encoding})
        assert rejected(text) == [("a", "not UTF-8 text; the payload is its base64")]


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
