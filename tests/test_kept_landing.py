"""Answers that wait for a disk or a bucket that is away."""

import pytest

from ingest.kept_landing import KeptLanding


class Place:
    """A landing that can be away, and lose the word of what it took."""

    def __init__(self):
        self.landed, self.is_away, self.is_deaf = {}, False, False

    def land(self, lines, first_position):
        if self.is_away:
            raise OSError("away")
        if self.landed.get(first_position, lines) != lines:
            raise FileExistsError("others are there")
        self.landed[first_position] = list(lines)
        if self.is_deaf:
            raise OSError("no answer")
        return f"file {first_position}"


def test_what_could_not_be_landed_lands_before_the_next_answer():
    place = Place()
    kept = KeptLanding(place)
    place.is_away = True
    with pytest.raises(OSError, match="away; 2 rows go out before the next answer"):
        kept.land(["a", "b"], 0)
    with pytest.raises(OSError, match="3 rows go out"):
        kept.land(["c"], 2)
    place.is_away = False
    assert kept.land(["d"], 3) == "file 3"
    assert list(place.landed.items()) == [(0, ["a", "b"]), (2, ["c"]), (3, ["d"])]


def test_what_did_land_is_not_landed_again():
    place = Place()
    kept = KeptLanding(place)
    place.is_deaf = True
    with pytest.raises(OSError, match="no answer"):
        kept.land(["a"], 0)
    place.is_deaf = False
    kept.land(["b"], 1)
    assert place.landed == {0: ["a"], 1: ["b"]}


def test_positions_that_are_taken_are_an_error_and_keep_nothing():
    place = Place()
    place.land(["other"], 0)
    kept = KeptLanding(place)
    with pytest.raises(FileExistsError):
        kept.land(["a"], 0)
    kept.land(["b"], 1)
    assert place.landed == {0: ["other"], 1: ["b"]}


def test_kept_rows_whose_positions_were_taken_are_told_and_hold_nothing_up(caplog):
    place = Place()
    kept = KeptLanding(place)
    place.is_away = True
    with pytest.raises(OSError, match="away"):
        kept.land(["a", "b"], 0)
    place.is_away = False
    place.land(["other"], 0)
    kept.land(["c"], 2)
    assert place.landed == {0: ["other"], 2: ["c"]}
    assert "rows that were received are lost: 2: others are there" in caplog.text


def test_no_more_rows_wait_than_there_is_room_for():
    place = Place()
    place.is_away = True
    kept = KeptLanding(place, max_rows=2)
    with pytest.raises(OSError, match="2 rows go out"):
        kept.land(["a", "b"], 0)
    with pytest.raises(OSError, match="1 rows are lost, as 2 wait already"):
        kept.land(["c"], 2)
    place.is_away = False
    kept.land(["d"], 3)
    assert sorted(place.landed) == [0, 3]


@pytest.mark.parametrize(
    ("is_away", "said"), [(False, "kept rows landed: 1"), (True, "are lost with this process: 1")]
)
def test_the_end_is_a_last_try(caplog, is_away, said):
    caplog.set_level("INFO")
    place = Place()
    kept = KeptLanding(place)
    place.is_away = True
    with pytest.raises(OSError, match="away"):
        kept.land(["a"], 0)
    place.is_away = is_away
    kept.close()
    assert said in caplog.text
    assert place.landed == ({} if is_away else {0: ["a"]})
