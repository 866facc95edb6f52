"""The places that drills are played at: the embedded default, and the real parts."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.demo import first_champion, spark_job
from jobs.local_cluster import local_cluster
from tests.conftest import free_port
from tests.drills.system import Place, System
from tests.models import register_champion
from tests.s3_server import environment_of

DISK_MB = 512
SCORE = (
    '(model_input["amount_usd"].fillna(0) / (model_input["amount_usd"].fillna(0) + 300)).to_numpy()'
)
"""Of the champion where none is trained: two in a hundred payments are hits."""


@contextmanager
def embedded(folder: Path) -> Iterator[Place]:
    """One machine, files, SQLite, a trained champion; the warehouse on a small disk of its own
    where that may be mounted.
    """
    disk = folder / "disk"
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "fraud-drills", str(disk)]
    is_mounted = os.geteuid() == 0 and not subprocess.run(mount, check=False).returncode
    try:
        environment = {"FRAUD_WAREHOUSE__PATH": str(disk / "warehouse")}
        yield Place("embedded", environment=environment, is_trained=True)
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextmanager
def quick(folder: Path) -> Iterator[Place]:
    """The same for a minute: a champion made of a formula."""
    yield Place("quick")


@contextmanager
def with_registry(folder: Path) -> Iterator[Place]:
    """The embedded default with MLflow's server in front of the registry."""
    port = free_port()
    store, artifacts = f"sqlite:///{folder}/mlflow.db", str(folder / "mlartifacts")
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", store, "--artifacts-destination", artifacts,
    ]  # fmt: skip
    environment = {"FRAUD_REGISTRY__TRACKING_URI": f"http://127.0.0.1:{port}"}
    yield Place("registry", environment=environment, servers={"registry": command})


@contextmanager
def on_kafka(folder: Path) -> Iterator[Place]:
    """Payments and hits in topics of a broker."""
    port = free_port()
    environment = {
        "FRAUD_LANDING__PATH": "", "FRAUD_KAFKA__BOOTSTRAP_SERVERS": f"127.0.0.1:{port}",
        "SPARK_CONF_DIR": ".",
    }  # fmt: skip
    command = [
        sys.executable, "-m", "tests.kafka_broker", "--port", str(port),
        "--folder", str(folder / "broker"),
    ]  # fmt: skip
    yield Place(
        "kafka", "conf/kafka.toml", environment, _submit_with("spark-kafka.conf"),
        {"broker": command},
    )  # fmt: skip


@contextmanager
def on_s3(folder: Path) -> Iterator[Place]:
    """Landing, tables, checkpoints and models in a bucket."""
    port = free_port()
    environment = environment_of(f"http://127.0.0.1:{port}") | {"SPARK_CONF_DIR": "."}
    for key in (
        "LANDING__PATH",
        "WAREHOUSE__PATH",
        "WAREHOUSE__CHECKPOINTS",
        "REGISTRY__ARTIFACTS",
    ):
        environment[f"FRAUD_{key}"] = ""
    command = [sys.executable, "-m", "tests.s3_server", "--port", str(port)]
    yield Place(
        "s3", "conf/s3.toml", environment, _submit_with("spark-s3.conf"), {"s3": command}
    )  # fmt: skip


@contextmanager
def on_cluster(folder: Path) -> Iterator[Place]:
    """The score job on two workers without a checkout; the undisturbed run without a cluster."""
    with local_cluster(folder / "spark") as cluster:

        def submit(script: str, config: str) -> list[str]:
            is_score = script == "jobs/score.py"
            return cluster.submit(script, config) if is_score else spark_job(script, config)

        yield Place("cluster", "conf/cluster.toml", submit=submit, cluster=cluster)


def begin(system: System) -> None:
    """Start everything but ingest, with a champion in the registry."""
    system.start_all([*system.place.servers, "payments-api", "relay"])
    if system.place.is_trained:
        first_champion(system.settings, system.place.config, system.folder / "logs")
    else:
        register_champion(system.settings.registry, system.folder, SCORE)
    system.start_all(["score", "alert", "label"])


def _submit_with(properties: str) -> Callable[[str, str], list[str]]:
    def submit(script: str, config: str) -> list[str]:
        return [
            "spark-submit", "--load-spark-defaults", "--properties-file", properties, script,
            "--config", config,
        ]  # fmt: skip

    return submit
