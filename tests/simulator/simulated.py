"""The simulated API without a server, on a clock that stands still."""

import json
import random
from datetime import UTC, datetime

from ingest.schema import API_COLUMNS
from ingest.simulator_answers import Behavior, CurrentTransactions, Progress

START = datetime(2024, 3, 1, tzinfo=UTC)
NOON = 1_700_000_000.0


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Api(CurrentTransactions):
    """On a file or another source, with a clock of its own."""

    def __init__(self, source, *, seed: int = 1, progress: Progress | None = None, **behavior):
        self.clock = Clock()
        rng = random.Random(seed)
        super().__init__(source, Behavior(**behavior), clock=self.clock, rng=rng, progress=progress)

    def call(self, after_seconds: float = 60.0):
        self.clock.now += after_seconds
        return self.answer()


def parsed(body: bytes) -> dict:
    content = json.loads(body)
    return json.loads(content) if isinstance(content, str) else content


def trans_nums(answer) -> list[str]:
    return [row[API_COLUMNS.index("trans_num")] for row in parsed(answer.body)["data"]]
