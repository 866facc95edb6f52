import sqlite3
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.call_ledger import (
    LANDED,
    PRINTED,
    AlreadyRunning,
    Call,
    CallLedger,
    LedgerError,
    Pace,
    exclusive,
    read_calls,
)
from ingest.gap_report import find_gaps

PACE = Pace(calls_per_minute=5, timeout_seconds=10.0)
START = 1_700_000_000.0
LONGEST_PAUSE = 80.0


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made" / "ingest.db"


def next_slot(ledger, now):
    """The call's number and when it starts, having waited as long as the ledger says."""
    while (slot := ledger.take_slot(now)).call is None:
        assert slot.wait_seconds <= 60.5 + PACE.timeout_seconds
        now += max(slot.wait_seconds, 0.001)
    return slot.call, now


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 10),  # how long the call takes
            st.floats(0, 1),  # when in that time the API sees it
            st.sampled_from([0.0, 0.0, 30.0]),  # pause after it
            st.booleans(),  # the process is killed in mid-call
        ),
        min_size=6,
        max_size=25,
    )
)
@example([(10.0, 1.0, 0.0, False)] + [(0.0, 0.0, 0.0, False)] * 6)  # slow, then quick ones
@example([(10.0, 1.0, 0.0, True)] + [(0.0, 0.0, 0.0, False)] * 6)
def test_the_api_never_sees_more_calls_a_minute_also_across_restarts(calls):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ingest.db"
        ledger, now, seen = CallLedger(path, PACE), START, []
        for seconds, share, pause, is_killed in calls:
            call, now = next_slot(ledger, now)
            seen.append(now + seconds * share)
            now += seconds
            if is_killed:
                ledger.close()
                ledger = CallLedger(path, PACE)
            else:
                ledger.finish_call(call, now, LANDED)
            now += pause
        ledger.close()
    seen.sort()
    assert all(later - earlier > 60 for earlier, later in zip(seen, seen[5:], strict=False))


def test_calls_come_evenly(path):
    ledger, now, starts = CallLedger(path, PACE), START, []
    for _ in range(12):
        call, now = next_slot(ledger, now)
        ledger.finish_call(call, now, LANDED)
        starts.append(now)
    steps = [later - earlier for earlier, later in pairwise(starts)]
    assert min(steps) >= 12.0 - 1e-6
    assert max(steps) <= 12.5 + 1e-6


def test_two_processes_share_the_limit(path):
    one, other = CallLedger(path, PACE), CallLedger(path, PACE)
    assert one.take_slot(START).call is not None
    assert other.take_slot(START) == (None, 12.0)


def test_a_clock_set_back_neither_breaks_the_limit_nor_stops_ingest(path):
    ledger, now = CallLedger(path, PACE), START
    for _ in range(5):
        call, now = next_slot(ledger, now)
        ledger.finish_call(call, now, LANDED)
    now -= 86_400
    _, started = next_slot(ledger, now)
    assert 60 < started - now < 61
    times = [call.started_at for call in read_calls(path)]
    assert times == sorted(times)


def test_positions_only_grow_also_across_restarts_and_for_each_source(path):
    ledger = CallLedger(path, PACE)
    assert [ledger.reserve_positions("api", count) for count in (3, 1)] == [0, 3]
    ledger.close()
    ledger = CallLedger(path, PACE)
    assert ledger.reserve_positions("api", 2) == 4
    assert ledger.reserve_positions("other", 1) == 0


def test_positions_go_on_behind_what_is_landed_where_the_ledger_was_lost(path):
    ledger = CallLedger(path, PACE)
    assert ledger.reserve_positions("api", 2, at_least=100) == 100
    assert ledger.reserve_positions("api", 2, at_least=100) == 102


def test_a_file_that_is_no_ledger_is_named(path):
    path.parent.mkdir()
    path.write_text("dear diary, " * 100)
    for use in (lambda: CallLedger(path, PACE), lambda: read_calls(path)):
        with pytest.raises(LedgerError, match=r"ingest\.db.*not a database"):
            use()


