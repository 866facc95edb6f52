import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyspark
import pytest

from conf.sections import KafkaSettings
from ingest.envelope import envelope_line
from jobs.envelopes import ENVELOPES, MOMENT, open_messages
from jobs.parse import Rules, parse_payloads
from jobs.resume import behind
from jobs.sources import kafka_messages, starting_offsets
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
    return json.loads(starting_offsets("payments", earliest, written))["payments"]


def test_a_topic_that_no_table_knows_is_read_from_its_start():
    assert offsets({0: 5, 1: 0}, {"payments-api": 900, "other/0": 3}) == {"0": -2, "1": -2}


def test_a_new_checkpoint_starts_with_the_last_message_written():
    assert offsets({0: 5, 1: 0}, {"payments/0": 70}) == {"0": 70, "1": -2}


def test_a_last_message_that_the_topic_dropped_is_not_asked_for():
    # One that was never read is: Spark then ends the query.
    found = offsets({0: 70, 1: 71, 2: 72}, {f"payments/{number}": 70 for number in range(3)})
    assert found == {"0": 70, "1": 71, "2": 71}


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
        kafka_messages(spark, nobody, {})
    error = capsys.readouterr().err
    assert error.startswith("error: no topic payments on 127.0.0.1")
    assert error.count("\n") == 1


def test_spark_without_its_kafka_source_says_how_to_submit(spark, capsys, monkeypatch):
    monkeypatch.setattr("jobs.sources.earliest_offsets", lambda kafka, topic: {0: 0})
    with pytest.raises(SystemExit):
        kafka_messages(spark, KafkaSettings(bootstrap_servers="127.0.0.1:1"), {})
    assert "--properties-file spark-kafka.conf" in capsys.readouterr().err
