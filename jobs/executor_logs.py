"""What the executors of a worker say of their tasks, in the logs that its folder holds."""

import re
from dataclasses import dataclass
from pathlib import Path

_STARTED = re.compile(r"Running task \S+ in stage \S+ \(TID (\d+)\)")
_FINISHED = re.compile(r"Finished task \S+ in stage \S+ \(TID (\d+)\)")


@dataclass(frozen=True)
class Tasks:
    """How many tasks were ``finished``, and how many were begun and did not come to their end."""

    finished: int
    unfinished: int


def tasks_of(folder: Path) -> Tasks:
    """The tasks of the executors whose logs lie in ``folder``, such as ``work-0`` of a
    ``jobs.local_cluster``.
    """
    begun: set[tuple[Path, str]] = set()
    finished: set[tuple[Path, str]] = set()
    for log in folder.glob("app-*/*/stderr"):
        text = log.read_text(errors="replace")
        begun |= {(log.parent.parent, task) for task in _STARTED.findall(text)}
        finished |= {(log.parent.parent, task) for task in _FINISHED.findall(text)}
    return Tasks(len(finished), len(begun - finished))