def test_a_ledger_that_cannot_be_written_is_an_error_of_its_own(path):
    ledger = CallLedger(path, PACE)
    sqlite3.connect(path).execute("DROP TABLE positions")
    with pytest.raises(LedgerError, match="positions"):
        ledger.reserve_positions("api", 1)


def test_reading_a_ledger_that_is_not_there_makes_none(path):
    assert read_calls(path) == []
    assert not path.parent.exists()


@pytest.mark.parametrize("shared", ["ledger", "folder"])
def test_only_one_ingest_at_a_ledger_and_a_folder(tmp_path, shared):
    first = {"ledger": tmp_path / "a.db", "folder": tmp_path / "a"}
    second = {"ledger": tmp_path / "b.db", "folder": tmp_path / "b", shared: first[shared]}
    with exclusive(**first):
        with pytest.raises(AlreadyRunning, match=first[shared].name), exclusive(**second):
            pass
        with exclusive(tmp_path / "c.db", tmp_path / "c"):
            pass
    with exclusive(**second):
        pass


def landed(*seconds_after_start):
    return [Call(START + seconds, LANDED) for seconds in seconds_after_start]


def gaps_of(calls, now):
    return find_gaps(calls, START + now, PACE, LONGEST_PAUSE)


def test_no_gap_where_calls_come_in_time():
    assert gaps_of(landed(0, 12, 24.2, 40, 52), 64) == []
    assert gaps_of([], 64) == []


def test_a_gap_where_ingest_was_not_running():
    (gap,) = gaps_of(landed(0, 12, 132, 144), 150)
    assert (gap.start, gap.end) == (START + 12, START + 120)  # the call at 132 covers from 120 on
    assert (gap.seconds, gap.calls_missed, gap.why) == (108, 9, "ingest was not running")


def test_a_gap_counts_the_failures_in_it():
    calls = landed(0)
    calls += [Call(START + 12, "status 503"), Call(START + 24, "time-out")]
    calls += [Call(START + 36, "status 503"), *landed(48)]
    (gap,) = gaps_of(calls, 50)
    assert (gap.seconds, gap.calls_missed) == (36, 3)
    assert gap.why == "2 x status 503, 1 x time-out"


def test_each_gap_has_its_own_reasons():
    calls = [*landed(0), Call(START + 12, "time-out"), *landed(24)]
    calls += [Call(START + 36, "status 503"), *landed(48)]
    assert [gap.why for gap in gaps_of(calls, 50)] == ["1 x time-out", "1 x status 503"]


def test_a_gap_of_failures_and_then_nothing():
    calls = [*landed(0), Call(START + 12, "connection refused"), *landed(1200)]
    (gap,) = gaps_of(calls, 1200)
    assert gap.why == "1 x connection refused, ingest was not running"


def test_the_gap_from_the_last_call_to_now():
    (gap,) = gaps_of([*landed(0, 12), Call(START + 24, "status 500")], 50)
    assert (gap.start, gap.end, gap.calls_missed) == (START + 12, START + 50, 3)
    assert gap.why == "1 x status 500"
    assert gaps_of(landed(0, 12), 30) == []


def test_a_first_call_that_failed_is_a_gap():
    (gap,) = gaps_of([Call(START, "time-out"), *landed(12)], 13)
    assert (gap.start, gap.seconds, gap.calls_missed) == (START - 12, 12, 1)


def test_a_printed_call_covers_nothing_and_one_without_an_end_is_told():
    calls = [*landed(0), Call(START + 12, PRINTED), Call(START + 24, None), *landed(36)]
    (gap,) = gaps_of(calls, 40)
    assert gap.why == "1 x --print, which lands nothing, 1 x ended in mid-call"


def test_a_call_under_way_is_no_failure():
    calls = [*landed(0), Call(START + 12, "time-out"), Call(START + 24, None)]
    (gap,) = gaps_of(calls, 25)
    assert gap.why == "1 x time-out"
    (gap,) = gaps_of(calls, 40)
    assert gap.why == "1 x time-out, 1 x ended in mid-call"
