"""Ending a process with all that it started, as a machine does that loses power."""

import time
from contextlib import suppress

import psutil


def kill_tree(pid: int) -> None:
    """Kill (-9) a process and everything below it; returns when all of them are gone. A signal to
    its process group would miss Spark's Python processes, which are in groups of their own.
    """
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        while any(_lives(member) for member in family):
            time.sleep(0.01)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
