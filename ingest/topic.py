"""A Kafka topic: messages are written and acknowledged, or it is known which ones were not.

Ingest writes payments with it, the score job its hits.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from conf.sections import KafkaSettings

log = logging.getLogger(__name__)

_GRACE_SECONDS = 5.0  # past the time-out, for the producer to tell of it


class Message(NamedTuple):
    """One message. Messages of one ``key`` share a partition and keep their order there."""

    key: str | None
    value: str


class Delivery(NamedTuple):
    """What became of messages: ``offsets`` by partition, and those ``failed``, each with why."""

    offsets: dict[int, list[int]]
    failed: list[tuple[Message, KafkaError]]


def connection(kafka: KafkaSettings) -> dict[str, Any]:
    """How librdkafka reaches the brokers, and who it says it is."""
    told = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": kafka.security_protocol,
    }
    if kafka.password is not None:
        told |= {
            "sasl.mechanisms": kafka.sasl_mechanism,
            "sasl.username": str(kafka.username),
            "sasl.password": kafka.password.get_secret_value(),
        }
    if kafka.ca_file is not None:
        told["ssl.ca.location"] = str(kafka.ca_file.absolute())
    if kafka.key_file is not None:
        told["ssl.key.location"] = told["ssl.certificate.location"] = str(kafka.key_file.absolute())
    return kafka.options | told


class TopicWriter:
    """Writes to ``topic`` so that a message stands there once, as far as one process can see to
    that (an idempotent producer), and counts as written when all in-sync replicas have it.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, linger_seconds: float = 0.005) -> None:
        """Connect to nothing yet.

        Args:
            linger_seconds: how long a message waits for others to share a request with.
        """
        self.topic = topic
        self.timeout_seconds = kafka.timeout_seconds
        self._options = {
            **connection(kafka),
            "enable.idempotence": True,
            "acks": "all",
            "message.timeout.ms": round(kafka.timeout_seconds * 1000),
            "linger.ms": linger_seconds * 1000,
            # The partition that Java's producers choose for a key.
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 0,  # bounded by what is written at once
        }
        self._producer: Producer | None = None

    def write(self, messages: Sequence[Message]) -> Delivery:
        """Write ``messages``; return when each was acknowledged or failed for good.

        Raises:
            OSError: the settings make no producer.
        """
        delivery = Delivery({}, [])
        producer = self._producer = self._producer or self._connect()
        for message in messages:
            try:
                producer.produce(
                    self.topic,
                    value=message.value.encode(),
                    key=None if message.key is None else message.key.encode(),
                    on_delivery=partial(_note, delivery, message),
                )
            except KafkaException as error:
                delivery.failed.append((message, error.args[0]))
            except BufferError:
                delivery.failed.append((message, KafkaError(KafkaError._QUEUE_FULL)))
        if producer.flush(self.timeout_seconds + _GRACE_SECONDS):
            producer.purge()
            producer.flush(_GRACE_SECONDS)
        if delivery.failed:
            self._producer = None  # a fatal error is for the producer's whole life
        return delivery

    def _connect(self) -> Producer:
        try:
            return Producer(self._options, logger=log)
        except KafkaException as error:
            raise OSError(f"no Kafka producer: {error.args[0].str()}") from error


def _note(delivery: Delivery, message: Message, error: KafkaError | None, told: Any) -> None:
    if error is not None:
        delivery.failed.append((message, error))
    else:
        delivery.offsets.setdefault(told.partition(), []).append(told.offset())


def kept_offsets(kafka: KafkaSettings, topic: str) -> dict[int, range]:
    """The offsets of the messages that each partition of ``topic`` still has.

    Raises:
        OSError: the topic does not exist, or no broker answers in ``kafka.timeout_seconds``.
    """
    reasons: list[KafkaError] = []
    consumer = Consumer(
        # The name of a group must be given; nothing is consumed in it.
        connection(kafka) | {"group.id": "fraud-detector-offsets", "error_cb": reasons.append},
        logger=log,
    )
    try:
        found = consumer.list_topics(topic, timeout=kafka.timeout_seconds).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return {
            partition: range(
                *consumer.get_watermark_offsets(
                    TopicPartition(topic, partition), timeout=kafka.timeout_seconds
                )
            )
            for partition in sorted(found.partitions)
        }
    except KafkaException as error:
        consumer.poll(0)  # what came of the connection is told only now
        told = "; ".join(dict.fromkeys(one.str() for one in (error.args[0], *reasons)))
        raise OSError(
            f"no topic {topic} on {kafka.bootstrap_servers}: {told}; make it with "
            "kafka-topics.sh --create, or see kafka.bootstrap_servers and the rest of [kafka]"
        ) from error
    finally:
        consumer.close()
