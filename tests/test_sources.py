import json
from datetime import UTC, datetime, timedelta

import pyspark
import pytest
from pyspark.sql.types import (
    BinaryType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from conf.settings import KafkaSettings
from ingest.envelope import envelope_line
from jobs.parse import ENVELOPE, check_payments
from jobs.sources import kafka_messages, open_messages, starting_offsets
from tests.conftest import PROJECT, free_port, payment

MESSAGES = StructType(
    [
        StructField("value", BinaryType()),
        StructField("topic", StringType()),
        StructField("partition", IntegerType()),
        StructField("offset", LongType()),
        StructField("timestamp", TimestampType()),
    ]
)
SENT = datetime(2024, 11, 5, 12, tzinfo=UTC)
RECEIVED = datetime(2024, 11, 5, 11, tzinfo=UTC)
LATER = datetime.now(UTC) + timedelta(days=365)


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


def test_messages_become_envelopes(spark):
    bare = json.dumps(payment(1)).encode()
    values = [
        envelope_line("api", 900, RECEIVED, "ours").encode(),
        envelope_line("api", 901, RECEIVED, b"\xff").encode(),
        envelope_line("api", 902, LATER, "of tomorrow").encode(),
        bare,
        b'{"source": "api", "position": 1}',
        b"\xff\xfe",
        None,
    ]
    rows = [
        (bytearray(value) if value is not None else None, "payments", 3, 40 + number, SENT)
        for number, value in enumerate(values)
    ]
    rows.append((bytearray(bare), "payments", 12, 7, LATER))
    opened = spark.createDataFrame(rows, MESSAGES).coalesce(1).transform(open_messages)
    assert opened.columns == ENVELOPE.fieldNames()
    checked = check_payments(opened, (), 1.0).selectExpr(
        "*", "unix_timestamp(received_at) AS received", "received_at > now() AS is_future"
    )
    found = checked.collect()
    assert [row["source"] for row in found] == ["payments/3"] * 7 + ["payments/12"]
    assert [row["position"] for row in found] == [*range(40, 47), 7]
    assert [row["payload"] for row in found] == [
        "ours", "/w==", "of tomorrow", bare.decode(), values[4].decode(), "//4=", "", bare.decode(),
    ]  # fmt: skip
    assert [row["encoding"] == "text" for row in found] == [True, False, True, True, True, False,
                                                            True, True]  # fmt: skip
    received = [row["received"] for row in found]
    assert received[:2] == [RECEIVED.timestamp()] * 2
    assert received[3:7] == [SENT.timestamp()] * 4
    assert not any(row["is_future"] for row in found)
    assert [row["reason"] is None for row in found].count(True) == 2
    assert found[3]["reason"] is None


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
