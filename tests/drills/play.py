"""Plays drills, those of one place on one system."""

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from tests.drills.books import Books, settled_books
from tests.drills.places import begin
from tests.drills.plan import PLACES, Drill
from tests.drills.system import DrillFailed, DrillSkipped, System, running


@dataclass(frozen=True)
class Result:
    """How a drill ended (`passed`, `failed`, `skipped`), and what it did or what is wrong, in
    words.
    """

    drill: Drill
    verdict: str
    told: str
    seconds: float
    books: Books | None


def play(drills: Sequence[Drill], folder: Path, seed: int) -> Iterator[Result]:
    """Play drills, those of one place on one system, which is made anew for each place, and after a
    drill that failed.

    Args:
        folder: each system has a folder in it, which is emptied first.
        seed: of all that is drawn; the moments of the machine are its own.
    """
    for name in dict.fromkeys(drill.place for drill in drills):
        rng = random.Random(f"{seed}/{name}")
        waiting = [drill for drill in drills if drill.place == name]
        for number in count(1):
            there = folder.absolute() / (name if number == 1 else f"{name}-{number}")
            shutil.rmtree(there, ignore_errors=True)
            with PLACES[name](there) as place, running(place, there, rng) as system:
                begin(system)
                while waiting:
                    result = played(system, waiting.pop(0))
                    yield result
                    if result.verdict == "failed":
                        break
            if not waiting:
                break


def played(system: System, drill: Drill) -> Result:
    """Play one drill on a system that runs."""
    began = time.monotonic()
    told, books, verdict = "", None, "passed"
    try:
        if "ingest" not in system.parts:
            system.start("ingest")
        system.analyst.is_working = True
        told = drill.play(system)
        books = settled_books(system) if drill.is_balanced else None
    except DrillSkipped as skipped:
        told, verdict = str(skipped), "skipped"
    except DrillFailed as error:
        told, verdict = f"{told}: {error}" if told else str(error), "failed"
    return Result(drill, verdict, told, time.monotonic() - began, books)
