"""The time that no call covered: from the ledger's calls to a table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from rich.table import Table

from ingest.call_ledger import LANDED, PRINTED, Call, Pace

_SLACK = 1.5  # in periods: a call somewhat late is no gap


@dataclass(frozen=True)
class Gap:
    """A stretch that no call covered. Times are seconds since the epoch."""

    start: float
    end: float
    calls_missed: int
    why: str

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


def find_gaps(
    calls: Sequence[Call], now: float, pace: Pace, longest_pause_seconds: float
) -> list[Gap]:
    """The gaps between the calls that landed, and from the last of them to ``now``.

    A call that landed covers the period before it. So does the first call of all, had it landed.

    Args:
        calls: in the order they were made.
        longest_pause_seconds: from one try to the next, while ingest runs.
    """
    if not calls:
        return []
    period = pace.period_seconds
    previous = calls[0].started_at - period
    gaps: list[Gap] = []
    failed: list[Call] = []

    def close(until: float, covered: float, missed: float) -> None:
        if until - previous > _SLACK * period:
            why = _why(failed, (previous, until), longest_pause_seconds)
            gaps.append(Gap(previous, until - covered, max(1, int(missed)), why))

    for call in calls:
        if call.outcome != LANDED:
            failed.append(call)
            continue
        close(call.started_at, period, round((call.started_at - previous) / period) - 1)
        previous, failed = call.started_at, []
    if failed and failed[-1].outcome is None and now - failed[-1].started_at < pace.timeout_seconds:
        failed.pop()  # under way
    close(now, 0.0, (now - previous) // period)
    return gaps


def _why(failed: Sequence[Call], ends: tuple[float, float], longest_pause_seconds: float) -> str:
    kinds = Counter(_kind(call) for call in failed)
    reasons = [f"{count} x {kind}" for kind, count in kinds.most_common()]
    tries = [call.started_at for call in failed if call.outcome != PRINTED]
    times = [ends[0], *tries, ends[1]]
    longest = max(later - earlier for earlier, later in pairwise(times))
    if not reasons or longest > longest_pause_seconds:
        reasons.append("ingest was not running")
    return ", ".join(reasons)


def _kind(call: Call) -> str:
    if call.outcome is None:
        return "ended in mid-call"
    return "--print, which lands nothing" if call.outcome == PRINTED else call.outcome


def gap_table(gaps: Sequence[Gap]) -> Table:
    """``gaps`` with a line of totals: UTC times, seconds not covered, calls missed, reasons."""
    table = Table(show_footer=True)
    table.add_column("from (UTC)", "total", no_wrap=True)
    table.add_column("to (UTC)", f"{len(gaps)} gap{'s' if len(gaps) != 1 else ''}", no_wrap=True)
    seconds = sum(gap.seconds for gap in gaps)
    table.add_column("seconds not covered", f"{seconds:,.0f}", justify="right")
    missed = sum(gap.calls_missed for gap in gaps)
    table.add_column("calls missed", f"{missed:,}", justify="right")
    table.add_column("why")
    for gap in gaps:
        table.add_row(
            utc_text(gap.start),
            utc_text(gap.end),
            f"{gap.seconds:,.0f}",
            f"{gap.calls_missed:,}",
            gap.why,
        )
    return table


def utc_text(moment: float) -> str:
    """``moment`` (seconds since the epoch) as ``YYYY-MM-DD HH:MM:SS`` in UTC."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S}"
