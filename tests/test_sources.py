import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyspark
import pytest

from conf.sections import KafkaSettings
from ingest.envelope import envelope_line
from ingest.topic import connection
from jobs.envelopes import ENVELOPES, MOMENT, open_messages
from jobs.kafka_gap import wanted_offsets
from jobs.parse import Rules, parse_payloads
from jobs.resume import behind
from jobs.sources import connection_options, kafka_messages, starting_offsets
from jobs.spark import last_commit
from tests.conftest import PROJECT, free_port, payment

SENT = datetime(2024, 11, 5, 12, tzinfo=UTC)
RECEIVED = datetime(2024, 11, 5, 11, tzinfo=UTC)
NOW = datetime(2024, 11, 6, tzinfo=UTC)
LATER = NOW + timedelta(days=365)


def packages(file):
    lines = (PROJECT / file).read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("spark.jars.packages ")]
    return line.split()[1].split(",")


def test_the_jars_for_kafka_are_the_default_ones_and_one_more():
    *default, kafka = packages("spark-kafka.conf")
    assert default == packages("spark-defaults.conf")
    assert kafka.endswith(f":{pyspark.__version__}")


def offsets(earliest, written):
    kept = {partition: range(first, 100) for partition, first in earliest.items()}
    return json.loads(starting_offsets("payments", kept, written))["payments"]


def test_a_topic_that_no_table_knows_is_read_from_its_start():
    assert offsets({0: 5, 1: 0}, {"payments-api": 900, "other/0": 3}) == {"0": -2, "1": -2}


def test_a_new_checkpoint_starts_with_the_last_message_written():
    assert offsets({0: 5, 1: 0}, {"payments/0": 70}) == {"0": 70, "1": -2}


def test_a_last_message_that_the_topic_dropped_is_not_asked_for():
    found = offsets({0: 70, 1: 71, 2: 72}, {f"payments/{number}": 70 for number in range(3)})
    assert found == {"0": 70, "1": 71, "2": 72}


def test_behind_what_was_written_is_what_has_a_higher_position():
    rows = [("a", 3), ("a", 4), ("b", -5), ("b", 0)]
    envelopes = pa.table(dict(zip(["source", "position"], zip(*rows, strict=True), strict=True)))
    kept = behind(envelopes, {"a": 3, "c": 9}).to_pylist()
    assert [tuple(row.values()) for row in kept] == rows[1:]
    assert behind(envelopes, {}) is envelopes


def test_messages_become_envelopes():
    bare = json.dumps(payment(1)).encode()
    values = [
        envelope_line("api", 900, RECEIVED, "ours").encode(),
        envelope_line("api", 901, RECEIVED, b"\xff").encode(),
        envelope_line("api", 902, LATER, "of tomorrow").encode(),
        bare,
        b'{"source": "api", "position": 1}',
        b"\xff\xfe",
        None,
        bare,
    ]
    n = len(values)
    messages = pa.table(
        {
            "value": pa.array(values, pa.binary()),
            "topic": ["payments"] * n,
            "partition": pa.array([3] * (n - 1) + [12], pa.int32()),
            "offset": [*range(40, 40 + n - 1), 7],
            "timestamp": pa.array([SENT] * (n - 1) + [LATER], MOMENT),
            "read_at": pa.array([NOW] * n, MOMENT),
        }
    )
    opened = open_messages(messages)
    assert opened.schema == ENVELOPES
    found = opened.sort_by([("source", "descending"), ("position", "ascending")]).to_pylist()
    assert [row["source"] for row in found] == ["payments/3"] * 7 + ["payments/12"]
    assert [row["position"] for row in found] == [*range(40, 47), 7]
    assert [row["payload"] for row in found] == [
        "ours", "/w==", "of tomorrow", bare.decode(), values[4].decode(), "//4=", "", bare.decode(),
    ]  # fmt: skip
    assert [row["encoding"] == "text" for row in found] == [True, False, True, True, True, False,
                                                            True, True]  # fmt: skip
    received = [row["received_at"] for row in found]
    assert received == [RECEIVED, RECEIVED, NOW, SENT, SENT, SENT, SENT, NOW]
    parsed = parse_payloads(opened, Rules()).to_pylist()
    assert sorted(row["position"] for row in parsed if row["reason"] is None) == [7, 43]


def test_brokers_that_do_not_answer_end_the_job_in_a_line(spark, capsys):
    nobody = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}", timeout_seconds=0.5)
    with pytest.raises(SystemExit):
        kafka_messages(spark, nobody, {}, "/nowhere")
    error = capsys.readouterr().err
    assert error.startswith("error: no topic payments on 127.0.0.1")
    assert error.count("\n") == 1


