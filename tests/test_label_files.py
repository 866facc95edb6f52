"""Files of verdicts in the inbox, and single verdicts by the command: taken, refused, left alone."""

import logging
import os
import sys
from pathlib import Path

import pytest

from conf.lock import Locked, locked
from jobs import label
from tests.bank import Bank
from tests.conftest import payment


@pytest.fixture
def bank(settings):
    return Bank(settings)


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
