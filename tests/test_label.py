"""Verdicts in the ledger, and filled in beside jobs that change the same table."""

import logging
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs import label_merge
from jobs.label_ledger import LabelLedger
from jobs.tables import arrow_schema
from jobs.verdict_inbox import VerdictInbox
from tests.bank import NOW, Bank
from tests.conftest import payment
from tests.upkeep import commits_of, keep_up


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


def test_the_ledger_is_read_anew_only_where_another_has_changed_it(bank, monkeypatch):
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
    bank.drop("c.csv", (1, "yes", "analyst"), (2, "yes", "analyst"))
    bank.look()
    assert len(reads) == first
    DeltaTable(bank.settings.warehouse.table("labels")).optimize.compact()
    bank.drop("d.csv", (2, "no", "customer"))
    bank.look()
    assert len(reads) == first + 1
    standing = LabelLedger(bank.settings.warehouse).standing()
    assert standing["label"].tolist() == [True, False]
    assert standing["arrival"].tolist() == [2, 3]


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
