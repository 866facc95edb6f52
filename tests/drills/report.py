"""What drills did, in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.drills.play import Result


def print_result(console: Console, result: Result) -> None:
    """One drill, when it ended."""
    sign = {"passed": "[green]✓[/]", "skipped": "[yellow]-[/]"}.get(result.verdict, "[red]✗[/]")
    told = f"{sign} {result.drill.name} ({result.seconds:.0f} s): {result.told}"
    console.print(told, highlight=False, soft_wrap=True)
    if result.books:
        console.print(f"  {result.books}", highlight=False, soft_wrap=True)


def print_summary(
    console: Console, results: Sequence[Result], planned: int, seconds: float
) -> None:
    """All drills in a table."""
    table = Table(title=f"{len(results)} of {planned} drills in {seconds / 60:.0f} min")
    columns = ("drill", "place", "served", "scored", "rejected", "hits", "mails", "mailed twice")
    for name in columns:
        table.add_column(name, justify="left" if name in columns[:2] else "right")
    table.add_column("verdict")
    for result in results:
        counts = [""] * 6
        if books := result.books:
            counts = [
                f"{value:,}"
                for value in (
                    books.served, books.scored, books.rejected, books.hits, books.mails,
                    books.mailed_twice,
                )
            ]  # fmt: skip
        table.add_row(result.drill.name, result.drill.place, *counts, result.verdict)
    console.print(table)
