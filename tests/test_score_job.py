"""The score query over landing files in one Spark session: restarts, crashes, models swapped."""

import json
import shutil
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Schema

import jobs.micro_batch
import jobs.score
from conf.settings import Settings
from ingest.envelope import envelope_line
from jobs.features import FEATURE_NAMES
from jobs.lineup import FixedModels, Lineup
from jobs.model import inputs_of
from jobs.resume import OtherLayout, resume_point
from jobs.scoring import load_archive
from jobs.tables import arrow_schema, read_table
from tests.conftest import land, payment
from tests.models import code_version, constant_version, forest_version
from tests.upkeep import commits_of, keep_up
from training.raw_payments import first_arrivals, read_arrivals

CARD = 4000123412341234


@pytest.fixture
def score(spark, settings):
    """Run the query over what landed; the exit status."""

    def run(version=None, job_settings: Settings | None = None):
        version = version or constant_version("1", 0.25)
        return jobs.score.run_score(
            spark, job_settings or settings, FixedModels(Lineup(version)), True, threading.Event()
        )

    return run


@pytest.fixture
def table(spark, settings):
    def rows(name):
        return read_table(spark, settings.warehouse, name).orderBy("source", "position").collect()

    return rows


def ids(rows):
    return [int(row["trans_num"], 16) for row in rows]


def test_valid_rows_are_scored_once_and_the_others_rejected(score, table, settings):
    land(settings.landing.path, 0, [payment(1), "no json", payment(2), payment(1, amt=99)])
    land(settings.landing.path, 10, [payment(2, cc_num=5000123412341234), payment(3, amt=-1)])
    (Path(settings.landing.path) / "foreign.txt").write_text("a line from elsewhere\n")
    assert score() == 0

    scored = table("transactions")
    assert ids(scored) == [1, 2]
    first = scored[0]
    assert first["amt"] == payment()["amt"]  # of two with the same id the first wins
    assert (first["fraud_score"], first["prediction"], first["threshold"]) == (0.25, False, 0.5)
    assert (first["model_name"], first["model_version"]) == ("constant", "1")
    assert first["label"] is None
    assert first["features"]["amount_usd"] == payment()["amt"]
    assert first["ingested_at"] <= first["scored_at"]

    reasons = {row["payload"]: row["reason"] for row in table("rejected")}
    assert reasons["no json"] == "not a JSON object"
    assert reasons["a line from elsewhere"].startswith("no envelope")
    assert reasons[json.dumps(payment(3, amt=-1))].startswith("amt: expected")
    assert len(reasons) == 3


def test_a_rejected_payment_served_twice_is_rejected_once_and_its_correction_scored(
    score, table, settings
):
    land(settings.landing.path, 0, [payment(1, lat=91), payment(1, lat=91), "x", "x"])
    land(settings.landing.path, 10, [payment(1)])
    assert score() == 0
    assert [row["position"] for row in table("rejected")] == [0, 2, 3]
    assert ids(table("transactions")) == [1]


def test_a_trans_num_of_another_card_hides_no_other_payment(score, table, settings):
    other = payment(1, cc_num=5000123412341234)
    land(settings.landing.path, 0, [payment(1), other, other])
    assert score() == 0
    land(settings.landing.path, 10, [other, payment(2)])
    assert score() == 0
    assert ids(table("transactions")) == [1, 2]


def test_a_new_checkpoint_remembers_payments_that_another_card_keeps_from_being_scored(
    score, table, settings
):
    other = {"cc_num": 5000123412341234}
    land(settings.landing.path, 0, [payment(1), payment(1, **other)])
    assert score() == 0
    shutil.rmtree(settings.warehouse.checkpoint("score"))
    land(settings.landing.path, 10, [payment(1, **other), payment(2, **other)])
    assert score() == 0
    assert ids(table("transactions")) == [1, 2]
    assert [row["position"] for row in table("duplicates")] == [1]
    assert table("transactions")[1]["features"]["payment_count_by_card_today"] == 1


def test_a_second_run_goes_on_from_where_the_first_stopped(score, table, settings):
    land(settings.landing.path, 0, [payment(1), payment(2)])
    assert score() == 0
    assert score() == 0
    land(settings.landing.path, 10, [payment(2), payment(3)])
    assert score() == 0
    assert ids(table("transactions")) == [1, 2, 3]


