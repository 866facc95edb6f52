"""The crash drills in their short form, on one system."""

import os
import sys
from pathlib import Path

import pytest

from tests.drills.plan import SHORT
from tests.drills.play import play


def test_nothing_is_lost_or_doubled_when_parts_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    for name in ("SPARK_HOME", "PYSPARK_PYTHON", "PYSPARK_SUBMIT_ARGS"):
        monkeypatch.delenv(name, raising=False)
    results = list(play(SHORT, tmp_path, seed=1))
    for result in results:
        print(result.drill.name, f"{result.seconds:.0f} s", result.told, result.books)
    assert [result.told for result in results if result.verdict != "passed"] == []
    assert len(results) == len(SHORT)
    books = results[-1].books
    assert books is not None
    assert min(books.scored, books.rejected, books.hits, books.mails, books.verdicts) > 0
