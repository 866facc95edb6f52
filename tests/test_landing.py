import errno
import os
from itertools import pairwise

import pytest

from ingest.landing import FileLanding

MILLISECOND_NS = 1_000_000
NOW_NS = 1_700_000_000 * 10**9


class ClockNs:
    def __init__(self):
        self.now = NOW_NS

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return ClockNs()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made" / "landing"


def test_lands_lines_under_the_first_position(folder):
    assert FileLanding(folder).land(["a", "ü"], 7) == "payments-00000000000000000007.jsonl"
    assert os.listdir(folder) == ["payments-00000000000000000007.jsonl"]
    assert (folder / "payments-00000000000000000007.jsonl").read_bytes() == "a\nü\n".encode()


def test_a_reader_sees_a_whole_file_or_none(folder, monkeypatch):
    landing = FileLanding(folder)
    seen = []

    def replace(source, target):
        seen.append([name for name in os.listdir(folder) if not name.startswith(".")])
        assert source.read_text() == "a\nb\n"
        os.rename(source, target)

    monkeypatch.setattr("ingest.landing.os.replace", replace)
    landing.land(["a", "b"], 0)
    assert seen == [[]]


@pytest.mark.parametrize("call", ["fsync", "replace", "utime"])
def test_a_landing_that_fails_leaves_nothing(folder, monkeypatch, call):
    landing = FileLanding(folder)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"ingest.landing.os.{call}", full)
        with pytest.raises(OSError, match="No space left"):
            landing.land(["a"], 0)
    assert os.listdir(folder) == []
    landing.land(["a"], 0)


def test_a_file_is_on_the_disk_before_it_has_its_name(folder, monkeypatch):
    steps = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            f"ingest.landing.os.{name}",
            lambda *args, real=real, name=name: steps.append(name) or real(*args),
        )
    FileLanding(folder).land(["a"], 0)
    assert steps == ["fsync", "replace", "fsync"]  # the file, its name, the folder


def test_what_a_killed_process_left_is_removed_and_the_rest_is_kept(folder):
    FileLanding(folder).land(["a"], 0)
    (folder / ".payments-00000000000000000001.jsonl.tmp").write_text("ha")
    (folder / ".other").write_text("")
    FileLanding(folder)
    assert sorted(os.listdir(folder)) == [".other", "payments-00000000000000000000.jsonl"]


def test_a_landed_file_is_never_replaced(folder):
    landing = FileLanding(folder)
    landing.land(["a"], 0)
    with pytest.raises(FileExistsError, match="there already"):
        landing.land(["b"], 0)
    assert (folder / "payments-00000000000000000000.jsonl").read_text() == "a\n"


def test_file_times_grow_also_when_the_clock_stands_or_is_set_back(folder, clock):
    landing = FileLanding(folder, clock)
    for position, step_ns in enumerate([0, 0, 1, 5 * MILLISECOND_NS, -3600 * 10**9, 0]):
        clock.now += step_ns
        if position == 5:
            landing = FileLanding(folder, clock)  # restarted
        landing.land(["a"], position)
    times = [path.stat().st_mtime_ns for path in sorted(folder.iterdir())]
    assert times[0] == NOW_NS
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert min(steps) >= MILLISECOND_NS


def test_file_times_follow_the_clock(folder, clock):
    landing = FileLanding(folder, clock)
    landing.land(["a"], 0)
    clock.now += 10**10
    landing.land(["a"], 1)
    assert (folder / "payments-00000000000000000001.jsonl").stat().st_mtime_ns == clock.now


def test_the_next_position_is_behind_the_last_row(folder):
    landing = FileLanding(folder)
    assert landing.next_position() == 0
    landing.land(["a"] * 3, 9)
    landing.land(["a"] * 2, 100)
    (folder / "payments-notes.jsonl").write_text("no rows of ours\n")
    assert landing.next_position() == 102
