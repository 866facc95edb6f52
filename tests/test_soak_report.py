import json
import os

import numpy as np
import pandas as pd
import pytest

from benchmarks.commits import read_commits
from benchmarks.soak_report import PANELS, draw, trends
from benchmarks.soak_samples import commit_seconds

MINUTES = np.arange(0, 60, 0.5)


def verdict_of(column, values, warm_minutes=15):
    samples = pd.DataFrame({"minutes": MINUTES, column: values})
    (found,) = trends(samples, warm_minutes)
    return found.verdict


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        (1000 + 0 * MINUTES, "flat"),
        (1000 + 80 * MINUTES / 60, "flat"),  # 8 % an hour
        (1000 + 150 * MINUTES / 60, "rises"),
        (1000 - 150 * MINUTES / 60, "falls"),
        (1000 + 200 * (MINUTES % 6), "flat"),  # a saw, which maintain makes
        (np.where(MINUTES == 59.5, 1e6, 1000), "flat"),  # one outlier
        (30 * MINUTES, "rises"),
    ],
)
def test_a_curve_is_judged_by_its_slope_after_the_warm_up(values, verdict):
    assert verdict_of("score_jvm_mb", values) == verdict


def test_the_warm_up_does_not_count():
    values = np.where(MINUTES < 40, 25 * MINUTES, 1000)
    assert verdict_of("score_jvm_mb", values, warm_minutes=40) == "flat"
    assert verdict_of("score_jvm_mb", values, warm_minutes=0) == "rises"


def test_what_grows_by_design_says_why():
    assert verdict_of("data_mb", MINUTES) == "grows: holds every payment"


def test_small_values_may_wander():
    assert verdict_of("open_seconds", 0.01 + 0.01 * MINUTES / 60) == "flat"


def test_the_plot_has_every_panel_also_where_a_column_is_missing(tmp_path):
    columns = [column for panel in PANELS for column in panel.lines.values()]
    samples = pd.DataFrame(dict.fromkeys(columns[1:], MINUTES) | {"minutes": MINUTES})
    draw(samples, 15, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
    assert len(trends(samples, 15)) == len(columns) - 1


def test_a_commit_lasts_from_its_last_data_file(tmp_path):
    def add(milliseconds):
        return {"add": {"path": "a.parquet", "modificationTime": milliseconds}}

    txn = {"txn": {"appId": "a", "version": 1}}
    log = tmp_path / "_delta_log"
    log.mkdir()
    for version, actions in enumerate(
        [[add(1), txn], [add(1000), add(2500), txn], [add(9)], [txn]]
    ):
        path = log / f"{version:020d}.json"
        path.write_text("".join(json.dumps(action) + "\n" for action in actions))
        os.utime(path, (2.75, 2.75))
    (log / "_commit_1.json.tmp").write_text("{")

    commits = list(read_commits(tmp_path, after=0))
    assert [commit.version for commit in commits] == [1, 2, 3]
    assert commit_seconds(commits) == [0.25]
