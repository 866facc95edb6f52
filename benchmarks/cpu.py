"""CPU time of the processes under this one, by what they are: Spark's JVM, its Python workers."""

import os
from collections import defaultdict
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds() -> dict[str, float]:
    """User and system seconds that ``JVM`` and ``Python workers`` have had so far; empty where
    there is no ``/proc``.
    """
    children: defaultdict[int, list[int]] = defaultdict(list)
    spent: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        pid = int(path.parent.name)
        children[int(fields[1])].append(pid)
        spent[pid] = (int(fields[11]) + int(fields[12])) / _TICK
    found: defaultdict[str, float] = defaultdict(float)
    waiting = [(child, 0) for child in children[os.getpid()]]
    while waiting:
        pid, depth = waiting.pop()
        found["Python workers" if depth else "JVM"] += spent[pid]
        waiting += [(child, depth + 1) for child in children[pid]]
    return dict(found)
