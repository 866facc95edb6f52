"""No skew between stream and training, proved on streams with everything that goes wrong."""

import json
import os
import random
import shutil
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable

import jobs.score
from ingest.envelope import envelope_line
from ingest.payment_files import read_payments
from ingest.schema import check_payment
from jobs.feature_pass import feature_frame
from jobs.features import FEATURE_NAMES
from jobs.lineup import FixedModels, Lineup
from jobs.scoring import load_archive
from tests.conftest import land, payment
from tests.models import constant_version, forest_version, logistic_version
from training.replay import read_scored, replay
from training.versions import Judge

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")

CARDS = [4000123412341234 + n for n in range(5)]
ROWS_A_FILE = 30


@pytest.fixture
def score(spark):
    """Run the query over what landed."""

    def run(version, settings):
        champion = threading.Event()
        assert (
            jobs.score.run_score(spark, settings, FixedModels(Lineup(version)), True, champion) == 0
        )

    return run


def judges(*versions):
    """The versions, as ``training.versions.load_judge`` gives them."""
    known = {(version.name, version.version): version for version in versions}

    def judge_of(name, number):
        version = known.pop((name, number))  # loaded once, however many rows it scored
        model = load_archive(version.archive, version.inputs)
        return Judge(name, number, version.threshold, model)

    return judge_of


def changed(settings, **score):
    return settings.model_copy(update={"score": settings.score.model_copy(update=score)})


def arrivals(rows):
    """(received_at, payload) of so many rows over some ten weeks: payments in bursts, late ones,
    ties, duplicates on the same and on other cards, and what is no payment.
    """
    rng, now, known = random.Random(11), datetime(2025, 1, 1, tzinfo=UTC), []
    for number in range(rows):
        now += timedelta(seconds=rng.choice([rng.uniform(1, 900)] * 3 + [rng.uniform(0, 120_000)]))
        kind = rng.random()
        if kind < 0.06:
            yield now, rng.choice(["no json", b"\xff", json.dumps(payment(number, lat=91))])
        elif kind < 0.16 and known:
            yield now, rng.choice(known[-40:]) | {"amt": rng.randrange(1, 90_000) / 100}
        elif kind < 0.24 and known:
            yield now, rng.choice(known[-15:]) | {"cc_num": rng.choice(CARDS[:2])}
        elif kind < 0.27 and known:
            yield now, rng.choice(known[:30])  # in the end, from before `seen_days`
        else:
            late = timedelta(seconds=rng.choice([0] * 6 + [rng.uniform(0, 260_000)]))
            moment = int((now - late).timestamp()) * 1000
            card = rng.choice(CARDS)
            if kind > 0.85 and known:  # in the same second
                card, moment = known[-1]["cc_num"], known[-1]["current_time"]
            known.append(
                payment(
                    number, cc_num=card, current_time=moment, amt=rng.randrange(1, 90_000) / 100,
                    category=f"kind_{number % 5}", merch_lat=45 + rng.random(),
                )
            )  # fmt: skip
            yield now, known[-1]


def land_files(settings, rows, first_file, files):
    folder = Path(settings.landing.path)
    folder.mkdir(exist_ok=True)
    for file in range(first_file, first_file + files):
        first = file * ROWS_A_FILE
        lines = [
            envelope_line(
                "api", first + n, moment, raw if isinstance(raw, str | bytes) else json.dumps(raw)
            )
            for n, (moment, raw) in enumerate(rows[first : first + ROWS_A_FILE])
        ]
        path = folder / f"payments-{first:020d}.jsonl"
        path.write_text("".join(line + "\n" for line in lines))
        os.utime(path, (1_700_000_000 + first, 1_700_000_000 + first))


def told(report):
    return {item.what: item.count for item in report.differences}


def test_restarts_a_lost_checkpoint_and_other_buckets_change_nothing(score, settings):
    rows = list(arrivals(13 * ROWS_A_FILE))
    forest, logistic, last = forest_version("1"), logistic_version("2"), forest_version("3")
    settings = changed(settings, max_files_per_batch=2)
    checkpoint = settings.warehouse.checkpoint("score")

    land_files(settings, rows, 0, 4)
    score(forest, settings)
    land_files(settings, rows, 4, 3)
    score(logistic, settings)
    shutil.rmtree(checkpoint)  # lost
    land_files(settings, rows, 7, 3)
    score(logistic, settings)
    shutil.move(checkpoint, checkpoint + "-16")  # README: change the number of buckets
    settings = changed(settings, max_files_per_batch=2, buckets=5)
    land_files(settings, rows, 10, 3)
    score(last, settings)

    report = replay(settings, judges(forest, logistic, last))
    assert report.differences == ()
    assert set(report.versions) == {("forest", "1"), ("logistic", "2"), ("forest", "3")}
    assert report.compared > 0.6 * len(rows)
    assert report.not_scored_yet == 0
    assert_everything_happened(settings)
    falsify_a_line(Path(settings.landing.path))
    found = told(replay(settings, judges(forest, logistic, last)))
    assert found["amount_usd"] == 1
    assert found["amount_usd_mean_by_card_30d"] > 1  # the payments that came after it


