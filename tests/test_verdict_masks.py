"""Card numbers in files of verdicts, which are masked where there is a key."""

import hashlib
import json

import pytest

from conf.settings import load_settings
from jobs.verdict_masks import masked_file, masked_verdict
from jobs.verdicts import read_verdicts
from tests.bank import NOW, Bank
from tests.conftest import PROJECT, payment
from tests.test_label_files import names_in, run

OTHER = "5500005555555559"
SPACED = "5500 0055 5555 5559"
NUMBER = payment(1)["trans_num"]
HEADER = "trans_num,fraud,source,note"


@pytest.fixture
def bank(environment, monkeypatch):
    monkeypatch.setenv("FRAUD_PAN_KEY", hashlib.sha256(b"a key of these tests").hexdigest())
    return Bank(load_settings(PROJECT / "conf" / "local.toml"))


def kept_in(folder):
    """All that the files under a folder hold."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("name", "text", "masked"),
    [
        ("a.csv", f'{HEADER}\n{OTHER},yes,s,"of {OTHER},\n{SPACED}"\n', f'{HEADER}\n{OTHER},yes,s,"of **** 5559,\n**** 5559"\n'),
        ("a.csv", f"{HEADER},{OTHER}\n", f"{HEADER},**** 5559\n"),
        ("a.csv", f"\ufeff trans_num ,note\n{OTHER},{OTHER}\n", f" trans_num ,note\n{OTHER},**** 5559\n"),
        ("a.csv", f'{HEADER}\n"{OTHER}', f'{HEADER}\n"**** 5559'),
        ("a.csv", f"a\n{SPACED[:9]}\n{SPACED[10:]}\n", None),
        ("a.jsonl", f'{{"trans_num": {OTHER}, "note": "5500\\u20130055\\u20135555\\u20135559"}}\n\n[{OTHER}, 7]\n',
         f'{{"trans_num": {OTHER}, "note": "**** 5559"}}\n\n["**** 5559", 7]\n'),
        ("a.json", f'[{{"trans_num": "a", "pan": {OTHER}}}, {OTHER}]', '[{"trans_num": "a", "pan": "**** 5559"}, "**** 5559"]'),
        ("a.json", f'{{"note": {OTHER}', '{"note": **** 5559'),
        ("a.json", "[" * 100_000 + OTHER, "[" * 100_000 + "**** 5559"),
        ("a.csv", f'\ufeff{HEADER}\r\n"a",yes,s,"2026-03-01 12:00:00"\r\n', None),
        ("a.jsonl", '{"trans_num":  "a"}\r\n', None),
        ("a.csv", "", None),
    ],
)  # fmt: skip
def test_a_file_is_masked_and_otherwise_as_it_was(name, text, masked):
    raw = text.encode()
    assert masked_file(raw, name[1:]) == (raw if masked is None else masked.encode())


def test_bytes_that_are_no_text_stay():
    assert masked_file(f"\xff {OTHER}\n\xfe".encode("latin-1"), ".csv") == b"\xff **** 5559\n\xfe\n"


def test_a_verdict_keeps_the_name_of_its_payment():
    verdict = {"trans_num": OTHER, "label": True, "note": f"{SPACED}!", "verified_at": NOW}
    assert masked_verdict(verdict) == verdict | {"note": "**** 5559!"}


def test_nothing_that_is_kept_of_verdicts_has_a_card_number(bank, caplog):
    caplog.set_level("INFO")
    lines = f"{HEADER}\n{NUMBER},yes,{OTHER},caller gave {SPACED}\n"
    for name in ("a.csv", "b.csv"):  # the second says what stands already
        (bank.inbox / name).write_text(lines)
    (bank.inbox / "c.csv").write_text(f"{HEADER}\n{NUMBER},{OTHER},s,\n")
    verdict = {"trans_num": payment(2)["trans_num"], "fraud": "no", "source": "s", "note": OTHER}
    (bank.inbox / "d.jsonl").write_text(json.dumps(verdict) + "\n")
    bank.look()
    assert bank.ledger["note"].tolist() == ["caller gave **** 5559", "**** 5559"]
    assert bank.ledger["source"].tolist() == ["**** 5559", "s"]
    assert names_in(bank.inbox) == {"taken", "refused"}
    assert names_in(bank.inbox / "taken") == {"a.csv", "b.csv", "d.jsonl"}
    assert names_in(bank.inbox / "refused") == {"c.csv", "c.reason.txt"}
    (kept,) = read_verdicts(bank.inbox / "taken" / "a.csv", NOW)
    assert (kept["trans_num"], kept["note"]) == (NUMBER, "caller gave **** 5559")
    everything = kept_in(bank.inbox.parent) + caplog.text.encode()
    assert b"**** 5559" in everything
    assert OTHER.encode() not in everything.replace(b" ", b"")


def test_a_verdict_by_the_command_is_masked_before_it_is_left_to_the_job(bank, monkeypatch):
    monkeypatch.setattr("jobs.label.run_label", lambda *arguments: None)
    run(monkeypatch, "--trans-num", NUMBER, "--fraud", "yes", "--source", "s", "--note", SPACED)
    (left,) = bank.inbox.iterdir()
    assert left.read_text().splitlines()[1] == f"{NUMBER},yes,s,,**** 5559"


def test_a_file_is_kept_though_the_process_dies_before_the_clear_one_is_gone(bank, monkeypatch):
    (bank.inbox / "a.csv").write_text(f"{HEADER}\n{NUMBER},yes,s,{OTHER}\n")
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            bank.look()
    bank.job = bank.started()
    bank.look()
    assert len(bank.ledger) == 1
    assert OTHER.encode() not in kept_in(bank.inbox)


def test_without_a_key_all_is_kept_as_it_came(settings):
    bank = Bank(settings)
    (bank.inbox / "a.csv").write_text(f"{HEADER}\n{NUMBER},yes,s,{OTHER}\n")
    bank.look()
    assert bank.ledger["note"].tolist() == [OTHER]
    assert OTHER in (bank.inbox / "taken" / "a.csv").read_text()
