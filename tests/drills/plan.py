"""Which drills there are, and at which place each is played."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.drills import places
from tests.drills.damage import checkpoint_damaged, disk_filled, rights_revoked, started_twice
from tests.drills.kills import cluster_workers_killed, killed, workers_killed
from tests.drills.outages import paused, stopped
from tests.drills.system import Place, System

KILLS = 20
STOPS = 3


@dataclass(frozen=True)
class Drill:
    """A name, the place, and what is done there, which returns what it did, in words; the books are
    balanced after it, unless they wait for a later drill.
    """

    name: str
    place: str
    play: Callable[[System], str]
    is_balanced: bool = True


PLACES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "embedded": places.embedded,
    "quick": places.quick,
    "registry": places.with_registry,
    "kafka": places.on_kafka,
    "s3": places.on_s3,
    "cluster": places.on_cluster,
}

DRILLS = (
    Drill("ingest", "embedded", partial(killed, name="ingest", times=KILLS, within_seconds=2)),
    Drill("score", "embedded", partial(killed, name="score", times=KILLS, within_seconds=3)),
    Drill("alert", "embedded", partial(killed, name="alert", times=KILLS, within_seconds=3)),
    Drill("label", "embedded", partial(killed, name="label", times=KILLS, within_seconds=2)),
    Drill("python-worker", "embedded", partial(workers_killed, times=STOPS)),
    Drill("relay", "embedded", partial(stopped, name="relay", times=STOPS)),
    Drill("rights", "embedded", rights_revoked),
    Drill("disk", "embedded", disk_filled),
    Drill("checkpoint", "embedded", checkpoint_damaged),
    Drill("two-copies", "embedded", started_twice),
    Drill("worker", "cluster", partial(cluster_workers_killed, times=KILLS)),
    Drill("registry", "registry", partial(stopped, name="registry", times=STOPS)),
    Drill("broker", "kafka", partial(stopped, name="broker", times=STOPS)),
    Drill("s3", "s3", partial(paused, name="s3", times=STOPS)),
)

SHORT = (
    Drill("ingest", "quick", partial(killed, name="ingest", times=2, within_seconds=1), False),
    Drill("score", "quick", partial(killed, name="score", times=1, within_seconds=2), False),
    Drill("alert", "quick", partial(killed, name="alert", times=1, within_seconds=2), False),
    Drill("label", "quick", partial(killed, name="label", times=2, within_seconds=1), False),
    Drill("two-copies", "quick", partial(started_twice, names=("label", "ingest")), False),
    Drill("relay", "quick", partial(stopped, name="relay", times=1)),
)
"""What CI plays: one balance at the end. That a second score job is refused, other tests show."""
