"""A system under test in a process of its own, which lives from turn to turn."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

_system: Any = None


class Process:
    """Makes a system by calling ``make`` in a new process, and calls its methods there.

    Args:
        log: file that takes all that the process and its children print.
    """

    def __init__(self, log: Path, make: Callable[[], Any]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(1, context, _print_into, (str(log),))
        self._made = self._pool.submit(_make, make)

    def ready(self) -> None:
        """Wait until the system is made; raises what making it raised."""
        self._made.result()

    def begin(self, method: str, *arguments: Any) -> Future[Any]:
        """Call a method; the future has what it returns or raises."""
        return self._pool.submit(_call, method, *arguments)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the system and wait for what it returns."""
        self.ready()
        return self.begin(method, *arguments).result()

    def stop(self) -> None:
        """End the process."""
        self._pool.shutdown(cancel_futures=True)


def _print_into(log: str) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)


def _make(make: Callable[[], Any]) -> None:
    global _system
    _system = make()


def _call(method: str, *arguments: Any) -> Any:
    return getattr(_system, method)(*arguments)
