import logging
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from conf.lock import Locked, locked
from jobs import label, label_merge
from jobs.label import LabelJob
from jobs.label_ledger import LabelLedger
from jobs.table_log import TableLog
from jobs.tables import arrow_schema, ensure_table
from jobs.verdict_inbox import VerdictInbox
from tests.conftest import payment
from tests.upkeep import commits_of, keep_up
from tests.written_rows import scored_rows, write_file

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Bank:
    """Tables, an inbox and a clock that moves a second with each look."""

    def __init__(self, settings):
        self.settings = settings
        self.inbox = settings.label.inbox
        self.inbox.mkdir()
        self.table = TableLog(ensure_table(settings.warehouse, "transactions"))
        self.now, self.scored = NOW, 0
        self.job = self.started()

    def started(self):
        return LabelJob(self.settings, lambda: self.now)

    def score(self, *positions, **changes):
        self.scored += 1
        self.table.append(
            [write_file(self.table.path, scored_rows(*positions, **changes))], "score", self.scored
        )

    def drop(self, name, *verdicts):
        """Verdicts of (number of the payment, answer, source)."""
        lines = [
            f"{payment(number)['trans_num']},{answer},{source}"
            for number, answer, source in verdicts
        ]
        (self.inbox / name).write_text("\n".join(["trans_num,fraud,source", *lines]) + "\n")

    def look(self):
        self.now += timedelta(seconds=1)
        self.job.look()

    @property
    def ledger(self):
        return (
            DeltaTable(self.settings.warehouse.table("labels"))
            .to_pandas()
            .sort_values(["recorded_at", "line"])
        )

    @property
    def labels(self):
        """By number of the payment: label, source, and when it was labelled, in seconds after the start."""
        rows = DeltaTable(self.table.path).to_pandas().sort_values("position")
        return {
            row.position: None if row.label is None else (row.label, row.label_source, (row.labelled_at - NOW).total_seconds())
            for row in rows.itertuples()
        }  # fmt: skip


@pytest.fixture
def bank(settings):
    return Bank(settings)


def test_verdicts_are_recorded_and_filled_in(bank, caplog):
    caplog.set_level(logging.INFO, "jobs.label")
    bank.score(1, 2, 3)
    before = DeltaTable(bank.table.path).to_pandas()
    bank.drop("monday.csv", (1, "yes", "chargeback"), (3, "no", "analyst"))
    bank.look()
    assert bank.labels == {1: (True, "chargeback", 1), 2: None, 3: (False, "analyst", 1)}
    ledger = bank.ledger
    assert ledger["label"].tolist() == [True, False]
    assert ledger["file"].tolist() == ["monday.csv"] * 2
    assert (ledger["verified_at"] == ledger["recorded_at"]).all()
    assert [path.name for path in (bank.inbox / "taken").iterdir()] == ["monday.csv"]
    assert "monday.csv is taken; new verdicts: 2; what stands already: 0" in caplog.messages
    assert "payments labelled: 2; verdicts that wait: 0" in caplog.messages
    # All that was there before is as it was.
    after = DeltaTable(bank.table.path).to_pandas()
    filled = ["label", "label_source", "labelled_at"]
    pd.testing.assert_frame_equal(
        before.drop(columns=filled),
        after.sort_values("position", ignore_index=True).drop(columns=filled),
    )


def test_a_verdict_before_its_payment_waits_for_it(bank, caplog):
    caplog.set_level(logging.INFO, "jobs.label")
    bank.score(1)
    bank.drop("early.csv", (2, "yes", "chargeback"), (3, "yes", "chargeback"))
    bank.look()
    bank.look()
    assert bank.labels == {1: None}
    assert caplog.messages.count("payments labelled: 0; verdicts that wait: 2") == 1
    bank.score(2)
    bank.look()
    assert bank.labels == {1: None, 2: (True, "chargeback", 1)}
    bank.job = bank.started()
    bank.score(3)
    bank.look()
    assert bank.labels[3] == (True, "chargeback", 1)


