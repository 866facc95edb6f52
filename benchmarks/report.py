"""The report: ``RESULTS.md``, a plot, and the same tables in the terminal."""

from collections.abc import Sequence
from statistics import median

from rich.console import Console
from rich.markdown import Markdown

from benchmarks.cluster_report import CLUSTER, FLOOD, cluster_rows, flood_rows
from benchmarks.compare import key_of
from benchmarks.figures import growth_rates, parts, rates
from benchmarks.machine import description
from benchmarks.plan import CORES, FULL, QUICK, Plan
from benchmarks.plot import draw
from benchmarks.results import Results

NAMES = {
    "score": "score job, our UDF",
    "udf": "score job, `spark_udf`",
    "plain": "plain consumer",
}
_WHAT = f"""\
Payments a second, median of the turns (least to most). All systems work on the same files, with the
same features and the same model, in turns, each after a turn twice as long that does not count, as
do not the first two micro-batches of every turn. The
score job runs in Spark `local[{CORES}]`; the plain consumer is {CORES} Python processes, each with
the lines of its own cards in files of its own, Arrow reading them without any check, and state in
NumPy arrays.

**The plain consumer's state is lost with the process, and a crash repeats or loses rows. The score
job's state is in its checkpoint, and each payment is in the table exactly once, whatever crashes.**
"""

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def write_report(plan: Plan, results: Results) -> None:
    """Write the report and the plot, and print the report."""
    plan = QUICK if plan.is_quick else FULL
    sections = [
        ("Targets", "", _targets(plan, results)),
        ("Throughput", _WHAT, _throughput(plan, results)),
        ("Where a micro-batch's time goes", _PARTS, _parts(plan, results)),
        ("The model step", _STEP, _step(plan, results)),
        ("The bound", _BOUND, _bound(plan, results)),
        ("A table that grows", _GROWTH, _growth(results)),
        ("From landing to Delta and to the alert", _DELAY, _delay(plan, results)),
        ("On a cluster", CLUSTER, cluster_rows(plan, results)),
        ("A flood", FLOOD, flood_rows(plan, results)),
        ("Machine, versions, settings", "", (("", ""), [_measured_at(results), *description()])),
    ]
    text = "# Speed\n\nMade by `make bench`.\n"
    if plan.is_quick:
        text += "\n**A quick run with tiny sizes: these are no results.**\n"
    for title, words, table in sections:
        text += f"\n## {title}\n\n{words}\n{_markdown(table)}\n"
        if title == "Throughput" and draw(plan, results):
            text += f"\n![throughput]({plan.report.with_suffix('.png').name})\n"
    plan.report.write_text(text)
    Console(width=150).print(Markdown(text))
    print(f"written: {plan.report}")


def _markdown(table: Table) -> str:
    header, rows = table
    if not rows:
        return "Not measured yet."
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _spread(values: Sequence[float], form: str = ",.0f") -> str:
    if not values:
        return "-"
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _rates(results: Results, cards: int, rows: int, system: str) -> list[float]:
    return rates(results.get(key_of(cards, rows, system)))


def _ratio(results: Results, cards: int, rows: int, over: str, under: str) -> float | None:
    above, below = (_rates(results, cards, rows, system) for system in (over, under))
    return median(above) / median(below) if above and below else None


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else f"{value:{form}}"


def _throughput(plan: Plan, results: Results) -> Table:
    rows = []
    for cards, size, _ in plan.cases:
        found = {system: _rates(results, cards, size, system) for system in NAMES}
        if any(found.values()):
            to_plain = _number(_ratio(results, cards, size, "score", "plain"))
            to_udf = _number(_ratio(results, cards, size, "score", "udf"))
            told = [_spread(values) for values in found.values()]
            rows.append([f"{cards:,}", f"{size:,}", *told, to_plain, to_udf])
    header = ("cards", "rows a batch", *NAMES.values(), "ours / plain", "ours / `spark_udf`")
    state = ("", "state after a crash", "as it was", "as it was", "**lost**", "", "")
    once = ("", "rows after a crash", "once", "once", "**twice or never**", "", "")
    return header, [*rows, state, once] if rows else []


_PARTS = """\
Median seconds of a steady micro-batch. "tasks" is the one action in `foreachBatch`: reading,
parsing, the shuffle, features, state, model and data files; "commits" are those to Delta. The
others are Spark's own names (`addBatch` holds both). "CPU" is that of all cores, the mean over a
whole turn.
"""