def assert_everything_happened(settings):
    """The stream had in it what the test is about."""
    warehouse = settings.warehouse
    table = DeltaTable(warehouse.table("transactions"))
    assert sum(commit["operation"] == "WRITE" for commit in table.history()) >= 7
    scored = table.to_pandas().sort_values("position")
    assert not scored["trans_num"].is_unique  # told again after more than `seen_days`
    assert (scored["ingested_at"].max() - scored["ingested_at"].min()).days > 60
    by_card = scored.groupby("cc_num")["event_time"]
    assert (by_card.diff() < pd.Timedelta(0)).sum() > 10
    assert (by_card.diff() == pd.Timedelta(0)).sum() > 10
    assert DeltaTable(warehouse.table("rejected")).to_pandas().shape[0] > 10
    assert DeltaTable(warehouse.table("duplicates")).to_pandas().shape[0] > 5


def falsify_a_line(folder):
    """Another amount in the first line landed."""
    path = min(folder.iterdir())
    first, *rest = path.read_text().splitlines()
    envelope = json.loads(first)
    envelope["payload"] = json.dumps(json.loads(envelope["payload"]) | {"amt": 1234.56})
    path.write_text("\n".join([json.dumps(envelope), *rest]) + "\n")


def test_a_new_checkpoint_knows_the_payments_of_a_file(score, settings, tmp_path):
    begun = 1_717_245_296_000
    earlier = [
        payment(n, cc_num=CARDS[n % 2], amt=10.0 + n, current_time=begun + n * 3_000_000)
        for n in range(24)
    ]
    path = tmp_path / "history.csv"
    pd.DataFrame(earlier).to_csv(path, index=False)
    new = [
        payment(100 + n, cc_num=CARDS[n % 3], amt=20.0, current_time=begun + (24 + n) * 3_000_000)
        for n in range(9)
    ]
    seen = [earlier[3], earlier[4] | {"cc_num": CARDS[1]}]  # one again, one on another card
    land(settings.landing.path, 0, [*seen, *new])
    settings = changed(settings, history=(str(path),))
    version = constant_version("1", 0.25)
    score(version, settings)

    history = read_payments(path)
    arrived = pd.DataFrame([check_payment(item) for item in [*seen[1:], *new]])
    expected = feature_frame(arrived, history)[1:]
    stored = read_scored(settings).sort_values("position")
    assert stored["trans_num"].tolist() == [item["trans_num"] for item in new]
    np.testing.assert_array_equal(stored[list(FEATURE_NAMES)], expected)
    assert expected["payment_count_by_card_30d"].tolist() == [12, 13, 0, 13, 14, 1, 14, 15, 2]

    assert replay(settings, judges(version), history).differences == ()
    assert told(replay(settings, judges(version)))["payment_count_by_card_30d"] > 5


def test_files_named_when_nothing_had_landed_are_remembered_and_later_they_are_of_no_effect(
    score, settings, tmp_path, caplog
):
    path = tmp_path / "history.csv"
    pd.DataFrame([payment(1), payment(2)]).to_csv(path, index=False)
    with_files, version = changed(settings, history=(str(path),)), constant_version("1", 0.25)
    Path(settings.landing.path).mkdir()
    score(version, with_files)
    land(settings.landing.path, 10, [payment(3)])
    score(version, settings)
    caplog.set_level("INFO", "jobs.resume")

    def told_of_resume():
        return [record.message for record in caplog.records if record.name == "jobs.resume"]

    land(settings.landing.path, 20, [payment(4)])
    score(version, settings)
    assert told_of_resume() == []
    score(version, with_files)
    assert told_of_resume() == ["score.history is of no effect: only a new checkpoint reads it"]
    scored = read_scored(settings).sort_values("position")
    assert scored["payment_count_by_card_30d"].tolist() == [2, 3]


def test_files_that_overlap_with_the_tables_or_themselves_count_each_payment_once(
    score, settings, tmp_path
):
    begun, version = 1_717_245_296_000, constant_version("1", 0.25)

    def some(first, count, cards):
        return [
            payment(n, cc_num=CARDS[n % cards], amt=10.0 + n, current_time=begun + n * 3_000_000)
            for n in range(first, first + count)
        ]

    scored = some(0, 12, 2)
    land(settings.landing.path, 0, scored)
    score(version, settings)
    shutil.rmtree(settings.warehouse.checkpoint("score"))
    only_in_the_file = [item | {"cc_num": CARDS[2]} for item in some(12, 4, 1)]
    path = tmp_path / "history.csv"
    pd.DataFrame([*scored, *only_in_the_file, *scored[:3], only_in_the_file[0]]).to_csv(path)
    settings = changed(settings, history=(str(path),))
    land(settings.landing.path, 20, [scored[1], only_in_the_file[1], *some(30, 6, 3)])
    score(version, settings)

    stored = read_scored(settings).sort_values("position")
    assert stored["position"].tolist() == [*range(12), *range(22, 28)]
    assert stored["payment_count_by_card_30d"].tolist()[12:] == [6, 6, 4, 7, 7, 5]
    history = read_payments(path)
    assert replay(settings, judges(version), history).differences == ()
    # What is scored behind the checkpoint's beginning must not be in the files.
    more = pd.concat([history, history.assign(trans_num=f"{30:032x}")[:1]], ignore_index=True)
    assert told(replay(settings, judges(version), more))["in transactions, not expected"] == 1
