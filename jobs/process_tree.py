"""Ending a process with all that it started, as a machine does that loses power."""

import time
from collections.abc import Sequence
from contextlib import suppress

import psutil


def family_of(pid: int) -> list[psutil.Process]:
    """A process and everything below it, itself first; none where it is gone. A process group would
    miss Spark's Python processes, which are in groups of their own.
    """
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill (-9) those that are still there."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def kill_tree(pid: int) -> None:
    """Kill (-9) a process and everything below it; returns when all of them are gone."""
    family = family_of(pid)
    kill(family)
    while any(_lives(member) for member in family):
        time.sleep(0.01)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
