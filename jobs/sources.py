"""Where the score job's payments come from: the landing folder, or a Kafka topic.

Both come as Spark has them; ``Source.open`` makes envelopes of them, on the executors.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from conf.sections import KafkaSettings, ScoreSettings
from conf.settings import Settings, stop
from ingest.topic import kept_offsets
from jobs.envelopes import FILES, MESSAGES, open_files, open_messages
from jobs.kafka_gap import advice, advice_to_rename, begun_anew, gaps, wanted_offsets
from jobs.spark import last_commit, make_folder

log = logging.getLogger("jobs.score")

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
        checkpoint = settings.warehouse.checkpoint("score")
        return Source(kafka_messages(spark, settings.kafka, written, checkpoint), open_messages)
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
    spark: SparkSession, kafka: KafkaSettings, written: Mapping[str, int], checkpoint: str
) -> DataFrame:
    """The topic of payments as a stream of ``jobs.envelopes.MESSAGES``.

    Ends the process with one line where Spark lacks that source, the topic cannot be reached, or it
    has dropped messages that were not scored.
    """
    topic = kafka.payments_topic
    try:
        kept = kept_offsets(kafka, topic)
    except OSError as error:
        stop(str(error))
    done = last_commit(spark, checkpoint)
    wanted = wanted_offsets(spark, checkpoint, done, topic, written)
    if anew := begun_anew(kept, wanted):
        stop(advice_to_rename(topic, anew))
    lost = gaps(kept, wanted)
    if lost and (done is not None or not kafka.skip_lost):
        stop(advice(topic, lost, checkpoint))
    if lost:
        log.warning("passed over, as kafka.skip_lost asks: %s", "; ".join(map(str, lost)))
    try:
        return (
            spark.readStream.format("kafka")
            .options(**connection_options(kafka))
            .option("subscribe", topic)
            .option("startingOffsets", starting_offsets(topic, kept, written))
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


def connection_options(kafka: KafkaSettings) -> dict[str, str]:
    """How Spark's Kafka source reaches the brokers: options of Java's client, each behind
    ``kafka.``, and ``minPartitions``.
    """
    told = {
        "kafka.bootstrap.servers": kafka.bootstrap_servers,
        "kafka.security.protocol": kafka.security_protocol,
    }
    if kafka.password is not None:
        module = "scram.ScramLoginModule"
        if kafka.sasl_mechanism == "PLAIN":
            module = "plain.PlainLoginModule"
        password = re.sub(r'(["\\])', r"\\\1", kafka.password.get_secret_value())
        told |= {
            "kafka.sasl.mechanism": kafka.sasl_mechanism,
            "kafka.sasl.jaas.config": f"org.apache.kafka.common.security.{module} required "
            f'username="{kafka.username}" password="{password}";',
        }
    if kafka.ca_file is not None:
        told["kafka.ssl.truststore.type"] = "PEM"
        told["kafka.ssl.truststore.location"] = str(kafka.ca_file.absolute())
    if kafka.key_file is not None:
        told["kafka.ssl.keystore.type"] = "PEM"
        told["kafka.ssl.keystore.location"] = str(kafka.key_file.absolute())
    if kafka.min_partitions is not None:
        told["minPartitions"] = str(kafka.min_partitions)
    return {f"kafka.{name}": value for name, value in kafka.options.items()} | told


def starting_offsets(topic: str, kept: Mapping[int, range], written: Mapping[str, int]) -> str:
    """Where a new checkpoint starts to read: Spark's option, as JSON.

    A partition starts *with* the last message that the tables hold, so that the first micro-batch
    is never empty (it is the one that fills the memory of payments); ``jobs.resume.behind`` drops
    that message. Where the topic has it no more, it starts with the first that there is.

    Args:
        kept: of each partition of the topic, the offsets that it has.
        written: by source, ``<topic>/<partition>``.
    """
    offsets = {}
    for partition, there in kept.items():
        last = written.get(f"{topic}/{partition}")
        if last is None:
            offsets[str(partition)] = EARLIEST
        else:
            offsets[str(partition)] = max(last, there.start)
    return json.dumps({topic: offsets})
