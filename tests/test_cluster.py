"""The score job on a standalone cluster: workers without a checkout, one of them killed."""

import subprocess
import sys
import threading
import time

import pandas as pd
import pytest
from deltalake import DeltaTable

import jobs.score
from jobs.checkpoints import batch_in_progress, last_batch
from jobs.cluster_bundle import make_bundle, read_properties, united
from jobs.demo import part
from jobs.executor_logs import tasks_of
from jobs.local_cluster import local_cluster
from tests.conftest import PROJECT, land, payment
from tests.models import register_champion

FILES, ROWS = 16, 50
WAIT_SECONDS = 400  # at most, on a busy machine
# On a worker it tells that it is at work, and takes its time.
SCORE = """(
    "/app-" in __import__("os").getcwd()
    and (open("scoring", "w").close(), __import__("time").sleep(0.3)),
    np.clip(model_input["amount_usd"].to_numpy() / 1000, 0, 1),
)[1]"""
FIND = "import deltalake, importlib.util as u; print([u.find_spec(n) for n in ('conf', 'jobs')])"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with local_cluster(tmp_path_factory.mktemp("spark"), workers=2, memory_mb=512) as running:
        yield running


def payloads(file):
    for row in range(ROWS):
        # The first five come from the file before once more.
        number = file * ROWS + row - (ROWS - 10 if file and row < 5 else 0)
        card = 4000123412341000 + number % 30
        yield "no json" if row == 7 else payment(number, cc_num=card, amt=number % 997)


def rows(warehouse, name):
    table = DeltaTable(warehouse.table(name)).to_pyarrow_table().flatten().to_pandas()
    table = table.sort_values(["source", "position"], ignore_index=True)
    return table.drop(columns=["scored_at"], errors="ignore")


def wait_until(is_so, running):
    end = time.monotonic() + WAIT_SECONDS
    while not is_so():
        running.check()
        assert time.monotonic() < end, running.log.read_text()[-3000:]
        time.sleep(0.02)


def test_workers_have_the_packages_and_no_checkout(cluster):
    command = [cluster.python, "-c", FIND]
    found = subprocess.run(command, capture_output=True, text=True, env={}, cwd="/")
    assert found.stdout == "[None, None]\n", found.stderr


def test_what_a_cluster_writes_with_a_worker_killed_is_what_local_mode_writes(
    cluster, spark, settings, tmp_path, monkeypatch
):
    monkeypatch.chdir(PROJECT)
    register_champion(settings.registry, tmp_path, SCORE)
    for file in range(FILES):
        land(settings.landing.path, file * ROWS, payloads(file))
    monkeypatch.setenv("FRAUD_SCORE__MAX_FILES_PER_BATCH", "2")
    checkpoint = settings.warehouse.checkpoint("score")
    submit = cluster.submit("jobs/score.py", "conf/local.toml", "--once")

    def at_work():
        return list(cluster.folder.glob("work-0/app-*/*/scoring"))

    with part("score", submit, {}, tmp_path) as running:
        wait_until(lambda: (last_batch(checkpoint, "commits") or 0) >= 2, running)
        for mark in at_work():
            mark.unlink()
        wait_until(at_work, running)
        batch = batch_in_progress(checkpoint)
        cluster.kill_worker(0)
        assert running.process.wait(timeout=WAIT_SECONDS) == 0, running.log.read_text()[-3000:]
    assert batch < last_batch(checkpoint, "commits") == FILES // 2 - 1
    assert tasks_of(cluster.folder / "work-0").unfinished == 1
    assert tasks_of(cluster.folder / "work-1").unfinished == 0
    assert cluster.alive_workers() == 1

    elsewhere = settings.warehouse.model_copy(
        update={"path": str(tmp_path / "local"), "checkpoints": str(tmp_path / "local-points")}
    )
    local = settings.model_copy(update={"warehouse": elsewhere})
    assert jobs.score.score_with_aliases(spark, local, True, threading.Event()) == 0
    for name, count in (("transactions", FILES * 44 + 5), ("rejected", FILES)):
        found = rows(settings.warehouse, name)
        assert len(found) == count
        pd.testing.assert_frame_equal(found, rows(elsewhere, name), check_exact=True)


def test_the_bundle_has_the_defaults_but_for_what_is_of_one_machine(tmp_path):
    bundle = make_bundle(tmp_path, ["spark-s3.conf"])
    told = read_properties(bundle.properties)
    defaults = read_properties(PROJECT / "spark-defaults.conf")
    s3 = read_properties(PROJECT / "spark-s3.conf")
    assert {"spark.master", "spark.driver.host"} <= defaults.keys() - told.keys()
    assert told["spark.jars.packages"] == s3["spark.jars.packages"]
    assert set(told["spark.jars.excludes"].split(",")) == set(s3["spark.jars.excludes"].split(","))
    assert told["spark.sql.extensions"] == defaults["spark.sql.extensions"]
    assert told["spark.speculation"] == "false"
    assert told["spark.submit.pyFiles"] == str(bundle.archive)


def test_a_bundle_for_two_ways_to_run_has_the_jars_of_both(tmp_path):
    both = [read_properties(PROJECT / f"spark-{name}.conf") for name in ("kafka", "s3")]
    for names in (["spark-kafka.conf", "spark-s3.conf"], ["spark-s3.conf", "spark-kafka.conf"]):
        told = read_properties(make_bundle(tmp_path, names).properties)
        for one in both:
            for name, value in one.items():
                assert set(value.split(",")) <= set(told[name].split(","))
        packages = told["spark.jars.packages"].split(",")
        assert len(packages) == len(set(packages))


def test_the_properties_of_kafka_and_s3_are_those_of_each():
    kafka, s3, both = (
        read_properties(PROJECT / f"spark-{name}.conf") for name in ("kafka", "s3", "kafka-s3")
    )
    assert both == united(kafka, s3)


def test_a_bundle_is_not_made_of_a_bundle(tmp_path):
    bundle = make_bundle(tmp_path)
    code = f"import sys; sys.path.insert(0, {str(bundle.archive)!r}); import jobs.cluster_bundle as b; b.main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env={}
    )
    assert done.returncode == 1
    assert "make the bundle in the project's folder" in done.stderr
