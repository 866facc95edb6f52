"""The draw of payments for review."""

import csv
import logging
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

import jobs.review
from conf.sections import LabelSettings
from jobs.review import WORKLIST_COLUMNS, draw_reviews, is_chosen
from tests.written_rows import scored_rows

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def score(settings):
    """Put scored payments into `transactions`; they are no hits."""

    def append(*positions, hour=0, **changes):
        rows = scored_rows(
            *positions, **({"prediction": False, "scored_at": NOW + hour * HOUR, "reasons": None} | changes)
        )  # fmt: skip
        path = jobs.review.ensure_table(settings.warehouse, "transactions")
        write_deltalake(path, rows, mode="append")

    return append


@pytest.fixture
def draw(settings, tmp_path):
    """Draw with a share; the rows of the worklist."""

    def drawn(share, hour=0):
        label = LabelSettings(review_share=share, worklists=tmp_path / "reviews")
        worklist = draw_reviews(settings.warehouse, label, NOW + hour * HOUR)
        if worklist is None:
            return []
        with worklist.open(newline="") as file:
            return list(csv.DictReader(file))

    return drawn


def reviews(settings):
    rows = DeltaTable(settings.warehouse.table("reviews")).to_pandas()
    return rows.sort_values(["drawn_at", "trans_num"])


def test_about_the_share_is_chosen_and_always_the_same():
    names = pa.chunked_array([[f"{number:032x}" for number in range(20_000)]])
    few, more = is_chosen(names, 0.1), is_chosen(names, 0.2)
    assert few.mean() == pytest.approx(0.1, abs=0.01)
    assert more.mean() == pytest.approx(0.2, abs=0.01)
    assert (more | ~few).all()
    assert (is_chosen(names, 0.1) == few).all()
    assert is_chosen(names, 1).all()
    assert np.flatnonzero(few)[:3].tolist() == [8, 13, 24]


def test_a_draw_takes_what_is_below_the_threshold_and_not_known_yet(settings, score, draw):
    score(*range(20))
    score(20, prediction=True)
    score(21, label=True)
    assert len(draw(1.0)) == 20
    rows = reviews(settings)
    assert rows["trans_num"].tolist() == [f"{number:032x}" for number in range(20)]
    assert set(rows["probability"]) == {1.0}
    assert set(rows["fraud_score"]) == {0.75}
    assert set(rows["model_version"]) == {"3"}
    assert (rows["drawn_at"] == NOW).all()


def test_the_worklist_is_what_an_analyst_fills_in(score, draw):
    score(7, merchant="=cmd()", hour=1)
    (row,) = draw(1.0)
    assert tuple(row) == WORKLIST_COLUMNS
    assert row == {
        "trans_num": f"{7:032x}", "event_time": "2024-06-01 12:34:56", "card": "**** 1234", "amt": "84.5",
        "merchant": "'=cmd()", "category": "shopping_net", "city": "Springvale", "state": "OR",
        "fraud_score": "0.75", "fraud": "", "source": "review", "analyst": "", "note": "",
    }  # fmt: skip


def test_no_payment_is_looked_at_twice(settings, score, draw):
    """Also where the share was changed, or nothing was drawn."""
    score(*range(50))
    first = draw(0.3)
    assert 5 < len(first) < 25
    assert draw(1.0, hour=1) == []
    score(*range(50, 60), hour=2)
    assert draw(1e-9, hour=3) == []
    assert draw(1.0, hour=4) == []
    score(*range(60, 63), hour=5)
    assert len(draw(1.0, hour=6)) == 3
    rows = reviews(settings)
    assert rows["trans_num"].is_unique
    assert rows["probability"].tolist() == [0.3] * len(first) + [1.0] * 3


def test_a_trans_num_that_is_used_again_is_not_drawn_again(settings, score, draw):
    score(1, 2)
    score(2, hour=1)
    assert len(draw(1.0, hour=2)) == 2
    score(1, hour=3)
    assert draw(1.0, hour=4) == []


def test_a_draw_that_died_is_finished_or_made_again(settings, score, draw, tmp_path, monkeypatch):
    score(*range(3))
    with monkeypatch.context() as patch:
        patch.setattr(jobs.review, "write_deltalake", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            draw(1.0)
    assert [path.name[0] for path in (tmp_path / "reviews").iterdir()] == ["."]
    assert len(draw(1.0, hour=1)) == 3
    assert [path.name for path in (tmp_path / "reviews").iterdir()] == [
        "20260301T130000000000Z.csv"
    ]
    worklist = tmp_path / "reviews" / "20260301T130000000000Z.csv"
    worklist.rename(worklist.with_name(f".{worklist.name}"))  # died before it was shown
    assert draw(1.0, hour=2) == []
    assert worklist.is_file()


def test_the_command_prints_the_worklist(settings, score, monkeypatch, capsys, caplog):
    monkeypatch.setattr("sys.argv", ["review", "--config", "conf/local.toml"])
    caplog.set_level(logging.INFO, "jobs.review")
    assert jobs.review.main() == 0
    assert "nothing new below the threshold" in caplog.text
    score(*range(3))
    monkeypatch.setenv("FRAUD_LABEL__REVIEW_SHARE", "1")
    assert jobs.review.main() == 0
    printed = capsys.readouterr().out.strip()
    assert re.fullmatch(re.escape(str(settings.label.worklists)) + r"/\d{8}T\d{12}Z\.csv", printed)
