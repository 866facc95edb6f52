"""Where the score job's payments come from: the landing folder, or a Kafka topic.

Both give the columns of ``jobs.parse.ENVELOPE``; `source` and `position` are the order of arrival.
"""

import json
from collections.abc import Mapping
from functools import reduce

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.settings import KafkaSettings, ScoreSettings, Settings, stop
from ingest.topic import earliest_offsets
from jobs.parse import ENVELOPE, open_envelopes
from jobs.spark import make_folder

EARLIEST = -2  # Kafka's number for the first offset that there is


def payment_envelopes(
    spark: SparkSession, settings: Settings, written: Mapping[str, int]
) -> DataFrame:
    """What the settings say is scored, as a stream of envelopes.

    Args:
        written: the highest position of each source that the tables held when the checkpoint was
            made; what a source can skip of it, it need not give.
    """
    if settings.kafka is not None:
        return kafka_messages(spark, settings.kafka, written).transform(open_messages)
    assert settings.landing.path is not None  # the settings have one of the two
    lines = landing_lines(spark, settings.landing.path, settings.score)
    return lines.transform(open_envelopes)


def landing_lines(spark: SparkSession, path: str, score: ScoreSettings) -> DataFrame:
    """The landing folder ``path`` as a stream: ``value`` (a line), ``file`` (its file's name)."""
    make_folder(spark, path)
    return (
        spark.readStream.format("text")
        .option("maxFilesPerTrigger", score.max_files_per_batch)
        # Files older than this, counted from the newest, would be passed over in silence.
        .option("maxFileAge", "3650d")
        .load(path)
        .select("value", F.col("_metadata.file_name").alias("file"))
    )


def kafka_messages(
    spark: SparkSession, kafka: KafkaSettings, written: Mapping[str, int]
) -> DataFrame:
    """The topic of payments as a stream, with the columns of Spark's Kafka source.

    Ends the process with one line where Spark lacks that source, or the topic cannot be reached.
    """
    topic = kafka.payments_topic
    try:
        earliest = earliest_offsets(kafka, topic)
    except OSError as error:
        stop(str(error))
    try:
        return (
            spark.readStream.format("kafka")
            .option("kafka.bootstrap.servers", kafka.bootstrap_servers)
            .option("subscribe", topic)
            .option("startingOffsets", starting_offsets(topic, earliest, written))
            .option("maxOffsetsPerTrigger", kafka.max_offsets_per_batch)
            # Messages that the topic dropped before they were read: end, do not pass over them.
            .option("failOnDataLoss", "true")
            .load()
        )
    except AnalysisException as error:
        stop(
            f"Spark runs without its Kafka source ({error.getMessage()}): submit with "
            "`SPARK_CONF_DIR=. spark-submit --load-spark-defaults "
            "--properties-file spark-kafka.conf …`"
        )


def starting_offsets(topic: str, earliest: Mapping[int, int], written: Mapping[str, int]) -> str:
    """Where a new checkpoint starts to read: Spark's option, as JSON.

    A partition starts *with* the last message that the tables hold, so that the first micro-batch
    is never empty (it is the one that fills the memory of payments); ``Resume.skip_written`` drops
    that message. Where the topic has it no more, the one behind it is asked for, and Spark
    complains if that one is gone too.

    Args:
        earliest: of each partition of the topic, the first offset that it has.
        written: by source, ``<topic>/<partition>``.
    """
    offsets = {}
    for partition, first in earliest.items():
        last = written.get(f"{topic}/{partition}")
        if last is None:
            offsets[str(partition)] = EARLIEST
        else:
            offsets[str(partition)] = last if last >= first else last + 1
    return json.dumps({topic: offsets})


def open_messages(messages: DataFrame) -> DataFrame:
    """The envelope's columns of each message.

    Args:
        messages: ``value`` (bytes), ``topic``, ``partition``, ``offset``, ``timestamp``.

    Returns:
        source (``<topic>/<partition>``), position (the offset), received_at, encoding, payload. The
        last three are those of the envelope where the value is one; another producer's message is
        the payload itself, received at its timestamp. No receipt is later than now.
    """
    # Bytes that are no UTF-8 would break the way into Python.
    is_text = F.is_valid_utf8(F.col("value").cast("string"))
    text = F.when(is_text, F.col("value").cast("string")).otherwise(F.base64("value"))
    opened = messages.select(
        F.concat_ws("/", "topic", F.col("partition").cast("string")).alias("source"),
        F.col("offset").alias("position"),
        "timestamp",
        F.coalesce(text, F.lit("")).alias("value"),  # a tombstone has none
        F.when(is_text | F.col("value").isNull(), "text")
        .otherwise("base64")
        .alias("bare_encoding"),
    ).withColumn("envelope", F.from_json("value", ENVELOPE))
    is_envelope = reduce(
        lambda left, right: left & right,
        [F.col(f"envelope.{field.name}").isNotNull() for field in ENVELOPE.fields],
    )
    received_at = F.when(is_envelope, F.col("envelope.received_at")).otherwise(F.col("timestamp"))
    return opened.select(
        "source",
        "position",
        F.least(received_at, F.current_timestamp()).alias("received_at"),
        F.when(is_envelope, F.col("envelope.encoding"))
        .otherwise(F.col("bare_encoding"))
        .alias("encoding"),
        F.when(is_envelope, F.col("envelope.payload")).otherwise(F.col("value")).alias("payload"),
    )
