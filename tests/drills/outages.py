"""Servers that stop and come back."""

import os
import signal

from tests.drills.system import System


def stopped(system: System, name: str, times: int) -> str:
    """Stop a server and start it again, so many times; payments go on meanwhile."""
    down = 0.0
    for _ in range(times):
        system.wait_ready(name)
        system.pause(system.rng.uniform(1, 4))
        system.end(name)
        seconds = system.rng.uniform(2, 8)
        system.pause(seconds)
        down += seconds
        system.start(name)
    system.wait_ready(name)
    return f"{name} stopped {times} times, away for {down:.0f} s in all"


def paused(system: System, name: str, times: int) -> str:
    """As ``stopped``, for a server that keeps in memory what it holds: SIGUSR1 closes its port and
    opens it again.
    """
    down = 0.0
    for _ in range(times):
        system.pause(system.rng.uniform(4, 8))
        server = system.parts[name].process.pid
        os.kill(server, signal.SIGUSR1)
        seconds = system.rng.uniform(2, 8)
        system.pause(seconds)
        down += seconds
        os.kill(server, signal.SIGUSR1)
    # What could not be landed waits in memory until the next call: ingest is not to end before.
    system.pause(8)
    return f"the port of {name} closed {times} times, away for {down:.0f} s in all"
