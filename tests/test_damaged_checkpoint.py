"""A checkpoint of which a file was cut: the job says what to do, and doing it loses nothing."""

import os
import threading
from pathlib import Path

import pytest

import jobs.score
from jobs.lineup import FixedModels, Lineup
from jobs.tables import read_table
from tests.conftest import land, payment
from tests.models import constant_version

ADVICE = "move the checkpoint away and start again; a new one goes on behind what the tables hold"


@pytest.fixture
def score(spark, settings):
    models = FixedModels(Lineup(constant_version("1", 0.25)))
    return lambda: jobs.score.run_score(spark, settings, models, True, threading.Event())


@pytest.fixture
def cut(settings, score):
    """Score two payments, then cut the newest file of a part of the checkpoint; the checkpoint."""

    def run(part: str, share: float) -> Path:
        for number in (1, 2):
            land(settings.landing.path, number, [payment(number)])
            assert score() == 0
        checkpoint = Path(settings.warehouse.checkpoint("score"))
        files = [path for path in checkpoint.rglob(f"{part}*") if path.name[0] != "."]
        newest = max(files, key=lambda path: path.stat().st_mtime_ns)
        os.truncate(newest, int(newest.stat().st_size * share))
        land(settings.landing.path, 10, [payment(3), payment(2)])
        return checkpoint

    return run


@pytest.mark.parametrize(
    ("part", "share"), [("offsets/[0-9]", 0.5), ("metadata", 0), ("state/**/*.changelog", 0)]
)
def test_a_damaged_checkpoint_is_told_in_one_line_and_a_new_one_goes_on(
    spark, settings, score, cut, caplog, part, share
):
    checkpoint = cut(part, share)
    assert score() == 1
    (told,) = [record.getMessage() for record in caplog.records if record.name == "jobs.run"]
    assert told.startswith(f"the query failed: the checkpoint {checkpoint} cannot be read (")
    assert told.endswith(ADVICE)
    assert "\n" not in told

    checkpoint.rename(checkpoint.with_name("damaged"))
    assert score() == 0
    rows = read_table(spark, settings.warehouse, "transactions").collect()
    assert sorted(int(row["trans_num"], 16) for row in rows) == [1, 2, 3]