def _parts(plan: Plan, results: Results) -> Table:
    rows = []
    for cards, size, _ in plan.cases:
        for system, name in NAMES.items():
            if turns := results.get(key_of(cards, size, system)):
                told = ", ".join(f"{part} {value:.3f}" for part, value in parts(turns).items())
                rows.append([f"{cards:,}", f"{size:,}", name, told])
    return ("cards", "rows a batch", "system", "seconds"), rows


_STEP = """\
Microseconds a payment, on all cores, over the same cached payments. "rows": from the operator's
blocks to the rows in data files; "score": the model alone, where `spark_udf` finds its inputs as
columns already and ours opens its blocks.
"""


def _step(plan: Plan, results: Results) -> Table:
    found = results.get(f"step/{max(plan.batch_rows)}")
    if not found:
        return (), []
    rows = []
    for what in ("rows", "score"):
        ours, theirs = found[f"ours, {what}"], found[f"spark_udf, {what}"]
        ratio = median(theirs) / median(ours)
        rows.append([what, _spread(ours, ".1f"), _spread(theirs, ".1f"), f"{ratio:.2f}"])
    return ("", "ours", "`spark_udf`", "times as fast"), rows


_BOUND = """\
Microseconds a payment on one thread, without Spark, Delta and state; "bound" is what all cores
together could do if there were nothing else, in payments a second.
"""


def _bound(plan: Plan, results: Results) -> Table:
    rows, names = [], ("parse", "features", "predict_proba")
    for cards in plan.cards:
        if found := results.get(f"bound/{cards}"):
            bound = CORES * 1e6 / sum(median(found[name]) for name in names)
            told = [_spread(found[name], ".1f") for name in names]
            rows.append([f"{cards:,}", *told, f"{bound:,.0f}"])
    return ("cards", *names, "bound"), rows


_GROWTH = """\
1,000 payments a commit, one micro-batch each; payments a second over the first and the last commits
(sums of rows over sums of seconds, so that the table's checkpoints count, one every 100 commits).
"""


def _growth(results: Results) -> Table:
    batches = results.get("growth")
    if not batches:
        return (), []
    count, first, last = growth_rates(batches)
    row = [f"{len(batches):,}", f"{first:,.0f}", f"{last:,.0f}", f"{last / first:.2f}"]
    return ("commits", f"first {count}", f"last {count}", "last / first"), [row]


_DELAY = """\
Seconds from a payment's message on the topic `payments` to the commit that holds the payment, and
to the message of a hit on the topic `fraud-alerts`; the query's own trigger, steady rate, broker
and sender on the same cores.
"""


def _delay(plan: Plan, results: Results) -> Table:
    rows = []
    for rate in plan.delay_rates:
        for way, found in (results.get(f"delay/{rate}") or {}).items():
            told = [_number((found or {}).get(name)) for name in ("p50", "p95", "p99", "max")]
            count = f"{(found or {}).get('count', 0):,}" if found else "not published"
            rows.append([f"{rate:,}", way, *told, count])
    return ("payments a second", "to", "p50", "p95", "p99", "max", "payments"), rows


def _targets(plan: Plan, results: Results) -> Table:
    size = max(plan.batch_rows)
    rows = []
    for cards in plan.cards:
        ratio = _ratio(results, cards, size, "score", "plain")
        goal = f"score job / plain consumer, {cards:,} cards, {size:,} rows a batch"
        rows.append([goal, "≥ 0.6 (aim 1.0)", _number(ratio), _judged(ratio, 0.6)])
    step = results.get(f"step/{size}")
    ratio = median(step["spark_udf, rows"]) / median(step["ours, rows"]) if step else None
    rows.append(
        ["model step, times as fast as `spark_udf`", "≥ 2", _number(ratio), _judged(ratio, 2)]
    )
    batches = results.get("growth")
    kept = growth_rates(batches)[2] / growth_rates(batches)[1] if batches else None
    goal = f"throughput at {plan.growth_commits:,} commits / at first"
    rows.append([goal, "≥ 0.8", _number(kept), _judged(kept, 0.8)])
    delays = results.get("delay/100") or {}
    for way, words in (("alerts", "landing to alert"), ("delta", "(landing to Delta)")):
        p99 = (delays.get(way) or {}).get("p99")
        reached = "-" if p99 is None else "reached" if p99 <= 1.0 else "missed"
        rows.append([f"{words}, p99 at 100 tx/s", "≤ 1.0 s", _number(p99), reached])
    return ("target", "wanted", "measured", ""), rows


def _measured_at(results: Results) -> Sequence[str]:
    commits = {entry["commit"]: entry["when"][:10] for entry in results.entries.values()}
    return "measured", "; ".join(f"{day} at {commit}" for commit, day in commits.items())


def _judged(value: float | None, least: float) -> str:
    if value is None:
        return "-"
    return "reached" if value >= least else "missed"
