import argparse
import threading

import pytest

from jobs.every import seconds_of, watch


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("10m", 600), ("1h", 3600), ("1.5d", 129_600)]
)
def test_times_are_read_with_their_unit(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "0s", "1 hour"])
def test_other_times_are_refused_with_what_is_expected(text):
    with pytest.raises(argparse.ArgumentTypeError, match="such as 30s"):
        seconds_of(text)


def test_a_look_that_fails_is_logged_and_the_next_one_comes(caplog):
    ended, looks = threading.Event(), []

    def one_look():
        looks.append(1)
        if len(looks) == 3:
            ended.set()
        raise OSError("the disk is away")

    watch(one_look, 0.001, ended)
    assert len(looks) == 3
    assert "the disk is away" in caplog.text
