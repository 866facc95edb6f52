"""From measurements to figures: rates, medians, percentiles."""

from collections.abc import Sequence
from statistics import median
from typing import Any

UNSTEADY = 2
"""Micro-batches at the start of a turn that do not count: the query starts, caches fill."""


def turn_rate(turn: list[list[dict[str, Any]]], unsteady: int = UNSTEADY) -> float:
    """Payments a second in a turn: of each process the median over its steady micro-batches, added
    up over processes, which work side by side.
    """
    return float(
        sum(
            median(batch["rows"] / batch["seconds"] for batch in process[unsteady:])
            for process in turn
        )
    )


def rates(turns: list[list[list[dict[str, Any]]]] | None) -> list[float]:
    """The rate of every turn."""
    return [turn_rate(turn) for turn in turns or []]


def parts(turns: list[list[list[dict[str, Any]]]]) -> dict[str, float]:
    """Median seconds of each part of a steady micro-batch."""
    steady = [batch for turn in turns for process in turn for batch in process[UNSTEADY:]]
    return {
        name: median(batch["parts"].get(name, 0.0) for batch in steady)
        for name in steady[0]["parts"]
    }


def growth_rates(batches: Sequence[dict[str, Any]]) -> tuple[int, float, float]:
    """How many commits are compared, and payments a second over the first and the last of them."""
    steady = batches[10:]
    count = min(100, len(steady) // 2)

    def rate(some: Sequence[dict[str, Any]]) -> float:
        return float(sum(b["rows"] for b in some) / sum(b["seconds"] for b in some))

    return count, rate(steady[:count]), rate(steady[-count:])
