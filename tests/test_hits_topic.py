import json
from datetime import UTC, datetime

import pytest
from confluent_kafka import KafkaError

from ingest.topic import Delivery
from jobs.hits_topic import HIT_COLUMNS, HitsTopic, hit_json

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


def hits(*found):
    return [{"trans_num": name, "fraud_score": score, "scored_at": NOON} for name, score in found]


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


def test_each_hit_is_a_message_with_its_trans_num_as_the_key():
    writer = Writer()
    topic = HitsTopic(writer)
    topic.send(hits(("a", 0.8), ("b", 0.9)))
    topic.send(hits())
    topic.send(iter(hits(("c", 0.7))))
    assert writer.sent == [[("a", 0.8), ("b", 0.9)], [("c", 0.7)]]


def test_hits_that_were_not_taken_fail_the_batch():
    writer = Writer()
    topic = HitsTopic(writer)
    writer.failing = True
    with pytest.raises(OSError, match="topic fraud-alerts: 1 of 2 hits not written"):
        topic.send(hits(("a", 0.8), ("b", 0.9)))
    writer.failing = False
    topic.send(hits(("a", 0.8)))
    assert writer.sent == [[("a", 0.8)]]
