"""The Spark session of a job, and paths on whatever file system Spark reaches."""

import os
import sys
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from conf.settings import stop
from jobs.checkpoints import newest_batch


def spark_session(name: str) -> SparkSession:
    """The session of the job ``name``, in UTC.

    Ends the process with one line where Delta is not on the class path.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    builder = SparkSession.builder.appName(name)
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        # What boto3 and delta-rs heed, and S3A does not: another S3 than Amazon's.
        builder = builder.config("spark.hadoop.fs.s3a.endpoint", endpoint)
        builder = builder.config("spark.hadoop.fs.s3a.path.style.access", "true")
    spark = builder.getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    if "DeltaSparkSessionExtension" not in (spark.conf.get("spark.sql.extensions", "") or ""):
        stop(
            "Spark runs without Delta Lake: "
            "submit with `spark-submit --properties-file spark-defaults.conf …`"
        )
    return spark


def path_exists(spark: SparkSession, path: str) -> bool:
    """Whether ``path`` exists, on a local disk or any Hadoop file system."""
    file_system, hadoop_path = _hadoop(spark, path)
    return bool(file_system.exists(hadoop_path))


def names_in(spark: SparkSession, path: str) -> list[str]:
    """The names of what is in the folder ``path``; none where there is no such folder."""
    file_system, hadoop_path = _hadoop(spark, path)
    if not file_system.exists(hadoop_path):
        return []
    return [status.getPath().getName() for status in file_system.listStatus(hadoop_path)]


def last_commit(spark: SparkSession, checkpoint: str) -> int | None:
    """The last micro-batch that the query of ``checkpoint`` brought to its end; None where it
    brought none.
    """
    return newest_batch(names_in(spark, f"{checkpoint}/commits"))


def make_folder(spark: SparkSession, path: str) -> None:
    """Make the folder ``path`` and its parents where they are missing.

    Raises:
        OSError: it cannot be made.
    """
    file_system, hadoop_path = _hadoop(spark, path)
    try:
        file_system.mkdirs(hadoop_path)
    except Py4JJavaError as error:
        raise OSError(f"cannot make the folder {path}: {error.java_exception}") from error


def _hadoop(spark: SparkSession, path: str):  # type: ignore[no-untyped-def]
    jvm: Any = spark.sparkContext._jvm
    hadoop_path = jvm.org.apache.hadoop.fs.Path(path)
    return hadoop_path.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration()), hadoop_path


if __name__ == "__main__":
    session = spark_session("setup")
    print(f"Spark {session.version} with Delta Lake starts")
    session.stop()
