"""The benchmark's payments: what it puts into the state is what a replay would have put there."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from benchmarks.workload import Workload
from ingest.schema import API_COLUMNS
from ingest.synthetic_habits import HABITS
from jobs.arrivals import cut_into_buckets, identifiers_of, judge_cards
from jobs.blocks import from_block
from jobs.bucket import Bucket
from jobs.envelopes import open_files
from jobs.feature_pass import feature_frame
from jobs.features import FEATURE_NAMES
from jobs.parse import Rules, parse_payloads
from tests.conftest import landed_file

BUCKETS = 4


@pytest.fixture(scope="module")
def workload():
    return Workload(cards=50, history_per_card=30)


@pytest.fixture(scope="module")
def parsed(workload):
    lines = workload.lines(0, 300)
    table = landed_file("".join(f"{line}\n" for line in lines).encode())
    return parse_payloads(open_files(table), Rules(max_days_ahead=1.0))


def test_every_line_is_a_payment_of_the_api(workload, parsed):
    assert parsed["reason"].null_count == len(parsed) == 300
    payload = json.loads(json.loads(workload.lines(0, 1)[0])["payload"])
    assert set(payload) == set(API_COLUMNS)
    assert workload.lines(0, 5) == Workload(50, 30).lines(0, 5)


def test_features_over_the_prepared_state_are_those_of_a_replay(workload, parsed):
    past = dict(workload.past(BUCKETS))
    found = []
    for key, block in cut_into_buckets(parsed, BUCKETS):
        arrived = from_block(block)
        if key < 0:
            bucket = Bucket(["base"], past[key])
            assert not bucket.seen(identifiers_of(arrived), 30 * 86400)[0].any()
            continue
        chunk = past[key]
        bucket = Bucket()
        bucket.add("base", type(chunk)(chunk.records.in_order(), chunk.identifiers.sorted()))
        output, _ = judge_cards(arrived.sort_by("position"), bucket, 30 * 86400)
        found.append(from_block(output["payments"]))
    found = pa.concat_tables(found).sort_by("position").to_pandas()

    drawn = workload.drawn_past()
    before = pd.DataFrame(
        {
            "cc_num": workload.population.holders["cc_num"].to_numpy()[drawn.card],
            "category": np.array([h.category for h in HABITS], dtype=object)[drawn.category],
            "amt": drawn.amount,
            "event_time": pd.to_datetime(drawn.milliseconds, unit="ms", utc=True),
        }
    )
    before["ingested_at"] = before["event_time"] + pd.Timedelta(500, "ms")
    for name in ("lat", "long", "merch_lat", "merch_long"):
        before[name] = 0.0
    before["dob"] = pd.Timestamp("1980-01-01")
    found["ingested_at"] = found["received_at"]
    expected = feature_frame(found, history=before)
    assert (expected["payment_count_by_card_30d"] > 5).mean() > 0.9
    for name in FEATURE_NAMES:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