@pytest.fixture
def said(spark, capsys, monkeypatch, tmp_path):
    """What the job ends with where the topic has the offsets ``kept``, and tables ``written``."""

    def end(kept, written, **options):
        monkeypatch.setattr("jobs.sources.kept_offsets", lambda kafka, topic: kept)
        kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1", **options)
        with pytest.raises(SystemExit):
            kafka_messages(spark, kafka, written, str(tmp_path))
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    return end


def test_spark_without_its_kafka_source_says_how_to_submit(said):
    assert "--properties-file spark-kafka.conf" in said({0: range(0)}, {})


GONE = {0: range(120, 150), 1: range(5, 9), 2: range(0)}


def test_messages_that_the_topic_dropped_unread_end_the_job_with_advice(said):
    written = {"payments/0": 99, "payments/1": 4, "payments-api": 7, "payments/x": 3}
    told = said(GONE, written)
    assert "partition 0: offsets 100 to 119 (20 messages)." in told
    assert "FRAUD_KAFKA__SKIP_LOST=true" in told


def test_a_topic_that_was_made_anew_is_told_from_one_that_dropped_messages(said):
    written = {"payments/0": 149, "payments/1": 9, "payments/2": 0}
    told = said(GONE, written, skip_lost=True)
    assert "topic payments ends before what was scored of it (partition 1, 2)" in told
    assert "kafka.payments_topic" in told


def test_a_new_checkpoint_passes_over_what_is_lost_where_it_is_asked_to(said, caplog):
    told = said(GONE, {"payments/0": 99}, skip_lost=True)
    assert "spark-kafka.conf" in told  # as this Spark has no Kafka source
    assert "offsets 100 to 119 (20 messages)" in caplog.text


def test_a_checkpoint_that_ran_is_asked_for_the_next_offsets(spark, said, tmp_path):
    for folder in ("offsets", "commits"):
        (tmp_path / folder).mkdir()
    (tmp_path / "commits" / "8").write_text("v1\n{}")
    (tmp_path / "offsets" / "8").write_text(
        'v1\n{"batchWatermarkMs":0}\n{"payments":{"0":110,"1":9}}'
    )
    (tmp_path / "offsets" / "9").write_text(
        'v1\n{"batchWatermarkMs":0}\n{"payments":{"0":130,"1":9}}'
    )
    done = last_commit(spark, str(tmp_path))
    assert wanted_offsets(spark, str(tmp_path), done, "payments", {"payments/0": 5}) == {
        0: 110,
        1: 9,
    }
    assert "offsets 110 to 119 (10 messages)" in said(GONE, {}, skip_lost=True)


def test_a_login_goes_to_both_clients_and_shows_nowhere():
    kafka = KafkaSettings(
        bootstrap_servers="b:9093", security_protocol="SASL_SSL", username="fraud",
        password='s"e\\kret', ca_file="conf/ca.pem", key_file="conf/us.pem",
        options={"client.id": "us", "security.protocol": "PLAINTEXT"}, min_partitions=8,
    )  # fmt: skip
    assert "kret" not in repr(kafka)
    spark = connection_options(kafka)
    assert spark["kafka.sasl.jaas.config"] == (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        'username="fraud" password="s\\"e\\\\kret";'
    )
    assert (spark["kafka.security.protocol"], spark["minPartitions"]) == ("SASL_SSL", "8")
    assert spark["kafka.ssl.truststore.location"].endswith("/conf/ca.pem")
    assert spark["kafka.ssl.keystore.location"].endswith("/conf/us.pem")
    assert spark["kafka.client.id"] == "us"
    ours = connection(kafka)
    assert (ours["client.id"], ours["security.protocol"]) == ("us", "SASL_SSL")
    assert ours["ssl.key.location"] == spark["kafka.ssl.keystore.location"]
    assert ours["ssl.certificate.location"] == ours["ssl.key.location"]
    assert (ours["sasl.username"], ours["sasl.password"]) == ("fraud", 's"e\\kret')
    assert ours["ssl.ca.location"] == spark["kafka.ssl.truststore.location"]
    plain = kafka.model_copy(update={"sasl_mechanism": "PLAIN"})
    assert ".plain.PlainLoginModule " in connection_options(plain)["kafka.sasl.jaas.config"]


def test_no_login_no_options_of_one():
    kafka = KafkaSettings(bootstrap_servers="b:9092")
    assert connection(kafka) == {"bootstrap.servers": "b:9092", "security.protocol": "PLAINTEXT"}
    assert connection_options(kafka) == {
        "kafka.bootstrap.servers": "b:9092", "kafka.security.protocol": "PLAINTEXT",
    }  # fmt: skip