@pytest.mark.parametrize("dies_at", ["transactions", "rejected", "the end"])
def test_a_batch_that_died_appears_once(score, table, settings, monkeypatch, dies_at):
    land(settings.landing.path, 0, [payment(1), "x", payment(2)])
    commit = jobs.micro_batch.commit

    def dying(table, files, query, batch_id):
        if table.path.endswith(dies_at):
            raise RuntimeError("killed")
        is_new = commit(table, files, query, batch_id)
        if dies_at == "the end" and table.path.endswith("rejected"):
            raise RuntimeError("killed")
        return is_new

    monkeypatch.setattr(jobs.micro_batch, "commit", dying)
    assert score() == 1
    monkeypatch.setattr(jobs.micro_batch, "commit", commit)
    land(settings.landing.path, 10, [payment(2), payment(3)])
    assert score() == 0
    assert ids(table("transactions")) == [1, 2, 3]
    assert [row["payload"] for row in table("rejected")] == ["x"]


def test_what_a_failed_attempt_left_of_the_state_is_not_taken_for_that_of_the_one_that_counts(
    score, table, settings, monkeypatch, tmp_path
):
    one_by_one = settings.model_copy(
        update={"score": settings.score.model_copy(update={"max_files_per_batch": 1})}
    )
    land(settings.landing.path, 0, [payment(1)])
    assert score(job_settings=one_by_one) == 0
    checkpoint, at_the_kill = Path(settings.warehouse.checkpoint("score")), tmp_path / "at the kill"
    commit = jobs.micro_batch.commit

    def failing(table, files, query, batch_id):
        raise OSError(28, "No space left on device")

    def killed(table, files, query, batch_id):
        if batch_id == 3 and not at_the_kill.exists():
            shutil.copytree(checkpoint, at_the_kill)
        return commit(table, files, query, batch_id)

    land(settings.landing.path, 10, [payment(2), payment(3, lat=91)])
    monkeypatch.setattr(jobs.micro_batch, "commit", failing)
    assert score(job_settings=one_by_one) == 1  # its tasks have written their state
    land(settings.landing.path, 20, [payment(4)])
    land(settings.landing.path, 30, [payment(2), payment(3, lat=91), payment(5)])
    monkeypatch.setattr(jobs.micro_batch, "commit", killed)
    assert score(job_settings=one_by_one) == 0
    shutil.rmtree(checkpoint)
    at_the_kill.rename(checkpoint)
    forget_what_workers_hold()
    land(settings.landing.path, 40, [payment(4), payment(6)])
    assert score(job_settings=one_by_one) == 0
    assert ids(table("transactions")) == [1, 2, 4, 5, 6]
    counts = [row["features"]["payment_count_by_card_today"] for row in table("transactions")]
    assert counts == [0, 1, 2, 3, 4]
    assert len(table("rejected")) == 1


def forget_what_workers_hold():
    """End Spark's Python workers, which wait for work: the next ones read the state."""
    own = {process.pid for process in psutil.Process().children(recursive=True)}
    found = psutil.process_iter(["cmdline", "ppid"])
    pyspark = [one for one in found if "pyspark.daemon" in (one.info["cmdline"] or ())]
    forked_from = {one.pid for one in pyspark}
    workers = [one for one in pyspark if one.pid in own and one.info["ppid"] in forked_from]
    assert workers
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.kill()
    psutil.wait_procs(workers)


def test_a_batch_whose_commit_was_lost_appears_once(score, table, settings):
    land(settings.landing.path, 0, [payment(1), "x"])
    assert score() == 0
    commits = Path(settings.warehouse.checkpoint("score")) / "commits"
    for commit in commits.glob("*0*"):
        commit.unlink()
    land(settings.landing.path, 10, [payment(1), payment(2)])
    assert score() == 0
    assert ids(table("transactions")) == [1, 2]
    assert len(table("rejected")) == 1


def test_a_batch_whose_commit_was_lost_appears_once_after_a_long_time_and_upkeep(
    score, table, settings
):
    """Its files have stayed in the landing folder, its number in the log."""
    land(settings.landing.path, 0, [payment(1), "x"])
    land(settings.landing.path, 5, [payment(9)])
    few = settings.model_copy(
        update={"score": settings.score.model_copy(update={"max_files_per_batch": 1})}
    )
    assert score(job_settings=few) == 0
    commits = Path(settings.warehouse.checkpoint("score")) / "commits"
    for commit in commits.glob("*1*"):
        commit.unlink()
    land(settings.landing.path, 10, [payment(1), payment(2)])
    keep_up(settings)
    assert len(list(settings.maintain.archive.rglob("*.jsonl"))) == 1
    assert len(list(Path(settings.landing.path).iterdir())) == 2
    assert commits_of(settings, "transactions")[0] > 0
    assert score() == 0
    assert ids(table("transactions")) == [1, 9, 2]
    assert len(table("rejected")) == 1


