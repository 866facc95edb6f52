"""What ``make loop-demo`` tells in the terminal: a line a day, and the summary."""

from collections.abc import Iterator
from datetime import datetime
from email import message_from_bytes, policy
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from jobs.breaches import mean_average_precision
from jobs.loop_day import DayPlayed
from jobs.loop_story import Event, Story

_MARKS = {
    "champion": "green", "change": "red", "alarm": "yellow", "retrained": "cyan",
    "compared": "white", "promoted": "green",
}  # fmt: skip


def print_day(console: Console, played: DayPlayed) -> None:
    """One line about a day, and one about each thing that was done."""
    for event in played.events:
        if event.kind == "change":
            _print_event(console, event)
    matured = played.look.metrics[played.look.metrics["is_matured"].astype(bool)]
    known = matured.dropna(subset=["average_precision"]).tail(1).to_dict("records")
    accuracy = "".join(
        f"  average precision {row['average_precision']:.2f} on {row['day']:%b %-d}"
        for row in known
    )
    line = (
        f"{played.began:%a %b %d}  {played.payments:5,} payments  {played.hits:3} hits  "
        f"{played.verdicts:3} verdicts  {played.versions:<17}{accuracy}"
    )
    console.print(line.rstrip(), highlight=False, soft_wrap=True)
    for event in played.events:
        if event.kind != "change":
            _print_event(console, event)


def _print_event(console: Console, event: Event) -> None:
    console.print(
        f"  [{_MARKS[event.kind]}]▸ {event.kind}[/]: {event.text}", highlight=False, soft_wrap=True
    )


def print_summary(
    console: Console, story: Story, metrics: pd.DataFrame, change: datetime, mails: Path
) -> None:
    """The events, accuracy before the change, after it and after each promotion, and the mails."""
    events = Table(title="what happened", show_lines=False)
    for name in ("day", "what", ""):
        events.add_column(name, overflow="fold", no_wrap=name != "")
    for event in story.events:
        if event.kind != "compared":
            what = f"[{_MARKS[event.kind]}]{event.kind}[/]"
            events.add_row(f"{event.moment:%b %d}", what, event.text)
    console.print(events, highlight=False)
    accuracy = Table(title="average precision, on payments whose truth is known by now")
    for name in ("payments", "version", "days", "frauds", "average precision"):
        accuracy.add_column(name, justify="left" if name in ("payments", "version") else "right")
    for row in accuracy_rows(story, metrics, change):
        accuracy.add_row(*row)
    console.print(accuracy, highlight=False)
    sent = subjects(mails)
    console.print(f"{len(sent)} mails in {mails}/*.eml:", highlight=False, soft_wrap=True)
    for moment, subject in sent:
        console.print(f"  {moment:%b %d}  {subject}", highlight=False, soft_wrap=True, markup=False)


def accuracy_rows(story: Story, metrics: pd.DataFrame, change: datetime) -> Iterator[list[str]]:
    """Rows of the table: each version before and after the change of the fraud."""
    matured = metrics[metrics["is_matured"].astype(bool)]
    for event in [*story.of("champion"), *story.of("promoted")]:
        own = matured[matured["model_version"] == event.version]
        is_before = own["day"] < change.date()
        for rows, when in ((own[is_before], "before the change"), (own[~is_before], "after it")):
            if len(rows):
                yield [
                    f"{when}, {rows['day'].min():%b %-d} to {rows['day'].max():%b %-d}",
                    f"v{event.version}",
                    str(len(rows)),
                    f"{rows['frauds'].sum():,.0f}",
                    f"{mean_average_precision(rows):.3f}",
                ]


def subjects(mails: Path) -> list[tuple[datetime, str]]:
    """Date and subject of the mails in a folder, in the order in which they came."""
    told = []
    for path in sorted(mails.glob("*.eml")):
        message = message_from_bytes(path.read_bytes(), policy=policy.default)
        told.append((message["Date"].datetime, str(message["Subject"])))
    return told
