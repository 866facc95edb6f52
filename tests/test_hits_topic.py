import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError
from pyspark.sql import Row

from ingest.topic import Delivery
from jobs.hits_topic import HIT_COLUMNS, HitsTopic, hit_json, observe_hits

NOON = datetime(2024, 11, 5, 12, tzinfo=UTC)


class Writer:
    topic = "fraud-alerts"

    def __init__(self):
        self.sent, self.failing = [], False

    def write(self, messages):
        if self.failing:
            return Delivery({}, [(messages[0], KafkaError(KafkaError._MSG_TIMED_OUT))])
        self.sent.append([(item.key, json.loads(item.value)["fraud_score"]) for item in messages])
        return Delivery({0: [0]}, [])


def transactions(spark, *rows):
    """Rows of ``transactions``: trans_num, position, score; a hit from 0.5 on."""
    return spark.createDataFrame(
        [
            dict.fromkeys(HIT_COLUMNS, "x") | {
                "trans_num": name, "source": "payments/0", "position": position, "reasons": ["why"],
                "fraud_score": score, "prediction": score >= 0.5, "ingested_at": NOON,
                "scored_at": NOON, "event_time": NOON,
            }
            for name, position, score in rows
        ]
    )  # fmt: skip


def batch(spark, *positions):
    return spark.createDataFrame(
        [Row(source="payments/0", position=position, received_at=NOON) for position in positions]
    )


def test_a_hit_is_told_whole():
    hit = {name: name for name in HIT_COLUMNS} | {
        "event_time": datetime(2024, 11, 5, 12, 0, 1, 250_000, tzinfo=UTC), "amt": 84.5,
        "scored_at": NOON.astimezone().replace(tzinfo=None), "reasons": ["a", "b"], "zip": "97201",
    }  # fmt: skip
    told = json.loads(hit_json(hit))
    assert tuple(told) == HIT_COLUMNS
    assert told["event_time"] == "2024-11-05T12:00:01.250Z"
    assert told["scored_at"] == "2024-11-05T12:00:00.000Z"  # as Spark collects it
    assert (told["amt"], told["reasons"], told["merchant"]) == (84.5, ["a", "b"], "merchant")
    assert json.loads(hit_json({"trans_num": "1"}))["reasons"] == []


def observed(*hits):
    return SimpleNamespace(
        get={"hits": [Row(trans_num=name, fraud_score=score) for name, score in hits]}
    )


def test_the_first_batch_tells_what_the_table_says_the_next_ones_what_was_scored(spark):
    writer, table = Writer(), [("old", 1, 0.9), ("a", 2, 0.8), ("b", 3, 0.1)]
    hits = HitsTopic(writer, lambda: transactions(spark, *table))
    hits.after_commit(observed(("b", 1.0)), batch(spark, 2, 3))
    hits.after_commit(observed(("c", 0.7)), batch(spark, 4, 5))
    hits.after_commit(observed(), batch(spark, 6))
    assert writer.sent == [[("a", 0.8)], [("c", 0.7)]]


def test_what_is_observed_while_rows_are_written_are_the_hits(spark, tmp_path):
    rows, hits = observe_hits(transactions(spark, ("a", 1, 0.9), ("b", 2, 0.1), ("c", 3, 0.5)))
    rows.write.parquet(str(tmp_path / "rows"))
    assert sorted((row["trans_num"], row["reasons"]) for row in hits.get["hits"]) == [
        ("a", ["why"]), ("c", ["why"]),
    ]  # fmt: skip


def test_hits_that_were_not_taken_fail_the_batch(spark):
    writer = Writer()
    hits = HitsTopic(writer, lambda: transactions(spark, ("a", 2, 0.8)))
    writer.failing = True
    with pytest.raises(OSError, match="topic fraud-alerts: 1 of 1 hits not written"):
        hits.after_commit(observed(), batch(spark, 2))
    writer.failing = False
    hits.after_commit(observed(), batch(spark, 2))
    assert writer.sent == [[("a", 0.8)]]
