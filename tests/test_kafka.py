"""Ingest and the score job on a real broker, by the commands of the README: payments of ingest and
of others, hits, a broker that does not take them, a second run, a lost checkpoint.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable

from conf.settings import load_settings
from tests.conftest import PROJECT, free_port, payment
from tests.kafka_broker import client_options, make_topics
from tests.models import register_champion
from tests.test_commands import System
from tests.test_poll import ok, server

LOGIN = ("fraud", "s3cret-of-kafka")
SUBMIT = ("spark-submit", "--load-spark-defaults", "--properties-file", "spark-kafka.conf")
CONFIG = ("--config", "conf/kafka.toml")
SCORE = (*SUBMIT, "jobs/score.py", *CONFIG, "--once")


@pytest.fixture
def system(
    environment: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator["KafkaSystem"]:
    server = f"127.0.0.1:{free_port()}"
    monkeypatch.delenv("FRAUD_LANDING__PATH")
    monkeypatch.setenv("FRAUD_KAFKA__BOOTSTRAP_SERVERS", server)
    monkeypatch.setenv("FRAUD_KAFKA__TIMEOUT_SECONDS", "20")
    monkeypatch.setenv("FRAUD_KAFKA__SECURITY_PROTOCOL", "SASL_PLAINTEXT")
    monkeypatch.setenv("FRAUD_KAFKA__SASL_MECHANISM", "PLAIN")
    monkeypatch.setenv("FRAUD_KAFKA__USERNAME", LOGIN[0])
    monkeypatch.setenv("FRAUD_KAFKA__PASSWORD", LOGIN[1])
    monkeypatch.setenv("SPARK_CONF_DIR", ".")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    for name in ("SPARK_HOME", "PYSPARK_PYTHON", "PYSPARK_SUBMIT_ARGS"):
        monkeypatch.delenv(name, raising=False)
    running = KafkaSystem(server, tmp_path)
    try:
        running.start("Kafka ", sys.executable, "-m", "tests.kafka_broker",
                      "--port", server.split(":")[1], "--folder", str(tmp_path / "kafka"),
                      "--login", ":".join(LOGIN))  # fmt: skip
        yield running
    finally:
        running.end()


class KafkaSystem(System):
    """The commands, and what stands in the topics and the tables."""

    def __init__(self, server: str, folder: Path) -> None:
        super().__init__(api_port=0)
        self.client, self.folder = client_options(server, LOGIN), folder

    def produce(self, *messages: tuple[str | None, bytes | None]) -> None:
        """Write bare messages, as another system would."""
        producer = Producer({**self.client, "partitioner": "murmur2"})
        for key, value in messages:
            producer.produce("payments", value, key)
        assert producer.flush(20) == 0

    def messages(self, topic: str) -> list[tuple[int, str, str]]:
        """Partition, key and value of every message in ``topic``."""
        consumer = Consumer({**self.client, "group.id": "test"})
        found = []
        for partition in consumer.list_topics(topic, timeout=20).topics[topic].partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=20)
            consumer.assign([TopicPartition(topic, partition, low)])
            for message in consumer.consume(high - low, timeout=20) if high > low else ():
                assert message.error() is None
                key, value = message.key() or b"", message.value() or b""
                found.append((partition, key.decode(), value.decode(errors="replace")))
        consumer.close()
        return found

    def ends(self) -> dict[int, int]:
        """The next offset of each partition of the topic of payments."""
        consumer = Consumer({**self.client, "group.id": "test"})
        partitions = consumer.list_topics("payments", timeout=20).topics["payments"].partitions
        ends = {
            number: consumer.get_watermark_offsets(TopicPartition("payments", number), timeout=20)[
                1
            ]
            for number in partitions
        }
        consumer.close()
        return ends

    def hits(self) -> list[tuple[int, dict]]:
        """Number of the payment, and the message, of every hit told."""
        told = [(key, json.loads(value)) for _, key, value in self.messages("fraud-alerts")]
        assert all(key == hit["trans_num"] for key, hit in told)
        return sorted(((int(key, 16), hit) for key, hit in told), key=lambda hit: hit[0])

    def table(self, name: str):
        return DeltaTable(str(self.folder / "warehouse" / name)).to_pandas()

    def numbers(self) -> list[int]:
        return sorted(int(name, 16) for name in self.table("transactions")["trans_num"])

    def register(self, score: str) -> None:
        """Make a model that answers ``score``, an expression of its inputs, the champion."""
        registry = load_settings(PROJECT / "conf" / "kafka.toml").registry
        register_champion(registry, self.folder, score)

    def poll(self, *payments: dict) -> None:
        """Let ingest fetch these payments, in one call."""
        rows = [list(item.values()) for item in payments]
        body = {"columns": list(payments[0]), "index": list(range(len(rows))), "data": rows}
        with server(ok(json.dumps(body).encode())) as url:
            os.environ["FRAUD_API__URL"] = url
            self.run(sys.executable, "-m", "ingest.poll", *CONFIG, "--max-polls", "1")


def bare(number: int, **changes) -> tuple[str, bytes]:
    """A payment as another system writes it, with its key."""
    values = payment(number, **changes)
    return str(values["cc_num"]), json.dumps(values).encode()


def test_from_topic_to_topic(system: KafkaSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    system.register('(model_input["amount_usd"] > 500).to_numpy().astype(float)')
    monkeypatch.setenv("FRAUD_API__URL", "")  # put back at the end
    system.poll(payment(1, amt=900), payment(2, amt=10), payment(7, cc_num="5000123412341234"))
    system.produce(
        bare(3, amt=950), ("k", b"no json"), bare(1, amt=5), (None, b"\xff\xfe"), (None, None)
    )
    landed = system.messages("payments")
    cards = {partition for partition, key, _ in landed if key == "4000123412341234"}
    assert len(cards) == 1  # whoever wrote it

    # The rows are committed, then the hits find no taker: a message there has at most 100 bytes.
    make_topics(system.client, {"narrow": 1}, {"max.message.bytes": "100"})
    with monkeypatch.context() as narrow:
        narrow.setenv("FRAUD_KAFKA__ALERTS_TOPIC", "narrow")
        system.run(*SCORE, status=1)
    assert system.numbers() == [1, 2, 3, 7]
    assert system.hits() == []
    check_rows(system)

    # The micro-batch comes again: once in the tables, and its hits are what the table says, though
    # the champion of today would see none.
    system.register("np.zeros(len(model_input))")
    system.produce(bare(4, amt=990), bare(2))
    system.run(*SCORE)
    assert system.numbers() == [1, 2, 3, 4, 7]
    assert len(system.table("rejected")) == 3
    assert [(number, hit["model_version"]) for number, hit in system.hits()] == [(1, "1"), (3, "1")]

    # A lost checkpoint: nothing again, nothing left out, and what was seen is known.
    system.register("np.ones(len(model_input))")
    shutil.rmtree(system.folder / "checkpoints" / "score")
    system.produce(bare(3, amt=1), bare(5, amt=700), ("k", b"no json again"))
    system.run(*SCORE)
    assert system.numbers() == [1, 2, 3, 4, 5, 7]
    assert len(system.table("rejected")) == 4
    assert [number for number, _ in system.hits()] == [1, 3, 5]
    lose_a_message(system, monkeypatch)
    for path in system.folder.rglob("*"):
        if path.is_file() and "kafka" not in path.relative_to(system.folder).parts:
            assert LOGIN[1].encode() not in path.read_bytes(), path


def lose_a_message(system: KafkaSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """The topic drops a message unread: the job says which, and goes on once it is asked to."""
    partition = next(iter(system.ends()))
    producer = Producer(system.client)
    producer.produce("payments", bare(8)[1], partition=partition)
    producer.flush(20)
    end = system.ends()[partition]
    admin = AdminClient(system.client)
    for dropped in admin.delete_records([TopicPartition("payments", partition, end)]).values():
        dropped.result(20)
    system.produce(bare(9))
    said = system.refused(*SCORE)
    assert f"partition {partition}: offsets {end - 1} to {end - 1} (1 messages)" in said
    shutil.rmtree(system.folder / "checkpoints" / "score")
    monkeypatch.setenv("FRAUD_KAFKA__SKIP_LOST", "true")
    system.run(*SCORE)
    assert system.numbers() == [1, 2, 3, 4, 5, 7, 9]


def check_rows(system: KafkaSystem) -> None:
    """Each row stands at its partition and offset, the first of two alike, with its receipt."""
    scored = system.table("transactions").set_index("trans_num")
    first, third = (scored.loc[payment(number)["trans_num"]] for number in (1, 3))
    assert (first["amt"], first["source"]) == (900, third["source"])
    assert first["position"] < third["position"]
    assert first["source"].startswith("payments/")
    assert (scored["ingested_at"] <= scored["scored_at"]).all()
    reasons = system.table("rejected").set_index("payload")["reason"].to_dict()
    assert reasons.pop("no json") == "not a JSON object"
    assert reasons.pop("//4=").startswith("not UTF-8")
    assert reasons.pop("") == "not a JSON object"
    assert not reasons
