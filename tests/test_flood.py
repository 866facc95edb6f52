"""The figures of the flood, from times that a test can give."""

import pytest

from benchmarks.flood import FILE_ROWS, curve, due_times


def test_ten_times_as_many_files_are_due_in_the_flood():
    due = due_times(FILE_ROWS, (3, 2, 4))
    assert due == sorted(due)
    assert [sum(low < moment <= high for moment in due) for low, high in ((0, 3), (3, 5), (5, 9))] == [3, 20, 4]  # fmt: skip


def moments(*files):
    """Every payment of a file in Delta at the same time."""
    return {
        number * FILE_ROWS + row: second for number, second in files for row in range(FILE_ROWS)
    }


def test_the_backlog_is_what_landed_and_is_not_committed():
    landed = [100.0, 101.0, 104.0]
    # The first file of the table, number 0, landed before: it does not count.
    told = curve(landed, moments((0, 90.0), (1, 103.0), (2, 107.0), (3, 112.0)), warm_files=1)
    assert told["seconds"][:4] == [0, 5, 10, 15]
    assert told["backlog"][:4] == [FILE_ROWS, 2 * FILE_ROWS, FILE_ROWS, 0]
    assert told["delay"] == [3.0, 6.0, 8.0]


def test_a_payment_that_never_came_is_an_error():
    done = moments((0, 103.0))
    del done[FILE_ROWS - 1]
    with pytest.raises(RuntimeError, match="1 of 1000 payments never came"):
        curve([100.0], done, warm_files=0)
