"""Ingest and the score job on a real broker, over TLS and with a login, by the commands of the
README: payments of ingest and of others, hits, a broker that does not take them, a second run, a
lost checkpoint, a lost message. The password shows nowhere.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable

from conf.settings import load_settings
from ingest.topic import Message, TopicWriter, kept_offsets
from tests.answers import ok, server
from tests.certificates import make_certificate
from tests.conftest import PROJECT, free_port, payment
from tests.kafka_broker import Login, client_options, make_topics
from tests.models import register_champion
from tests.test_commands import System

LOGIN = Login("fraud", "s3cret-of-kafka")
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
    monkeypatch.setenv("FRAUD_KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("FRAUD_KAFKA__CA_FILE", str(tmp_path / "kafka" / "authority.pem"))
    monkeypatch.setenv("FRAUD_KAFKA__KEY_FILE", str(tmp_path / "kafka" / "server.pem"))
    monkeypatch.setenv("FRAUD_KAFKA__OPTIONS", '{"client.id": "fraud-detector-test"}')
    monkeypatch.setenv("FRAUD_KAFKA__SASL_MECHANISM", "PLAIN")
    monkeypatch.setenv("FRAUD_KAFKA__USERNAME", LOGIN.user)
    monkeypatch.setenv("FRAUD_KAFKA__PASSWORD", LOGIN.password)
    monkeypatch.setenv("SPARK_CONF_DIR", ".")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    for name in ("SPARK_HOME", "PYSPARK_PYTHON", "PYSPARK_SUBMIT_ARGS"):
        monkeypatch.delenv(name, raising=False)
    running = KafkaSystem(server, tmp_path)
    try:
        running.start("Kafka ", sys.executable, "-m", "tests.kafka_broker",
                      "--port", server.split(":")[1], "--folder", str(tmp_path / "kafka"),
                      "--user", LOGIN.user)  # fmt: skip
        yield running
    finally:
        running.end()


class KafkaSystem(System):
    """The commands, and what stands in the topics and the tables."""

    def __init__(self, server: str, folder: Path) -> None:
        super().__init__(api_port=0)
        self.client = client_options(server, folder / "kafka", LOGIN)
        self.folder = folder

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

    def drop(self, message: tuple[str, bytes]) -> tuple[int, int]:
        """Write a message, and have the topic drop it; its partition and offset."""
        placed: list[Any] = []
        producer = Producer(self.client)
        producer.produce("payments", message[1], on_delivery=lambda _, told: placed.append(told))
        assert producer.flush(20) == 0
        (told,) = placed
        behind = TopicPartition("payments", told.partition(), told.offset() + 1)
        admin = AdminClient(self.client)  # it works as long as it is held
        for dropped in admin.delete_records([behind]).values():
            dropped.result(20)
        return told.partition(), told.offset()

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
    refuse_strangers(system, monkeypatch)
    system.register('(model_input["amount_usd"] > 500).to_numpy().astype(float)')
    monkeypatch.setenv("FRAUD_API__URL", "")  # put back at the end
    long = payment(6, merchant="m" * 1_100_000)
    system.poll(
        payment(1, amt=900), payment(2, amt=10), payment(7, cc_num="5000123412341234"), long
    )
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
    # the champion of today would see none. Spark tells all that it tells of.
    system.register("np.zeros(len(model_input))")
    system.produce(bare(4, amt=990), bare(2))
    system.run(*SUBMIT, *talkative(system.folder), "jobs/score.py", *CONFIG, "--once")
    assert system.numbers() == [1, 2, 3, 4, 7]
    assert len(system.table("rejected")) == 4
    assert [(number, hit["model_version"]) for number, hit in system.hits()] == [(1, "1"), (3, "1")]

    # The topic drops a message unread: the job says which.
    partition, dropped = system.drop(bare(8))
    system.register("np.ones(len(model_input))")
    system.produce(bare(9), bare(3, amt=1), bare(5, amt=700), ("k", b"no json again"))
    said = system.refused(*SCORE)
    assert f"partition {partition}: offsets {dropped} to {dropped} (1 messages)" in said

    # It goes on once it is asked to. A lost checkpoint: nothing again, nothing left out, and what
    # was seen is known.
    shutil.rmtree(system.folder / "checkpoints" / "score")
    monkeypatch.setenv("FRAUD_KAFKA__SKIP_LOST", "true")
    system.run(*SCORE)
    assert system.numbers() == [1, 2, 3, 4, 5, 7, 9]
    assert len(system.table("rejected")) == 5
    assert [number for number, _ in system.hits()] == [1, 3, 5, 9]
    check_password(system)


def refuse_strangers(system: KafkaSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks a broker that others vouch for, is vouched for by others, or has another password,
    is told so.
    """
    other = make_certificate(system.folder / "others")
    for key, value, said in (
        ("CA_FILE", str(other.authority), "certificate verify failed"),
        ("KEY_FILE", str(other.server), "alert certificate unknown"),
        ("PASSWORD", f"not-{LOGIN.password}", "Invalid username or password"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(f"FRAUD_KAFKA__{key}", value)
            changed.setenv("FRAUD_KAFKA__TIMEOUT_SECONDS", "2")
            kafka = load_settings(PROJECT / "conf" / "kafka.toml").kafka
            assert kafka is not None
            with pytest.raises(OSError, match=said) as caught:
                kept_offsets(kafka, "payments")
            assert LOGIN.password not in str(caught.value)
            assert TopicWriter(kafka, "payments").write([Message("k", "v")]).failed


def talkative(folder: Path) -> tuple[str, ...]:
    """For a job's log from INFO on, whole messages, and for what Spark's pages show, as files."""
    log = folder / "info.properties"
    quiet = (PROJECT / "conf" / "log4j2.properties").read_text()
    told = quiet.replace("rootLogger.level = warn", "rootLogger.level = info")
    log.write_text(re.sub(r"layout.pattern = .*", "layout.pattern = %m%n", told))
    (folder / "events").mkdir()
    settings = {
        "driver.extraJavaOptions": f"-Dlog4j2.configurationFile={log}",
        "eventLog.enabled": "true",
        "eventLog.compress": "false",
        "eventLog.dir": (folder / "events").as_uri(),
    }
    return tuple(
        part for name, value in settings.items() for part in ("--conf", f"spark.{name}={value}")
    )


def check_password(system: KafkaSystem) -> None:
    """It stands in no file but the broker's own, and in nothing that a command said."""
    assert "sasl.jaas.config = [hidden]" in system.said
    assert LOGIN.password not in system.said
    files = [path for path in system.folder.rglob("*") if path.is_file()]
    ours = [path for path in files if "kafka" not in path.relative_to(system.folder).parts]
    events = b"".join(path.read_bytes() for path in ours if "events" in path.parts)
    assert events.count(b"KafkaV2[Subscribe[payments]]") >= 1  # progress
    assert events.count(b"KafkaScan") >= 1  # plans
    assert not [path for path in ours if LOGIN.password.encode() in path.read_bytes()]


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
    (cut,) = (payload for payload in reasons if payload.startswith('{"cc_num": 4000123412341234'))
    told = re.fullmatch(
        r"too long for the topic: 1,10\d,\d{3} bytes; ingest keeps the whole in (.*)",
        reasons.pop(cut),
    )
    assert told
    assert Path(told[1]).read_text().count("m" * 1_100_000) == 1
    assert not reasons
