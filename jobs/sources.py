"""Where the score job's payments come from: the landing folder, or a Kafka topic.

Both come as Spark has them; ``Source.open`` makes envelopes of them, on the executors.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.sections import KafkaSettings, ScoreSettings
from conf.settings import Settings, stop
from ingest.topic import earliest_offsets
from jobs.envelopes import FILES, MESSAGES, open_files, open_messages
from jobs.spark import make_folder

EARLIEST = -2  # Kafka's number for the first offset that there is


@dataclass(frozen=True)
class Source:
    """``rows``: what came in, as a stream. ``open``: makes ``jobs.envelopes.ENVELOPES`` of an Arrow
    table of them.
    """

    rows: DataFrame
    open: Callable[[pa.Table], pa.Table]


def payment_source(spark: SparkSession, settings: Settings, written: Mapping[str, int]) -> Source:
    """What the settings say is scored.

    Args:
        written: the highest position of each source that the tables held when the checkpoint was
            made; what a source can skip of it, it need not give.
    """
    if settings.kafka is not None:
        return Source(kafka_messages(spark, settings.kafka, written), open_messages)
    assert settings.landing.path is not None  # the settings have one of the two
    return Source(landing_files(spark, settings.landing.path, settings.score), open_files)


def landing_files(spark: SparkSession, path: str, score: ScoreSettings) -> DataFrame:
    """The landing folder ``path`` as a stream of ``jobs.envelopes.FILES``: to cut files into lines
    is a part of reading JSON, and quicker there.
    """
    make_folder(spark, path)
    return (
        spark.readStream.format("binaryFile")
        .schema("path string, modificationTime timestamp, length bigint, content binary")
        .option("maxFilesPerTrigger", score.max_files_per_batch)
        # Files older than this, counted from the newest, would be passed over in silence.
        .option("maxFileAge", "36500d")
        .load(path)
        .withColumn("read_at", F.current_timestamp())
        .select(*FILES)
    )


def kafka_messages(
    spark: SparkSession, kafka: KafkaSettings, written: Mapping[str, int]
) -> DataFrame:
    """The topic of payments as a stream of ``jobs.envelopes.MESSAGES``.

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
            .withColumn("read_at", F.current_timestamp())
            .select(*MESSAGES)
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
    is never empty (it is the one that fills the memory of payments); ``jobs.resume.behind`` drops
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
