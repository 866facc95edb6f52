"""Plays drills, those of one place on one system."""

import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.drills.books import Books, settled_books
from tests.drills.places import begin
from tests.drills.plan import PLACES, Drill
from tests.drills.system import DrillFailed, System, running


@dataclass(frozen=True)
class Result:
    """How a drill ended, and what it did or what is wrong, in words."""

    drill: Drill
    is_passed: bool
    told: str
    seconds: float
    books: Books | None


def play(drills: Sequence[Drill], folder: Path, seed: int) -> Iterator[Result]:
    """Play drills, those of one place on one system, which is made anew for each place, and left
    after a drill that failed.

    Args:
        folder: each place has a folder in it, which is emptied first.
        seed: of all that is drawn; the moments of the machine are its own.
    """
    for name in dict.fromkeys(drill.place for drill in drills):
        rng = random.Random(f"{seed}/{name}")
        there = (folder / name).absolute()
        shutil.rmtree(there, ignore_errors=True)
        with PLACES[name](there) as place, running(place, there, rng) as system:
            begin(system)
            for drill in (one for one in drills if one.place == name):
                result = played(system, drill)
                yield result
                if not result.is_passed:
                    break


def played(system: System, drill: Drill) -> Result:
    """Play one drill on a system that runs."""
    began = time.monotonic()
    told, books, is_passed = "", None, True
    try:
        if "ingest" not in system.parts:
            system.start("ingest")
        system.analyst.is_working = True
        told = drill.play(system)
        books = settled_books(system) if drill.is_balanced else None
    except DrillFailed as error:
        told, is_passed = f"{told}: {error}" if told else str(error), False
    return Result(drill, is_passed, told, time.monotonic() - began, books)
