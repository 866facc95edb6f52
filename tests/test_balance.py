"""The books: what was served against what stands in the table."""

import pyarrow as pa
import pytest
from deltalake import write_deltalake

import jobs.balance
from jobs.balance import balance


class Served:
    def __init__(self, distinct):
        self._distinct = distinct

    def json(self):
        return {"distinct": self._distinct}


@pytest.mark.parametrize(
    ("served", "names", "lost", "twice"),
    [(2, ["a", "b"], 0, 0), (3, ["a", "b"], 1, 0), (2, ["a", "b", "b"], 0, 1), (2, ["a", "a"], 1, 1)],
)  # fmt: skip
def test_lost_and_twice_are_told_apart(settings, monkeypatch, served, names, lost, twice):
    asked = []
    monkeypatch.setattr(
        jobs.balance.requests, "get", lambda url, timeout: asked.append(url) or Served(served)
    )
    write_deltalake(settings.warehouse.table("transactions"), pa.table({"trans_num": names}))
    told = balance(settings, seconds=0)
    assert (told.lost, told.twice, told.is_even) == (lost, twice, lost == twice == 0)
    assert asked == ["http://127.0.0.1:8009/served"]
