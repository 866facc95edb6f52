"""What is measured, how often, and where the files of it lie."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

PROJECT = Path(__file__).parent.parent
CORES = 2
"""Spark's ``local[2]``, and as many processes of the plain consumer."""


@dataclass(frozen=True)
class Plan:
    """Sizes of a run of the benchmarks.

    Attributes:
        cards: numbers of cards to compare the systems at.
        batch_rows: rows of a micro-batch to compare the systems at.
        runs: times that each system has its turn, one system after the other.
        batches: micro-batches of a turn, by rows of a micro-batch; before its turns each system
            works through twice as many.
        history_per_card: remembered payments of a card before the first one that is measured.
        training_rows: synthetic payments that the model is trained on.
        growth_cards, growth_commits: of the table that grows, 1,000 rows a commit.
        delay_cards, delay_rates: payments a second.
        delay_seconds, delay_warm_seconds: time that is measured, and before it.
        cluster_cards: of the measurements on a cluster.
        cluster_batch_rows, cluster_batches: rows of a micro-batch, micro-batches of a turn.
        cluster_sizes: workers of one core each, and partitions of the state.
        flood_seconds: at the normal rate, at ten times that, and at the normal one again.
    """

    name: str
    cards: tuple[int, ...] = (400, 10_000, 200_000)
    batch_rows: tuple[int, ...] = (50_000, 1_000)
    runs: int = 3
    batches: tuple[int, ...] = (6, 20)
    history_per_card: int = 70
    training_rows: int = 120_000
    growth_cards: int = 10_000
    growth_commits: int = 1_000
    delay_cards: int = 10_000
    delay_rates: tuple[int, ...] = (20, 100, 1_000)
    delay_seconds: int = 60
    delay_warm_seconds: int = 20
    cluster_cards: int = 10_000
    cluster_batch_rows: tuple[int, ...] = (1_000, 10_000, 50_000)
    cluster_batches: tuple[int, ...] = (12, 8, 6)
    cluster_sizes: tuple[tuple[int, int], ...] = ((1, 2), (2, 2), (2, 8))
    flood_seconds: tuple[int, int, int] = (30, 60, 150)

    @property
    def results(self) -> Path:
        """The JSON file that keeps every measurement."""
        return self.folder / "results.json" if self.is_quick else _HERE / "results.json"

    @property
    def report(self) -> Path:
        """The report; the plot has its name."""
        return self.folder / "RESULTS.md" if self.is_quick else _HERE / "RESULTS.md"

    @property
    def folder(self) -> Path:
        """Where everything else is written."""
        return Path(os.environ.get("BENCH_FOLDER", PROJECT / "var" / "bench")) / self.name

    @property
    def is_quick(self) -> bool:
        """Whether this only shows that the harness works."""
        return self.name == "quick"

    @property
    def cases(self) -> list[tuple[int, int, int]]:
        """Cards, rows of a micro-batch, micro-batches of a turn."""
        sizes = list(zip(self.batch_rows, self.batches, strict=True))
        return [(cards, rows, batches) for rows, batches in sizes for cards in self.cards]

    def only(self, cards: str | None, rows: str | None) -> "Plan":
        """The same at some numbers of cards and of rows alone (comma between them)."""
        wanted = {
            name: set(map(int, told.split(",")))
            for name, told in (("cards", cards), ("rows", rows))
            if told
        }
        sizes = [
            (size, batches)
            for size, batches in zip(self.batch_rows, self.batches, strict=True)
            if size in wanted.get("rows", {size})
        ]
        return replace(
            self,
            cards=tuple(number for number in self.cards if number in wanted.get("cards", {number})),
            batch_rows=tuple(size for size, _ in sizes),
            batches=tuple(batches for _, batches in sizes),
        )


_HERE = PROJECT / "benchmarks"

FULL = Plan("full")

QUICK = Plan(
    "quick",
    cards=(400, 2_000),
    batch_rows=(5_000, 1_000),
    runs=1,
    batches=(4, 4),
    training_rows=20_000,
    growth_cards=400,
    growth_commits=30,
    delay_cards=400,
    delay_rates=(20, 100),
    delay_seconds=8,
    delay_warm_seconds=6,
    cluster_cards=400,
    cluster_batch_rows=(1_000,),
    cluster_batches=(4,),
    cluster_sizes=((1, 2), (2, 2)),
    flood_seconds=(3, 5, 10),
)
