"""The books of a drill: what was served, scored, rejected, mailed and labelled, and whether all of
it is there once, as in an undisturbed run.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy

import pandas as pd
from deltalake import DeltaTable

from conf.settings import Settings
from tests.drills.system import JOBS, DrillFailed, System, run_calm
from tests.drills.topic import hits_told

JUDGED = (
    "source", "position", "event_time", "ingested_at", "amt", "fraud_score", "prediction",
    "threshold", "model_name", "model_version",
)  # fmt: skip
"""What must be the same as in the undisturbed run beside ``features`` and ``reasons``; `scored_at`
is the clock's, `label` the analysts'."""

NOT_FOR_OPERATORS = re.compile(r"^\s+at [\w.$]+\(|^Traceback \(most recent|^\s+File \"|^Caused by:")
"""Lines of stack traces, of the JVM and of Python."""


@dataclass(frozen=True)
class Books:
    """What was counted."""

    served: int
    scored: int
    rejected: int
    hits: int
    mails: int
    mailed_twice: int
    verdicts: int

    def __str__(self) -> str:
        """In one line."""
        return (
            f"served {self.served:,} = scored {self.scored:,} + rejected {self.rejected:,}; "
            f"hits {self.hits} in {self.mails} mails, {self.mailed_twice} sent twice; "
            f"verdicts {self.verdicts}"
        )


def settled_books(system: System) -> Books:
    """End ingest, wait until all is worked through, and check; ingest stays ended.

    Raises:
        DrillFailed: the books do not balance; the message says where.
    """
    system.analyst.is_working = False
    if "ingest" in system.parts:
        system.end("ingest")
    served = system.served()
    wanted = set(served["trans_nums"])
    system.wait_until(
        lambda: wanted <= set(_read(system.settings, "transactions", ["trans_num"])["trans_num"]),
        "every payment served is scored",
    )
    # What was rejected of the last micro-batch is committed beside it.
    system.wait_until(lambda: not _waits(system), "every hit is mailed, every verdict taken")
    transactions = _read(system.settings, "transactions")
    rejected = _read(system.settings, "rejected")
    _each_once(transactions["trans_num"], wanted, "payments")
    bad = set(rejected["payload"])
    if len(bad) != len(served["corrupted_trans_nums"]):
        raise DrillFailed(
            f"corrupt payments served {len(served['corrupted_trans_nums'])}, rejected {len(bad)}"
        )
    calm = run_calm(system)
    _same_as_calm(transactions, _read(calm, "transactions"))
    _same_rejected(rejected, _read(calm, "rejected"))
    hits = set(transactions.loc[transactions["prediction"], "trans_num"])
    if system.settings.kafka and (told := hits_told(system.settings.kafka)) != hits:
        raise DrillFailed(f"topic of hits: {len(told)} of {len(hits)}")
    mails, twice = _mailed(system, hits)
    if traces := stack_traces(system):
        raise DrillFailed(f"stack traces in the logs: {len(traces)} lines, first {traces[0]}")
    _labelled(system, transactions)
    return Books(
        served=len(wanted) + len(bad),
        scored=len(transactions),
        rejected=len(bad),
        hits=len(hits),
        mails=mails,
        mailed_twice=twice,
        verdicts=len(system.analyst.told),
    )


def stack_traces(system: System) -> list[str]:
    """The lines of the jobs' logs that no operator needs, each with its file; a process that was
    killed may have no other way to end.
    """
    logs = [log for name in JOBS for log in sorted((system.folder / "logs").glob(f"{name}-*.log"))]
    return [
        f"{log.name}: {line}"
        for log in logs
        if log not in system.cut_short
        for line in log.read_text(errors="replace").splitlines()
        if NOT_FOR_OPERATORS.search(line)
    ]


def _read(settings: Settings, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    table = DeltaTable(settings.warehouse.table(name))
    return table.to_pyarrow_table(columns=list(columns) if columns else None).to_pandas()


def _waits(system: System) -> bool:
    """Whether a hit is not mailed yet, or a verdict not filled in."""
    alerts = _read(system.settings, "alerts", ["trans_num", "status"])
    hits = _read(system.settings, "transactions", ["trans_num", "prediction", "label"])
    labelled = hits.loc[hits["label"].notna(), "trans_num"]
    return set(alerts.loc[alerts["status"] == "sent", "trans_num"]) != set(
        hits.loc[hits["prediction"], "trans_num"]
    ) or not set(system.analyst.told) <= set(labelled)


def _each_once(found: pd.Series, wanted: set[str], what: str) -> None:
    missing, strange = wanted - set(found), set(found) - wanted
    twice = len(found) - found.nunique()
    if missing or strange or twice:
        raise DrillFailed(
            f"{what}: missing {len(missing)}, twice {twice}, never served {len(strange)}; "
            f"such as {sorted(missing | strange)[:3]}"
        )


def _same_as_calm(found: pd.DataFrame, calm: pd.DataFrame) -> None:
    """Compare bit for bit what was scored with what the undisturbed run gave.

    Raises:
        DrillFailed: a column differs.
    """
    one, other = (frame.sort_values("trans_num").reset_index(drop=True) for frame in (found, calm))
    _each_once(other["trans_num"], set(one["trans_num"]), "payments of the undisturbed run")
    columns = {name: (one[name], other[name]) for name in JUDGED}
    ours, theirs = (pd.DataFrame(frame["features"].tolist()) for frame in (one, other))
    columns |= {f"features.{name}": (ours[name], theirs[name]) for name in ours}
    columns["reasons"] = (one["reasons"].map(_text), other["reasons"].map(_text))
    for name, (left, right) in columns.items():
        differs = ~((left == right) | (left.isna() & right.isna()))
        if differs.any():
            at = int(differs.to_numpy().argmax())
            raise DrillFailed(
                f"{name} differs from the undisturbed run in {int(differs.sum())} payments: "
                f"{one['trans_num'][at]} has {left[at]!r}, there {right[at]!r}"
            )


def _text(reasons: object) -> str | None:
    return None if reasons is None else " | ".join(reasons)  # type: ignore[call-overload]


def _same_rejected(found: pd.DataFrame, calm: pd.DataFrame) -> None:
    keys = ["source", "position", "payload", "reason"]
    one, other = (
        Counter(frame[keys].itertuples(index=False, name=None)) for frame in (found, calm)
    )
    if one != other:
        raise DrillFailed(
            f"rejected: {sum((other - one).values())} missing, {sum((one - other).values())} more "
            "than in the undisturbed run"
        )


def _mailed(system: System, hits: set[str]) -> tuple[int, int]:
    """Mails, and those that the relay holds twice.

    Raises:
        DrillFailed: a hit is not in the ledger once, or a mail not with the relay, or more often
            than the ledger says that it was tried.
    """
    alerts = _read(system.settings, "alerts")
    _each_once(alerts["trans_num"], hits, "hits")
    held = Counter(
        str(message_from_bytes(path.read_bytes(), policy=policy.default)["Message-ID"])
        for path in system.mails.glob("*.eml")
    )
    tried = alerts.groupby("message_id")["attempts"].max().to_dict()
    if held.keys() != tried.keys():
        raise DrillFailed(f"mails: ledger {len(tried)}, relay {len(held)}: not the same ones")
    if more := [name for name, count in held.items() if count > tried[name]]:
        raise DrillFailed(f"mails that came more often than the ledger says: {more}")
    return len(held), sum(count > 1 for count in held.values())


def _labelled(system: System, transactions: pd.DataFrame) -> None:
    told = system.analyst.told
    if not told:
        return
    labels = _read(system.settings, "labels")
    _each_once(labels["trans_num"], set(told), "verdicts")
    filled = transactions.set_index("trans_num")["label"].dropna().to_dict()
    if filled != told:
        raise DrillFailed(f"labels filled in: {len(filled)}, told: {len(told)}, or otherwise")