def test_a_new_checkpoint_remembers_payments_whose_files_were_archived(score, table, settings):
    land(settings.landing.path, 0, [payment(1), payment(2), "x"])
    land(settings.landing.path, 10, [payment(1), payment(3)])
    assert score() == 0
    keep_up(settings)
    assert len(list(Path(settings.landing.path).iterdir())) == 1
    shutil.rmtree(settings.warehouse.checkpoint("score"))
    land(settings.landing.path, 20, [payment(1), payment(4)])
    assert score() == 0
    assert ids(table("transactions")) == [1, 2, 3, 4]
    last = table("transactions")[-1]["features"]
    assert last["payment_count_by_card_24h"] == 3
    arrivals = read_arrivals(settings.landing.path, settings.score, settings.maintain.archive)
    assert arrivals["position"].tolist() == [0, 1, 10, 11, 20, 21]


def test_a_new_checkpoint_remembers_what_was_rejected(score, table, settings):
    bad = payment(1, lat=91), payment(2, cc_num=5000123412341234, amt=-1), "no json"
    land(settings.landing.path, 0, bad)
    assert score() == 0  # also where nothing was scored yet
    for first in (10, 20):
        shutil.rmtree(settings.warehouse.checkpoint("score"))
        land(settings.landing.path, first, [*bad[:2], payment(first)])
        assert score() == 0
        assert [row["position"] for row in table("rejected")] == [0, 1, 2]
    assert ids(table("transactions")) == [10, 20]


def test_a_new_checkpoint_starts_behind_what_the_tables_hold(score, table, settings):
    land(settings.landing.path, 0, [payment(1), "x", payment(2)])
    (Path(settings.landing.path) / "foreign.txt").write_text("a line from elsewhere\n")
    assert score() == 0
    shutil.rmtree(settings.warehouse.checkpoint("score"))
    land(settings.landing.path, 10, [payment(1, amt=5), payment(3), "y"])
    assert score() == 0
    assert ids(table("transactions")) == [1, 2, 3]
    assert sorted(row["payload"] for row in table("rejected")) == [
        "a line from elsewhere",
        "x",
        "y",
    ]
    land(settings.landing.path, 20, [payment(3), payment(4)])
    assert score() == 0
    assert ids(table("transactions")) == [1, 2, 3, 4]


def test_a_checkpoint_with_another_number_of_buckets_is_refused(score, table, settings):
    land(settings.landing.path, 0, [payment(1)])
    assert score() == 0
    other = settings.model_copy(update={"score": settings.score.model_copy(update={"buckets": 5})})
    with pytest.raises(OtherLayout, match="has the layout v3-buckets-16, expected v3-buckets-5"):
        score(job_settings=other)
    shutil.rmtree(settings.warehouse.checkpoint("score"))
    land(settings.landing.path, 10, [payment(1), payment(2)])
    assert score(job_settings=other) == 0
    assert ids(table("transactions")) == [1, 2]


def test_a_checkpoint_that_has_run_needs_no_past_also_when_its_first_commit_is_dropped(
    score, spark, settings
):
    """Spark keeps the last hundred."""
    checkpoint = settings.warehouse.checkpoint("score")
    for number in (1, 2):
        shutil.rmtree(checkpoint, ignore_errors=True)
        land(settings.landing.path, 10 * number, [payment(number)])
        assert score() == 0
    commits = Path(checkpoint) / "commits"
    (commits / "0").rename(commits / "101")
    assert resume_point(spark, settings, checkpoint).past is None
    (commits / "101").unlink()
    assert resume_point(spark, settings, checkpoint).past is not None
    shutil.rmtree(Path(checkpoint) / "layout")
    (commits / "101").touch()
    with pytest.raises(OtherLayout, match="of an earlier version"):
        resume_point(spark, settings, checkpoint)


def test_a_trans_num_is_free_again_once_it_is_forgotten_however_the_stream_is_cut(
    score, table, settings
):
    """The replay goes by the same rule."""
    anywhen = settings.model_copy(
        update={"score": settings.score.model_copy(update={"max_days_ahead": 0})}
    )
    folder = Path(settings.landing.path)
    folder.mkdir(parents=True)
    lines = [
        envelope_line("api", n, datetime(2024, 6, 2, tzinfo=UTC) + timedelta(days=days),
                      json.dumps(payment(1, cc_num=CARD + card)))
        for n, (card, days) in enumerate([(0, 0), (1, 20), (2, 40), (0, 71), (1, 102)])
    ]  # fmt: skip
    (folder / "payments.jsonl").write_text("".join(f"{line}\n" for line in lines))
    assert score(job_settings=anywhen) == 0
    assert [row["position"] for row in table("transactions")] == [0, 3, 4]
    assert [row["position"] for row in table("duplicates")] == [1, 2]
    arrivals = read_arrivals(settings.landing.path, anywhen.score)
    assert first_arrivals(arrivals, 30)[1].tolist() == [True, False, False, True, True]


