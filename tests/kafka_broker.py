"""A Kafka broker on this machine, from nothing but Java: for tests, benchmarks and to try it out.

    python -m tests.kafka_broker [--port 9092] [--folder var/kafka] [--user NAME]

One node on 127.0.0.1, without security, or for one user (TLS, and SASL PLAIN with the password in
``FRAUD_KAFKA__PASSWORD``). Its jars are fetched once, through the Ivy that Spark has.
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
from typing import Any, NamedTuple

import pyspark
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.certificates import make_certificate
from tests.conftest import free_port

PASSWORD = "FRAUD_KAFKA__PASSWORD"
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

GUARDED = """
listeners=SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=SASL_SSL://127.0.0.1:{port}
listener.security.protocol.map=SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=SASL_SSL
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=\\
  org.apache.kafka.common.security.plain.PlainLoginModule required \\
  username="{user}" password="{password}" user_{user}="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={server}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.sasl_ssl.ssl.client.auth=required
"""
"""In the place of the listeners above; a property that comes again counts."""


class Login(NamedTuple):
    """Who a broker lets in."""

    user: str
    password: str


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
def running_broker(
    folder: Path, port: int, topics: Mapping[str, int], login: Login | None = None
) -> Iterator[str]:
    """A broker with its data in ``folder``; ended, and waited for, when the block ends.

    Args:
        topics: partitions of the topics to make where they are missing, by name.
        login: who may use it, over TLS; who signed its certificate stands in
            ``authority.pem`` in the folder.

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
    places = {"port": port, "controller": free_port(), "folder": folder.absolute()}
    text = PROPERTIES.format(**places)
    if login:
        pem = make_certificate(folder)._asdict()
        text += GUARDED.format(**places, **pem, user=login.user, password=login.password)
    properties.touch(0o600)
    properties.write_text(text)
    storage = ("kafka.tools.StorageTool", "format", "--ignore-formatted")
    _java(*classes, *storage, "-t", "fraudDetectorBroker000", "-c", str(properties))
    with log.open("ab") as output:
        process = subprocess.Popen(
            (java(), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *classes, "kafka.Kafka", str(properties)),
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        make_topics(client_options(f"127.0.0.1:{port}", folder, login), topics)
        if process.poll() is not None:
            raise BrokerFailed(f"the broker ended with status {process.returncode}: see {log}")
        yield f"127.0.0.1:{port}"
    except KafkaException as error:
        raise BrokerFailed(f"the broker does not answer ({error}): see {log}") from error
    finally:
        end(process)


def client_options(server: str, folder: Path, login: Login | None = None) -> dict[str, str]:
    """How librdkafka reaches such a broker."""
    told = {"bootstrap.servers": server}
    if login:
        told |= {
            "security.protocol": "SASL_SSL", "ssl.ca.location": str(folder / "authority.pem"),
            "ssl.key.location": str(folder / "server.pem"),
            "ssl.certificate.location": str(folder / "server.pem"),
            "sasl.mechanisms": "PLAIN", "sasl.username": login.user, "sasl.password": login.password,
        }  # fmt: skip
    return told


def make_topics(
    client: Mapping[str, str], topics: Mapping[str, int], config: Mapping[str, str] | None = None
) -> None:
    """Make topics where they are missing, with so many partitions each; waits for the broker.

    Raises:
        KafkaException: it does not answer in a minute, or will not have it.
    """
    admin = AdminClient({**client, "log_level": 0})
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
    parser.add_argument("--user", help=f"let nobody else in; the password is ${PASSWORD}")
    arguments = parser.parse_args()
    if arguments.user and not os.environ.get(PASSWORD):
        parser.error(f"--user: set {PASSWORD}")
    topics = {"payments": 4, "fraud-alerts": 1}
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: ended.set())
    login = Login(arguments.user, os.environ[PASSWORD]) if arguments.user else None
    with running_broker(arguments.folder, arguments.port, topics, login) as server:
        print(
            f"Kafka {VERSION} on {server}, topics {', '.join(topics)}; pid {os.getpid()}",
            flush=True,
        )
        ended.wait()


if __name__ == "__main__":
    main()