def test_a_later_verdict_supersedes_an_earlier_one_and_both_stay_in_the_ledger(bank):
    bank.score(1, 2)
    bank.drop("a.csv", (1, "yes", "customer"), (2, "yes", "customer"), (2, "no", "analyst"))
    bank.look()
    assert bank.labels == {1: (True, "customer", 1), 2: (False, "analyst", 1)}
    bank.drop("b.csv", (1, "no", "analyst"))
    bank.look()
    assert bank.labels[1] == (False, "analyst", 2)
    bank.drop("c.csv", (1, "yes", "customer"))
    bank.look()
    assert bank.labels[1] == (True, "customer", 3)
    assert bank.ledger["label"].tolist() == [True, True, False, False, True]


def test_a_verdict_that_stands_already_is_not_recorded_again(bank):
    bank.score(1)
    for name in ("a.csv", "b.csv"):
        bank.drop(name, (1, "yes", "customer"), (1, "yes", "customer"))
        bank.look()
    assert len(bank.ledger) == 1
    assert bank.labels == {1: (True, "customer", 1)}
    version = DeltaTable(bank.table.path).version()
    bank.job = bank.started()
    bank.look()
    assert DeltaTable(bank.table.path).version() == version


def test_a_file_is_taken_once_though_the_process_dies_before_it_is_moved(bank, monkeypatch):
    bank.score(1)
    bank.drop("b.csv", (1, "yes", "customer"))
    with monkeypatch.context() as patch:
        patch.setattr(VerdictInbox, "_move", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bank.look()
    bank.drop("a.csv", (1, "no", "analyst"))
    bank.job = bank.started()
    bank.look()
    assert bank.ledger["label"].tolist() == [True, False]
    assert bank.labels == {1: (False, "analyst", 2)}
    assert len(list((bank.inbox / "taken").iterdir())) == 2


def test_a_process_that_dies_before_the_merge_is_made_good(bank, monkeypatch):
    bank.score(1)
    bank.drop("b.csv", (1, "yes", "customer"))
    with monkeypatch.context() as patch:
        patch.setattr(label_merge, "merge_labels", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bank.look()
    bank.job = bank.started()
    bank.look()
    assert bank.labels == {1: (True, "customer", 1)}


def test_recorded_times_grow_though_the_clock_jumps_back(bank):
    bank.drop("a.csv", (1, "yes", "customer"))
    bank.look()
    bank.now -= timedelta(hours=1)
    bank.drop("b.csv", (1, "no", "analyst"))
    bank.look()
    standing = LabelLedger(bank.settings.warehouse).standing()
    assert standing["label"].tolist() == [False]
    assert bank.ledger["recorded_at"].is_monotonic_increasing


def test_a_clock_that_was_a_year_ahead_hides_no_later_verdict(bank, caplog):
    bank.score(1, 2)
    bank.drop("a.csv", (1, "no", "bank"), (2, "yes", "bank"))
    bank.look()
    bank.now += timedelta(days=365)
    bank.drop("b.csv", (1, "yes", "bank"), (2, "no", "bank"))
    bank.look()
    assert not caplog.messages
    bank.now -= timedelta(days=365)
    bank.drop("c.csv", (1, "no", "customer"))
    bank.look()
    [told] = caplog.messages
    assert told.startswith(
        "verdicts were recorded as of 2027-03-01T00:00:02+00:00, which is yet to "
    )
    ledger = LabelLedger(bank.settings.warehouse)
    assert ledger.standing()["source"].to_dict() == {
        payment(1)["trans_num"]: "customer", payment(2)["trans_num"]: "bank"
    }  # fmt: skip
    assert ledger.standing(bank.now)["label"].tolist() == [True, False]  # 2 as before the jump
    assert bank.labels == {1: (False, "customer", 3), 2: (False, "bank", 365 * 86_400 + 2)}
    # The same again makes known what the jump hides; nothing else is recorded twice.
    bank.drop("d.csv", (1, "no", "customer"), (2, "no", "bank"))
    bank.look()
    assert len(bank.ledger) == 6
    assert ledger.standing(bank.now)["label"].tolist() == [False, False]
    assert bank.labels == {1: (False, "customer", 3), 2: (False, "bank", 4)}
    assert len(caplog.messages) == 1


def test_a_ledger_without_arrivals_comes_before_all_that_is_taken(bank):
    old = [
        {"trans_num": payment(1)["trans_num"], "label": True, "recorded_at": NOW + days * timedelta(days=1), "line": 2}
        for days in (9, -9)
    ]  # fmt: skip
    path = bank.settings.warehouse.table("labels")
    write_deltalake(path, pa.Table.from_pylist(old, arrow_schema("labels")), mode="append")
    bank.drop("a.csv", (1, "no", "bank"))
    bank.look()
    bank.drop("b.csv", (2, "no", "bank"))
    bank.look()
    assert LabelLedger(bank.settings.warehouse).standing()["label"].tolist() == [False, False]
    assert sorted(bank.ledger["arrival"].dropna()) == [0, 1]


def test_a_malformed_file_is_refused_whole_and_the_others_are_taken(bank, caplog):
    bank.score(1, 2)
    bank.drop("a.csv", (1, "yes", "customer"), (2, "perhaps", "customer"))
    bank.drop("b.csv", (2, "yes", "customer"))
    (bank.inbox / "notes.txt").write_text("no verdicts")
    (bank.inbox / ".c.csv").write_text("half written")
    bank.look()
    assert bank.labels == {1: None, 2: (True, "customer", 1)}
    refused = {path.name: path.read_text() for path in (bank.inbox / "refused").iterdir()}
    assert refused["a.reason.txt"] == "line 3: fraud: expected yes or no, found 'perhaps'\n"
    assert "a.csv" in refused
    bank.look()
    assert caplog.messages == [
        "a.csv is refused: line 3: fraud: expected yes or no, found 'perhaps'",
        "notes.txt is left alone: verdicts are expected in .csv, .jsonl, .json, under names without _ in front",
    ]
    assert {path.name for path in bank.inbox.iterdir()} == {
        "notes.txt",
        ".c.csv",
        "taken",
        "refused",
    }


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_half_a_character_is_refused_and_the_job_goes_on(bank):
    """JSON can tell a lone surrogate, which no table can hold."""
    verdict = f'{{"trans_num": "{payment(1)["trans_num"]}", "fraud": "yes", "source": "s"'
    (bank.inbox / "a.jsonl").write_text(verdict + ', "note": "\\ud83d"}\n')
    (bank.inbox / "b.json").write_text(f"[{verdict}}}]")
    bank.look()
    reason = (bank.inbox / "refused" / "a.reason.txt").read_text()
    assert reason == "line 1: note: expected Unicode, found half a character in '\\ud83d'\n"
    assert bank.ledger["file"].tolist() == ["b.json"]


def test_a_file_whose_name_is_no_utf8_is_taken(bank):
    bank.drop(os.fsdecode(b"M\xe4rz.csv"), (1, "yes", "customer"))
    bank.drop(os.fsdecode(b"Z\xe4hler.csv"), (1, "perhaps", "customer"))
    bank.look()
    assert bank.ledger["file"].tolist() == ["M\\xe4rz.csv"]
    assert len(names_in(bank.inbox / "refused")) == 2


@pytest.mark.parametrize("answer", ["yes", "perhaps"])
@pytest.mark.parametrize("moment", ["read_bytes", "rename"])
def test_a_file_that_vanishes_in_between_is_told_and_the_others_are_taken(
    bank, monkeypatch, caplog, moment, answer
):
    bank.drop("a.csv", (1, answer, "customer"))
    bank.drop("b.csv", (2, "yes", "customer"))
    act = getattr(Path, moment)

    def vanished(path, *arguments):
        if path.name == "a.csv":
            path.unlink()
        return act(path, *arguments)

    monkeypatch.setattr(Path, moment, vanished)
    bank.look()
    bank.look()
    assert names_in(bank.inbox / "taken") == {"b.csv"}
    lost = [line for line in caplog.messages if "cannot be read or moved" in line]
    [told] = lost
    assert told.startswith(
        "a.csv cannot be read or moved, tried again: No such file or directory: "
    )


@pytest.mark.parametrize(("name", "answer"), [("taken", "yes"), ("refused", "perhaps")])
def test_a_file_in_the_place_of_a_folder_is_told_once_and_made_good(bank, caplog, name, answer):
    caplog.set_level(logging.INFO, "jobs.label")
    (bank.inbox / name).write_text("")
    bank.drop("a.csv", (1, answer, "customer"))
    for _ in range(3):
        bank.look()
    told = [line for line in caplog.messages if "cannot be" in line]
    assert told == [f"a.csv cannot be read or moved, tried again: File exists: {bank.inbox / name}"]
    (bank.inbox / name).unlink()
    bank.look()
    assert "a.csv" in names_in(bank.inbox / name)
    assert len(bank.ledger) == (answer == "yes")


def test_the_reason_of_a_file_with_a_long_name_is_kept(bank):
    name = "ä" * 124 + "a.csv"
    assert len(os.fsencode(name)) > 252
    for _ in range(2):
        bank.drop(name, (1, "perhaps", "customer"))
        bank.look()
    refused = names_in(bank.inbox / "refused")
    assert len(refused) == 4
    assert sum(name.endswith(".reason.txt") for name in refused) == 2


def test_reasons_of_files_that_differ_in_their_ends_are_both_kept(bank):
    bank.drop("a.csv", (1, "perhaps", "customer"))
    bank.drop("a.jsonl")
    bank.look()
    assert len(names_in(bank.inbox / "refused")) == 4


def test_an_inbox_that_is_away_is_told_once_and_read_when_it_is_back(bank, caplog):
    bank.drop("a.csv", (1, "yes", "customer"))
    away = bank.inbox.rename(bank.inbox.with_name("away"))
    bank.look()
    bank.look()
    [told] = caplog.messages
    assert told.startswith("verdicts cannot be read, tried again: No such file or directory: ")
    away.rename(bank.inbox)
    bank.look()
    assert len(bank.ledger) == 1


def test_a_name_that_is_never_taken_is_told_once(bank, caplog):
    bank.drop("_a.csv", (1, "yes", "customer"))
    bank.look()
    bank.look()
    [told] = caplog.messages
    assert told.startswith("_a.csv is left alone: verdicts are expected in .csv, .jsonl, .json, ")


def test_files_of_one_name_are_all_kept(bank):
    for answer in ("yes", "no"):
        bank.drop("a.csv", (1, answer, "customer"))
        bank.look()
    assert len(list((bank.inbox / "taken").iterdir())) == 2


def test_payments_that_come_while_labels_are_merged_are_in_nobodys_way(bank, monkeypatch):
    """A commit between the look at the table and the MERGE's own."""
    bank.score(*range(1, 20))
    bank.drop("a.csv", (5, "yes", "customer"))
    merge, tries = label_merge.merge_labels, []

    def interrupted(table, *arguments):
        tries.append(1)
        bank.score(100 + len(tries))
        merge(table, *arguments)

    monkeypatch.setattr(label_merge, "merge_labels", interrupted)
    bank.look()
    assert tries == [1]
    assert bank.labels[5] == (True, "customer", 1)
    assert bank.labels[101] is None


def test_a_merge_that_another_change_defeats_is_tried_again(bank, monkeypatch):
    bank.score(5, 6)
    bank.drop("a.csv", (5, "yes", "customer"))
    merge, tries = label_merge.merge_labels, []

    def interrupted(table, *arguments):
        tries.append(1)
        if len(tries) < 3:
            DeltaTable(bank.table.path).update({"model_version": "'9'"}, predicate="position = 6")
        merge(table, *arguments)

    monkeypatch.setattr(label_merge, "merge_labels", interrupted)
    bank.look()
    assert len(tries) == 3
    assert bank.labels[5] == (True, "customer", 1)


def test_verdicts_are_filled_in_where_files_were_put_together_and_the_log_shortened(bank):
    bank.score(*range(1, 20))
    bank.score(*range(20, 25))
    bank.drop("a.csv", (5, "yes", "customer"), (30, "yes", "customer"), (31, "no", "customer"))
    bank.look()
    bank.score(31)
    keep_up(bank.settings)
    assert commits_of(bank.settings, "transactions")[0] > 0
    bank.score(30)
    bank.drop("b.csv", (6, "no", "customer"), (5, "no", "analyst"))
    bank.look()
    expected = {
        5: (False, "analyst", 2),
        6: (False, "customer", 2),
        30: (True, "customer", 1),
        31: (False, "customer", 1),
    }
    assert {number: told for number, told in bank.labels.items() if told} == expected
    bank.job = bank.started()
    bank.drop("b.csv", (7, "yes", "customer"))
    bank.look()
    assert bank.labels[7] == (True, "customer", 3)
    assert len(bank.labels) == 26


def test_files_put_together_during_a_merge_are_merged_into_at_the_next_try(bank, monkeypatch):
    bank.score(5, 6)
    bank.score(7)
    bank.drop("a.csv", (5, "yes", "customer"))
    merge, tries = label_merge.merge_labels, []

    def interrupted(table, *arguments):
        tries.append(1)
        if len(tries) == 1:
            DeltaTable(bank.table.path).optimize.compact()
        merge(table, *arguments)

    monkeypatch.setattr(label_merge, "merge_labels", interrupted)
    bank.look()
    assert len(tries) == 2
    assert bank.labels == {5: (True, "customer", 1), 6: None, 7: None}


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["label", *arguments])
    return label.main()


def test_one_verdict_from_the_command_line(bank, monkeypatch):
    bank.score(1)
    number = payment(1)["trans_num"]
    run(
        monkeypatch,
        "--trans-num",
        number,
        "--fraud",
        "yes",
        "--source",
        "phone",
        "--note",
        "stolen, he says",
    )
    [row] = bank.ledger.to_dict("records")
    assert (row["label"], row["source"], row["note"]) == (True, "phone", "stolen, he says")
    assert bank.labels[1][:2] == (True, "phone")


def test_a_verdict_beside_a_running_job_is_left_to_it(bank, monkeypatch):
    bank.score(1)
    with locked(bank.inbox):
        run(
            monkeypatch,
            "--trans-num",
            payment(1)["trans_num"],
            "--fraud",
            "no",
            "--source",
            "phone",
        )
        with pytest.raises(SystemExit) as ended:
            run(monkeypatch, "--once")
        assert ended.value.code == 1
    assert bank.labels == {1: None}
    bank.look()
    assert bank.labels[1][:2] == (False, "phone")


def test_one_verdict_without_its_answer_is_refused(bank, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, "--trans-num", "a", "--source", "phone")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: fraud is missing\n"
    assert not list(bank.inbox.iterdir())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--fraud", "yes", "--source", "phone"), "trans_num is missing"),
        (("--note", "stolen"), "trans_num is missing, fraud is missing, source is missing"),
        (
            (
                "--trans-num",
                "a",
                "--fraud",
                "yes",
                "--source",
                "s",
                "--note",
                os.fsdecode(b"b\xff"),
            ),
            "note: expected Unicode, found half a character in 'b\\udcff'",
        ),
    ],
)
def test_one_verdict_that_cannot_be_is_an_error_and_leaves_nothing(
    bank, monkeypatch, capsys, arguments, told
):
    monkeypatch.setattr(label, "run_label", lambda *arguments: 1 / 0)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, *arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {told}\n"
    assert not list(bank.inbox.iterdir())