def test_each_row_says_which_version_scored_it(score, table, settings):
    land(settings.landing.path, 0, [payment(1)])
    assert score(constant_version("1", 0.25)) == 0
    land(settings.landing.path, 10, [payment(2)])
    assert score(constant_version("2", 0.75)) == 0
    land(settings.landing.path, 20, [payment(3, amt=912.33), payment(4)])
    forest = forest_version("3")
    assert score(forest) == 0
    reasons = [row["reasons"] for row in table("transactions")]
    assert reasons[:2] == [None, []]
    assert reasons[2][0].endswith(" times this card's 30-day mean")
    assert reasons[3] is None
    found = [(r["model_version"], r["prediction"]) for r in table("transactions")]
    assert [version for version, _ in found] == ["1", "2", "3", "3"]
    assert [hit for _, hit in found[:2]] == [False, True]


def test_scores_and_features_are_those_of_training(score, spark, settings):
    payments = [
        payment(n, amt=n * 37.5, category=f"kind_{n % 5}", merch_lat=45 + n / 40,
                current_time=1_717_245_296_000 + n * 5_000_000)
        for n in range(40)
    ]  # fmt: skip
    land(settings.landing.path, 0, payments)
    version = forest_version("1")
    assert score(version) == 0
    stored = read_table(spark, settings.warehouse, "transactions").orderBy("position").toPandas()
    inputs = inputs_of(stored)
    expected = load_archive(version.archive, version.inputs).predict(inputs)
    assert (stored["fraud_score"].to_numpy() == expected).all()
    for name in FEATURE_NAMES:
        found = np.array([row[name] for row in stored["features"]])
        np.testing.assert_array_equal(found, inputs[name])


def test_batches_do_not_change_rows(score, spark, settings):
    payments = [payment(n % 7, amt=n) for n in range(12)] + ["x"]
    land(settings.landing.path, 0, payments)
    assert score() == 0
    whole = read_table(spark, settings.warehouse, "transactions").drop("ingested_at", "scored_at")
    expected = sorted(map(str, whole.collect()))  # NaN is not equal to itself
    apart = settings.model_copy(update={"warehouse": settings.warehouse.model_copy(update={
        "path": settings.warehouse.path + "2", "checkpoints": settings.warehouse.checkpoints + "2",
    }), "landing": settings.landing.model_copy(update={"path": settings.landing.path + "2"})})  # fmt: skip
    for position, item in enumerate(payments):
        land(apart.landing.path, position, [item])
    one_by_one = apart.model_copy(
        update={"score": apart.score.model_copy(update={"max_files_per_batch": 5})}
    )
    assert score(job_settings=one_by_one) == 0
    again = read_table(spark, apart.warehouse, "transactions").drop("ingested_at", "scored_at")
    assert sorted(map(str, again.collect())) == expected


def test_tables_gain_columns_that_they_lack(score, spark, settings):
    path = settings.warehouse.table("transactions")
    lacking = ("label_source", "reasons")
    present = [field for field in arrow_schema("transactions") if field.name not in lacking]
    DeltaTable.create(path, Schema.from_arrow(pa.schema(present)))
    land(settings.landing.path, 0, [payment(1)])
    assert score(constant_version("1", 0.75)) == 0
    row = spark.read.format("delta").load(path).select("reasons", "label_source").first()
    assert (row["reasons"], row["label_source"]) == ([], None)


class Told(FixedModels):
    """Moves from a champion that failed to the one before, and drops a challenger that did."""

    def __init__(self, lineup):
        super().__init__(lineup)
        self.told = []

    def failed(self, version, reason):
        self.told.append((version.version, reason))

    def proved(self, version):
        self.told.append((version.version, "scored a micro-batch"))


def test_versions_that_fail_in_the_stream_cost_no_payment_and_are_told(spark, settings, table):
    nonsense = "return np.where(data['amt'] > 500, np.nan, 0.25)"
    lineup = Lineup(
        code_version("2", nonsense),
        code_version("3", nonsense),
        previous=constant_version("1", 0.75),
    )
    models = Told(lineup)
    cards = [4000123412341234 + 7 * number for number in range(12)]
    some = [payment(n, cc_num=card, amt=100 + n) for n, card in enumerate(cards)]
    land(settings.landing.path, 0, [*some, payment(50, amt=900)])
    assert jobs.score.run_score(spark, settings, models, True, threading.Event()) == 0
    rows = table("transactions")
    assert len(rows) == 13
    assert {(row["model_version"], row["fraud_score"]) for row in rows} == {("1", 0.75)}
    assert all(row["reasons"] is not None for row in rows)
    assert {row["challenger_score"] for row in rows} <= {None, 0.25}
    reason = "its output nan is no probability (0 to 1)"
    assert models.told == [("2", reason), ("3", reason), ("1", "scored a micro-batch")]
