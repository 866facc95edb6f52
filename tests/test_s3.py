"""Landing, tables, checkpoints and models on a real S3 server, by the commands of the README."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import boto3
import psutil
import pytest
import requests
from deltalake import DeltaTable

from conf.lease import Lease
from conf.settings import Settings
from ingest import poll as ingest_poll
from ingest.call_ledger import AlreadyRunning
from ingest.s3_landing import S3Landing
from jobs.landing_upkeep import old_files
from jobs.sole import sole
from jobs.storage import files_in
from tests.answers import ok, server
from tests.conftest import free_port, payment
from tests.models import register_champion
from tests.s3_server import BUCKET, SECRET
from tests.test_commands import CALLS_PER_MINUTE, System

SUBMIT = ("spark-submit", "--load-spark-defaults", "--properties-file", "spark-s3.conf")
CONFIG = ("--config", "conf/s3.toml")


@pytest.fixture
def system(on_s3: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    monkeypatch.setenv("SPARK_CONF_DIR", ".")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("FRAUD_API__URL", "http://127.0.0.1:1/")
    monkeypatch.setenv("FRAUD_API__CALLS_PER_MINUTE", CALLS_PER_MINUTE)
    monkeypatch.setenv("FRAUD_SMTP__PORT", str(free_port()))
    for name in ("SPARK_HOME", "PYSPARK_PYTHON", "PYSPARK_SUBMIT_ARGS"):
        monkeypatch.delenv(name, raising=False)
    running = System(api_port=0)
    try:
        yield running
    finally:
        running.end()


def poll(system: System, *payments: dict) -> None:
    """Let ingest fetch these payments, in one call."""
    rows = [list(item.values()) for item in payments]
    body = {"columns": list(payments[0]), "index": list(range(len(rows))), "data": rows}
    with server(ok(json.dumps(body).encode())) as url:
        os.environ["FRAUD_API__URL"] = url
        system.run(sys.executable, "-m", "ingest.poll", *CONFIG, "--max-polls", "1")


def table(name: str):
    return DeltaTable(f"s3a://{BUCKET}/warehouse/{name}").to_pandas()


def numbers() -> list[int]:
    return sorted(int(name, 16) for name in table("transactions")["trans_num"])


def test_payments_are_scored_mailed_and_labelled_on_s3(
    system: System, on_s3: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    large = '(model_input["amount_usd"] > 500).to_numpy().astype(float)'
    register_champion(on_s3.registry, tmp_path, large)
    poll(system, payment(1, amt=900), payment(2, amt=10), payment(3, amt="much"))
    poll(system, payment(4, amt=990), payment(1, amt=900))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    page = {"spark.ui.enabled": "true", "spark.ui.port": str(free_port())}
    shown = [part for name, value in page.items() for part in ("--conf", f"{name}={value}")]
    together = ("--beside", "label", "maintain")
    score = system.start("batch 0:", *SUBMIT, *shown, "jobs/score.py", *CONFIG, *together)
    check_secret(f"http://127.0.0.1:{page['spark.ui.port']}")
    # All jobs that write are in this one driver; a second of each is refused while it runs.
    for job in ("score", "label", "maintain"):
        with pytest.raises(SystemExit), sole(on_s3.warehouse, job, threading.Event()):
            raise AssertionError("both run")
        told = capsys.readouterr().err
        assert f"another {job} job works on s3a://fraud-detector/warehouse" in told
    verdict = ("--trans-num", f"{2:032x}", "--fraud", "yes", "--source", "holder")
    system.run(sys.executable, "-m", "jobs.label", *CONFIG, *verdict)
    assert score.stdout is not None
    said = "".join(until("payments labelled: 1", score.stdout))
    os.killpg(score.pid, signal.SIGINT)
    said += score.stdout.read()
    assert "label ended on request" in said
    assert "maintain ended on request" in said
    assert numbers() == [1, 2, 4]
    assert table("rejected")["reason"].str.contains("amt").all()

    # Both go on where they were. The relay is away: the hits wait in the table.
    poll(system, payment(5, amt=950))
    one_by_one = ("score.py", "--once", *CONFIG, ",", "alert.py", "--once", *CONFIG)
    told = system.run(*SUBMIT, "tests/in_turn.py", *one_by_one)
    ends = [line for line in told.splitlines() if ": status " in line]
    assert ends == ["score.py: status 0", "alert.py: status 1"]
    labelled = table("transactions").set_index("trans_num")["label"].dropna()
    assert labelled.to_dict() == {f"{2:032x}": True}
    assert numbers() == [1, 2, 4, 5]
    keys = [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert {key.split("/")[0] for key in keys} == {
        "landing",
        "warehouse",
        "checkpoints",
        "mlartifacts",
    }
    alerts = table("alerts")
    assert sorted(int(name, 16) for name in alerts["trans_num"]) == [1, 4, 5]
    assert set(alerts["status"]) == {"pending"}
    assert SECRET not in system.said + said


def until(text: str, lines: Iterable[str]) -> Iterator[str]:
    """The lines up to the first with ``text`` in it."""
    for line in lines:
        yield line
        if text in line:
            return


def check_secret(page: str) -> None:
    """Neither Spark's page of its configuration nor the list of processes shows the bucket's."""
    (job,) = requests.get(f"{page}/api/v1/applications", timeout=60).json()
    shown = requests.get(f"{page}/api/v1/applications/{job['id']}/environment", timeout=60).json()
    hadoop = dict(shown["hadoopProperties"])
    assert hadoop["fs.s3a.endpoint"].startswith("http://127.0.0.1:")
    assert "redacted" in hadoop["fs.s3a.secret.key"]  # Spark took it from the environment
    assert SECRET not in str(shown) + requests.get(f"{page}/environment/", timeout=60).text
    commands = [process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"])]
    assert any("jobs/score.py" in command for command in commands)
    assert not [command for command in commands if SECRET in " ".join(command)]


def test_landing_goes_on_behind_what_is_there_and_replaces_nothing(on_s3: Settings) -> None:
    landing = S3Landing(f"s3a://{BUCKET}/other")
    assert landing.next_position() == 0
    landing.land(["a", "b"], 0)
    landing.land(["c"], 2)
    assert landing.next_position() == 3
    with pytest.raises(FileExistsError, match=r"payments-0{19}2\.jsonl has other rows"):
        landing.land(["d"], 2)
    assert landing.land(["c"], 2) == f"payments-{2:020d}.jsonl"  # boto3 may send it twice
    body = boto3.client("s3").get_object(Bucket=BUCKET, Key=f"other/payments-{2:020d}.jsonl")[
        "Body"
    ]
    assert body.read() == b"c\n"
    with pytest.raises(OSError, match="nowhere"):
        S3Landing("s3a://nowhere/x").next_position()


def ingest(monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """One call of ingest in this process; its status."""
    monkeypatch.setattr(sys, "argv", ["poll", *CONFIG, "--max-polls", "1"])
    try:
        ingest_poll.main()
    except SystemExit as end:
        return end.code
    return 0


def test_a_second_ingest_under_the_same_prefix_ends_with_one_line(
    on_s3: Settings, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    body = json.dumps({"columns": list(payment()), "data": [list(payment().values())]}).encode()
    other = Lease(f"s3a://{BUCKET}/landing/_ingest.lock")
    with server(ok(body)) as url:
        monkeypatch.setenv("FRAUD_API__URL", url)
        other.take()
        assert ingest(monkeypatch) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: another ingest lands in s3a://{BUCKET}/landing: ")
        assert "is held by" in said
        assert said.count("\n") == 1
        assert S3Landing(f"s3a://{BUCKET}/landing").next_position() == 0
        other.release()
        assert ingest(monkeypatch) == 0
    assert S3Landing(f"s3a://{BUCKET}/landing").next_position() == 1
    other = Lease(f"s3a://{BUCKET}/landing/_ingest.lock")
    other.take()  # it is free again
    assert set(files_in(f"s3a://{BUCKET}/landing")) == {f"payments-{0:020d}.jsonl", "_ingest.lock"}
    assert old_files(f"s3a://{BUCKET}/landing", datetime.max.replace(tzinfo=UTC)) == {}


def lose(lease: str, wait: Callable[[float], object]) -> None:
    """Have somebody else take a lease, and wait for what comes of it."""
    told = json.dumps({"holder": "another", "until": 1e12}).encode()
    boto3.client("s3").put_object(Bucket=BUCKET, Key=lease, Body=told)
    wait(60)


def test_ingest_ends_once_another_has_taken_its_place(
    on_s3: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conf.leased.RENEW_SECONDS", 0.01)
    stopper = ingest_poll.Stopper()
    with (
        pytest.raises(AlreadyRunning, match="has taken the place of this one"),
        ingest_poll._sole(f"s3a://{BUCKET}/landing/", stopper.replaced),
    ):
        lose("landing/_ingest.lock", stopper.sleep)


def test_a_job_whose_place_another_has_taken_ends_with_status_1(on_s3, monkeypatch) -> None:
    monkeypatch.setattr("conf.leased.RENEW_SECONDS", 0.01)
    ended = threading.Event()
    with pytest.raises(SystemExit) as end, sole(on_s3.warehouse, "label", ended):
        lose("warehouse/label.lock", ended.wait)
    assert ended.is_set()
    assert end.value.code == 1


def test_a_second_job_on_the_same_warehouse_ends_with_one_line(on_s3, tmp_path, capsys) -> None:
    on_disk = on_s3.warehouse.model_copy(update={"path": str(tmp_path / "warehouse")})
    for warehouse in (on_disk, on_s3.warehouse):
        with sole(warehouse, "score", threading.Event()):
            with sole(warehouse, "alert", threading.Event()):
                pass
            with pytest.raises(SystemExit), sole(warehouse, "score", threading.Event()):
                raise AssertionError("both run")
            assert "another score job works on" in capsys.readouterr().err
        with sole(warehouse, "score", threading.Event()):
            pass