def test_a_lock_is_free_again_after_its_block(tmp_path):
    for path in (tmp_path, tmp_path / "file"):
        with locked(path), pytest.raises(Locked, match=path.name), locked(path):
            pass
        with locked(path):
            pass


def test_the_ledger_is_read_anew_only_where_it_has_changed(bank, monkeypatch):
    read, reads = DeltaTable.to_pyarrow_table, []
    monkeypatch.setattr(
        DeltaTable,
        "to_pyarrow_table",
        lambda *arguments, **options: (reads.append(1), read(*arguments, **options))[1],
    )
    bank.drop("a.csv", (1, "yes", "customer"))
    bank.look()
    first = len(reads)
    for _ in range(3):
        bank.look()
    assert len(reads) == first
    bank.drop("b.csv", (1, "no", "customer"))
    bank.look()
    assert len(reads) == first + 1
    assert LabelLedger(bank.settings.warehouse).standing()["label"].tolist() == [False]


def test_a_ledger_whose_table_changed_meanwhile_is_appended_to_all_the_same(settings):
    ledger = LabelLedger(settings.warehouse)
    other = DeltaTable(settings.warehouse.table("labels"))
    other.alter.set_table_properties({"delta.logRetentionDuration": "interval 5 days"})
    row = {
        "trans_num": "a",
        "label": True,
        "recorded_at": datetime(2025, 1, 1, tzinfo=UTC),
        "line": 1,
    }
    ledger.append(pa.Table.from_pylist([row], arrow_schema("labels")), "one")
    assert list(ledger.standing()["trans_num"]) == ["a"]
