"""kill -9 at random moments."""

from collections import Counter

from tests.drills.system import System

AT_START = 0.2
"""Share of the kills that hit while a part still starts."""


def killed(system: System, name: str, times: int, within_seconds: float) -> str:
    """Kill a part so many times, each time within so many seconds of its running.

    Returns:
        What was killed, in words.
    """
    victims: Counter[str] = Counter()
    for _ in range(times):
        if system.rng.random() >= AT_START:
            system.wait_ready(name)
        system.pause(system.rng.uniform(0, within_seconds))
        victims[system.kill(name)] += 1
        system.start(name)
    system.wait_ready(name)
    return f"{name} killed {times} times ({_counts(victims)})"


def workers_killed(system: System, times: int) -> str:
    """Kill a Python worker of the score job so many times."""
    for _ in range(times):
        system.wait_ready("score")
        system.pause(system.rng.uniform(1, 4))
        system.wait_until(lambda: system.kill_worker("score") > 0, "score has Python workers")
    system.wait_ready("score")
    return f"a Python worker of score killed {times} times"


def cluster_workers_killed(system: System, times: int) -> str:
    """Kill one of the cluster's two workers with all that runs on it, so many times; another one
    takes its place each time.
    """
    cluster = system.place.cluster
    assert cluster is not None
    for _ in range(times):
        system.wait_ready("score")
        system.pause(system.rng.uniform(0, 4))
        running = [number for number, one in enumerate(cluster.workers) if one.is_running]
        cluster.kill_worker(system.rng.choice(running))
        system.pause(system.rng.uniform(0, 2))
        cluster.start_worker()
    lives = system.lives["score"]
    return f"{times} workers of the cluster killed; the score job was started {lives} time(s)"


def _counts(victims: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(victims.items()))
