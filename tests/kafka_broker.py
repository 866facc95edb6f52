"""A Kafka broker on this machine, from nothing but Java: for tests, benchmarks and to try it out.

    python -m tests.kafka_broker [--port 9092] [--folder var/kafka]

One node on 127.0.0.1 without security. Its jars are fetched once, through the Ivy that Spark has.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyspark
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.conftest import free_port

VERSION = "4.1.0"
JARS = Path(sys.prefix) / f"kafka-{VERSION}"
SPARK_JARS = Path(pyspark.__path__[0]) / "jars"
START_SECONDS = 60

PROPERTIES = """
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller}
log.dirs={folder}/log
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""


class BrokerFailed(Exception):
    """The jars cannot be had, or the broker does not start."""


def broker_jars() -> Path:
    """The folder of the broker's jars in the Python environment, fetched where it is missing.

    Raises:
        BrokerFailed: they cannot be fetched.
    """
    if JARS.is_dir():
        return JARS
    (ivy,) = SPARK_JARS.glob("ivy-*.jar")
    parent = JARS.parent
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
        pattern = f"{folder}/jars/[artifact]-[revision].[ext]"
        _java(
            "-jar", str(ivy), "-confs", "default", "-retrieve", pattern,
            "-dependency", "org.apache.kafka", "kafka_2.13", VERSION,
        )  # fmt: skip
        with suppress(OSError):  # another process was faster
            os.rename(f"{folder}/jars", JARS)
    if not (JARS / f"kafka_2.13-{VERSION}.jar").is_file():
        raise BrokerFailed(f"Ivy fetched no kafka_2.13-{VERSION}.jar into {JARS}")
    return JARS


@contextmanager
def running_broker(folder: Path, port: int, topics: Mapping[str, int]) -> Iterator[str]:
    """A broker with its data in ``folder``; ended, and waited for, when the block ends.

    Args:
        topics: partitions of the topics to make where they are missing, by name.

    Yields:
        The bootstrap server.

    Raises:
        BrokerFailed: it does not start; the message names its log.
    """
    # The broker's own jars bring no logger: Spark's tells of errors.
    logger = [
        str(jar) for part in ("slf4j-api", "log4j-*") for jar in SPARK_JARS.glob(f"{part}-2*")
    ]
    classes = ("-cp", ":".join([*logger, f"{broker_jars()}/*"]))
    folder.mkdir(parents=True, exist_ok=True)
    require_free_port(port)
    properties, log = folder / "server.properties", folder / "broker.log"
    properties.write_text(
        PROPERTIES.format(port=port, controller=free_port(), folder=folder.absolute())
    )
    storage = ("kafka.tools.StorageTool", "format", "--ignore-formatted")
    _java(*classes, *storage, "-t", "fraudDetectorBroker000", "-c", str(properties))
    with log.open("ab") as output:
        process = subprocess.Popen(
            (java(), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *classes, "kafka.Kafka", str(properties)),
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        make_topics(f"127.0.0.1:{port}", topics)
        if process.poll() is not None:
            raise BrokerFailed(f"the broker ended with status {process.returncode}: see {log}")
        yield f"127.0.0.1:{port}"
    except KafkaException as error:
        raise BrokerFailed(f"the broker does not answer ({error}): see {log}") from error
    finally:
        end(process)


def make_topics(
    server: str, topics: Mapping[str, int], config: Mapping[str, str] | None = None
) -> None:
    """Make topics where they are missing, with so many partitions each; waits for the broker.

    Raises:
        KafkaException: it does not answer in a minute, or will not have it.
    """
    admin = AdminClient({"bootstrap.servers": server, "log_level": 0})
    there = admin.list_topics(timeout=START_SECONDS).topics
    wanted = [
        NewTopic(name, partitions, 1, config=dict(config or {}))
        for name, partitions in topics.items()
        if name not in there
    ]
    for made in admin.create_topics(wanted).values() if wanted else ():
        made.result(START_SECONDS)


def require_free_port(port: int) -> None:
    """Raise ``BrokerFailed`` where something listens on ``port``: it would answer in our place."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BrokerFailed(f"port {port} is taken: choose another one with --port") from error


def java() -> str:
    """The Java that Spark uses."""
    home = os.environ.get("JAVA_HOME")
    return f"{home}/bin/java" if home else "java"


def end(process: "subprocess.Popen[Any]") -> None:
    """End the process; wait until it has ended."""
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _java(*arguments: str) -> None:
    try:
        done = subprocess.run(
            (java(), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *arguments),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BrokerFailed(str(error)) from error
    if done.returncode:
        raise BrokerFailed((done.stdout + done.stderr)[-2000:])


def main() -> None:
    """Run a broker until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--folder", type=Path, default=Path("var/kafka"))
    arguments = parser.parse_args()
    topics = {"payments": 4, "fraud-alerts": 1}
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: ended.set())
    with running_broker(arguments.folder, arguments.port, topics) as server:
        print(
            f"Kafka {VERSION} on {server}, topics {', '.join(topics)}; pid {os.getpid()}",
            flush=True,
        )
        ended.wait()


if __name__ == "__main__":
    main()
